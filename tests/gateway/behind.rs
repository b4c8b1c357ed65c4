//! A pod whose feed is behind another's: its clients wait for it, and are not refused.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::process::{Gateway, Nats};
use sse_tests::proxy::Proxy;

#[tokio::test]
async fn a_cursor_of_another_pod_is_good_however_long_this_one_hears_nothing() -> Result<()> {
    let nats = Nats::start().await?;
    let line = Proxy::start(nats.address()).await?;
    let one = Gateway::start(&nats, json!({})).await?;
    let two = Gateway::start_at(&format!("nats://{}", line.address), "tests/gateway", json!({}))?;
    two.ready().await?;
    let publisher = nats.publisher().await?;
    let mut stream = one.client("acme", "alice").open("").await?;
    line.hold();
    publisher.publish("sse.acme.user.alice", "seen on one").await?;
    stream.until("seen on one").await?;
    let headers = [("last-event-id", stream.last_id.as_str())];
    let mut moved = two.client("acme", "alice").open_bearer("", &headers).await?;
    publisher.publish("sse.acme.user.alice", "missed").await?;
    // Longer than a forged cursor is waited for, and shorter than a dead connection is noticed.
    let early = moved.next(Duration::from_secs(7)).await;
    ensure!(early.is_err(), "{early:?}");
    line.open();
    ensure!(moved.event().await?.data == "missed");
    Ok(())
}
