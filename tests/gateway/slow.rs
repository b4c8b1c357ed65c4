//! Clients that are as slow as they can be, by `slowhttptest`: heads and bodies that come in drops, and streams that are
//! read in drops. They are let go of while others are served, and the memory stays bounded.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::jwt::jwt_with;
use sse_tests::process::Gateway;
use sse_tests::{eventually, proc};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::floods::served_with;

/// Of each kind, which all come within a second.
const CONNECTIONS: usize = 300;
const COUNT: &str = "300";
/// Seconds that an attack goes on if it is let.
const LONG: &str = "25";
/// What it says when none of its connections is left, which it reads to their ends.
const LEFT_ALONE: &str = "No open connections left";
const PATIENCE: Duration = Duration::from_secs(20);
/// Sockets that come and go beside: those of NATS, of the admin port, and of the probe.
const FEW: usize = 10;

/// Attacks a path, and answers what the tool said.
async fn slowhttptest(address: SocketAddr, path: &str, more: &[&str]) -> Result<String> {
    let mut command = Command::new("slowhttptest");
    command.args(["-c", COUNT, "-r", COUNT, "-v", "1", "-p", "5", "-u", &format!("http://{address}{path}")]);
    let output = timeout(Duration::from_mins(1), command.args(more).kill_on_drop(true).output()).await;
    let output =
        output.context("it does not end")?.context("no slowhttptest: run tests/cluster/packages.sh tests")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Attacks until it is over, and answers how often: an attack may end before enough was served under it.
async fn again(over: &CancellationToken, mut attack: impl AsyncFnMut() -> Result<()>) -> Result<usize> {
    let mut times = 0;
    while !over.is_cancelled() {
        attack().await?;
        times += 1;
    }
    Ok(times)
}

async fn let_go(gateway: &Gateway, before: usize) -> Result<()> {
    eventually("the attackers' sockets to be closed", PATIENCE, || async {
        let open = proc::sockets(gateway.id()?)?;
        ensure!(open < before + FEW, "{open} sockets, {before} before");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_that_come_in_drops_end_and_keep_nobody_out() -> Result<()> {
    let patch = json!({"publish": {"enabled": true}, "auth": {"modes": ["Token", "Bearer", "Cookie"]}});
    // Longer than an attack takes to its height.
    let served = served_with(patch, &["--head-timeout", "6", "--idle-timeout", "6"]).await?;
    let (address, before) = (served.gateway.address, proc::sockets(served.gateway.id()?)?);
    let jwt = jwt_with("acme", "mallory", json!({"publish": [">"]}));
    let (cookie, drops) = (format!("access_token={jwt}"), ["-i", "1", "-x", "10", "-l", LONG]);
    let attacks = served
        .during(async |over| {
            let head = [&["-H"][..], &drops].concat();
            let body = [&["-B", "-t", "POST", "-s", "10000", "-j", &cookie][..], &drops].concat();
            again(over, async || {
                let (heads, bodies) = tokio::try_join!(
                    slowhttptest(address, "/nothing", &head),
                    slowhttptest(address, "/api/v1/sse/events?subject=all", &body),
                )?;
                ensure!(heads.contains(LEFT_ALONE), "{heads}");
                ensure!(bodies.contains(LEFT_ALONE), "{bodies}");
                Ok(())
            })
            .await
        })
        .await?;
    let_go(&served.gateway, before).await?;
    let metrics = served.gateway.get("/metrics").await?.1;
    let refused = attacks * CONNECTIONS;
    let late = format!("sse_server_publishes_total{{result=\"refused\"}} {refused}\n");
    ensure!(metrics.contains(&late), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_read_in_drops_end_and_cost_little() -> Result<()> {
    let patch = json!({
        "limits": {"writeTimeoutSeconds": 6, "maxConnectionsPerUser": CONNECTIONS + 10},
        "auth": {"modes": ["Token", "Bearer", "Cookie"]},
    });
    let served = served_with(patch, &[]).await?;
    let (address, before) = (served.gateway.address, proc::sockets(served.gateway.id()?)?);
    // More than the kernel takes for somebody who reads nothing.
    let event = "x".repeat(16_000);
    for _ in 0..100 {
        served.publisher.publish("sse.acme.user.mallory", &event).await?;
    }
    let epoch = served.gateway.status().await?["stream"]["epoch"].as_str().context("an epoch")?.to_owned();
    let path = format!("/api/v1/sse/stream?lastEventId={epoch}-0");
    let cookie = format!("access_token={}", jwt_with("acme", "mallory", json!({})));
    let attacks = served
        .during(async |over| {
            // A byte a second, from a window of a few.
            let drops = ["-X", "-w", "1", "-y", "4", "-n", "1", "-z", "1", "-l", "15", "-j", &cookie];
            again(over, async || slowhttptest(address, &path, &drops).await.map(drop)).await
        })
        .await?;
    let_go(&served.gateway, before).await?;
    let metrics = served.gateway.get("/metrics").await?.1;
    let cut = attacks * CONNECTIONS;
    let ended = format!("sse_server_connection_duration_seconds_count{{reason=\"write_timeout\"}} {cut}\n");
    ensure!(metrics.contains(&ended), "{metrics}");
    Ok(())
}
