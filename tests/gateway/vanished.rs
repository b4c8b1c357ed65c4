//! Clients whose network vanishes: no goodbye, no reset, and nobody who would say that they can not be reached.
//!
//! The test runs in a network of its own, where the packets of a port can be dropped to nobody's harm: the machine's
//! firewall is not touched, and what was set up goes with the process.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::h2::Http2;
use sse_tests::process::{Gateway, Nats};
use sse_tests::{eventually, proc};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

/// Set for the process within.
const WITHIN: &str = "SSE_TEST_WITHIN_ITS_NETWORK";
const NAME: &str = "vanished::clients_whose_network_is_gone_end_long_before_the_kernel_gives_up";
/// Seconds; what is sent must be acknowledged within twice that.
const WRITE_TIMEOUT: u64 = 2;
/// On a busy machine. The kernel alone would try for a quarter of an hour, and the pings of HTTP/2 take 50 seconds.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn clients_whose_network_is_gone_end_long_before_the_kernel_gives_up() -> Result<()> {
    if std::env::var_os(WITHIN).is_none() {
        return within_a_network().await;
    }
    run("ip", &["link", "set", "lo", "up"]).await?;
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"limits": {"writeTimeoutSeconds": WRITE_TIMEOUT}})).await?;
    let (publisher, before) = (nats.publisher().await?, proc::sockets(gateway.id()?)?);
    let alice = gateway.client("acme", "alice");
    let mut first = alice.open("").await?;
    let mut http2 = Http2::connect(gateway.address).await?;
    let second = http2.open(&alice.jwt).await?;
    publisher.publish("sse.acme.user.alice", "seen").await?;
    ensure!(first.event().await?.data == "seen");

    let port = gateway.address.port().to_string();
    for side in ["--sport", "--dport"] {
        run("iptables", &["-A", "INPUT", "-p", "tcp", side, &port, "-j", "DROP"]).await?;
    }
    publisher.publish("sse.acme.user.alice", "missed").await?;
    let begun = Instant::now();
    eventually("the streams of both to end", PATIENCE, || async {
        let open = &gateway.status().await?["connections"];
        ensure!(*open == 0, "{open}");
        Ok(())
    })
    .await?;
    let lived = begun.elapsed();
    println!("gone after {lived:.1?}");
    // Whoever is away for a moment stays.
    ensure!(lived > Duration::from_secs(WRITE_TIMEOUT), "{lived:?}");
    eventually("their sockets to be closed", PATIENCE, || async {
        let open = proc::sockets(gateway.id()?)?;
        ensure!(open <= before, "{open} sockets, {before} before");
        Ok(())
    })
    .await?;

    run("iptables", &["-F", "INPUT"]).await?;
    let mut again = alice.open(&first.last_id).await?;
    ensure!(again.until("missed").await? == ["missed"]);
    drop((second, http2));
    Ok(())
}

/// Runs this test once more, in a process that has nothing but loopback.
async fn within_a_network() -> Result<()> {
    let root = run("id", &["-u"]).await?.trim() == "0";
    let user: &[&str] = if root { &[] } else { &["--map-root-user"] };
    let mut command = Command::new("unshare");
    command.args(user).args(["--net", "--"]).arg(std::env::current_exe()?);
    command.args(["--exact", NAME, "--nocapture"]).env(WITHIN, "1").kill_on_drop(true);
    let output = timeout(Duration::from_mins(2), command.output()).await.context("it does not end")?;
    let output = output.context("no unshare of util-linux")?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    ensure!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
    Ok(())
}

async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    // Tools of the system, which a user's PATH may lack.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).output().await;
    let output = output.with_context(|| format!("no {program}: run tests/cluster/packages.sh"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
