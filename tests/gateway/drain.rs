//! The end of a pod: unready, then every stream is told when to come back and ends between frames.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};

#[tokio::test]
async fn sigterm_ends_every_stream_cleanly_within_the_window() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({"drain": {"windowSeconds": 3}})).await?;
    let mut streams = Vec::new();
    for user in 0..20 {
        streams.push(gateway.client("acme", &format!("user-{user}")).open("").await?);
    }
    gateway.terminate()?;
    eventually("unready", Duration::from_secs(2), || async {
        ensure!(gateway.get("/readyz").await?.0 == 503);
        Ok(())
    })
    .await?;
    // Endpoints still lead here for a moment: such a client is served, as EventSource gives up at a 503.
    streams.push(gateway.client("acme", "latecomer").open("").await?);
    eventually("handshakes refused", Duration::from_secs(5), || async {
        let answer = gateway.client("acme", "uninvited").ask_token().await?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(())
    })
    .await?;
    // A stream that is not ended yet still delivers.
    nats.publisher().await?.publish("sse.acme.all", "still here").await?;
    let mut delivered = 0;
    for stream in &mut streams {
        while let Some(event) = stream.next(Duration::from_secs(10)).await? {
            delivered += usize::from(event.data == "still here");
        }
        ensure!(stream.ended_cleanly == Some(true), "cut off");
        ensure!(stream.retry.is_some_and(|ms| (500..=1500).contains(&ms)), "{:?}", stream.retry);
    }
    ensure!(delivered > 0, "nothing was delivered while draining");
    ensure!(gateway.exit_code(Duration::from_secs(10)).await? == 0);
    Ok(())
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({"drain": {"windowSeconds": 600}})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    gateway.terminate()?;
    eventually("draining", Duration::from_secs(2), || async {
        ensure!(gateway.get("/readyz").await?.0 == 503);
        Ok(())
    })
    .await?;
    gateway.terminate()?;
    ensure!(gateway.exit_code(Duration::from_secs(10)).await? == 0);
    stream.to_end(Duration::from_secs(1)).await
}
