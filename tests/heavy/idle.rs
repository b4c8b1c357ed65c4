//! Ten thousand connections that ask for nothing: they cost little and keep nobody out, all the while that they are there; and
//! they go when their time is over.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::proc::{memory, sockets};
use sse_tests::process::{Gateway, Nats};
use sse_tests::raw::{Raw, Shape};
use tokio::net::TcpStream;
use tokio::time::Instant;

const IDLE: usize = 10_000;
const OTHERS: usize = 500;
const AT_ONCE: usize = 64;
/// Sockets that come and go beside: those of NATS and of the admin port.
const FEW: usize = 20;
/// Seconds that they stay: in which the others have to be served, beside them.
const HEAD: &str = "40";
const EACH: usize = 10 << 10;
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_cost_little_and_keep_nobody_out() -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let nats = Nats::start().await?;
    let patch = json!({"logging": {"level": "info"}});
    let gateway = Gateway::start_with(&nats, patch, &["--head-timeout", HEAD]).await?;
    let (id, publisher) = (gateway.id()?, nats.publisher().await?);
    let (before, files, begun) = (memory(id)?, sockets(id)?, Instant::now());
    let idle = (0..IDLE).map(|_| TcpStream::connect(gateway.address));
    let idle: Vec<TcpStream> = stream::iter(idle).buffer_unordered(AT_ONCE).try_collect().await?;
    eventually("all to be accepted", PATIENCE, || async {
        let open = sockets(id)?;
        ensure!(open + FEW > files + IDLE, "{open}");
        Ok(())
    })
    .await?;
    let (opened, grown) = (begun.elapsed(), memory(id)?.saturating_sub(before));
    let open = |user: usize| {
        let address = gateway.address;
        async move {
            let mut raw =
                Raw::open(address, &jwt("acme", &format!("user-{user}")), "", Shape::default()).await?;
            raw.opened().await?;
            anyhow::Ok(raw)
        }
    };
    let others = stream::iter((0..OTHERS).map(open)).buffer_unordered(AT_ONCE);
    let mut others: Vec<Raw> = others.try_collect().await?;
    let served = begun.elapsed().saturating_sub(opened);
    publisher.publish("sse.acme.all", "event").await?;
    for raw in &mut others {
        ensure!(raw.next(PATIENCE).await?.context("ended")?.data == "event");
    }
    let open = sockets(id)?;
    ensure!(open + FEW > files + IDLE + OTHERS, "{open} are left {:.1?} after the first", begun.elapsed());
    println!(
        "idle: {IDLE} connections in {opened:.1?}, {} bytes for each; {OTHERS} streams beside them in {served:.1?}",
        grown / IDLE
    );
    ensure!(grown < IDLE * EACH, "{grown} bytes more");
    eventually("the idle to go", PATIENCE, || async {
        let open = sockets(id)?;
        ensure!(open < files + OTHERS + FEW, "{open}");
        Ok(())
    })
    .await?;
    publisher.publish("sse.acme.all", "another").await?;
    for raw in &mut others {
        ensure!(raw.next(PATIENCE).await?.context("ended")?.data == "another");
    }
    drop(idle);
    Ok(())
}
