//! What the gateway keeps of its memory, and what it gives back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::nats::Nats;
use sse_tests::process::Gateway;
use sse_tests::{eventually, proc};

/// Bytes of what comes between two events.
const BETWEEN: usize = 60_000;
/// So many of either.
const EVENTS: usize = 1_000;

#[tokio::test]
async fn the_kernel_makes_no_huge_pages_of_what_the_gateway_gave_back() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let id = gateway.id().context("the gateway")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    // A kernel that has none does not tell.
    let enabled = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    ensure!(enabled.is_none_or(|enabled| enabled.trim() == "0"), "{status}");
    Ok(())
}

#[tokio::test]
async fn an_event_in_memory_keeps_nothing_of_what_came_before_it() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"limits": {"maxPayloadBytes": BETWEEN}})).await?;
    let publisher = nats.publisher().await?;
    let id = gateway.id().context("the gateway")?;
    let between = "x".repeat(BETWEEN);
    let before = proc::memory(id)?;
    let mut last = 0;
    for _ in 0..EVENTS {
        // Nobody's event, which is not kept, on the same connection.
        publisher.publish("sse._sys.test", &between).await?;
        last = publisher.publish("sse.acme.user.alice", "x").await?;
    }
    eventually("everything came", Duration::from_secs(10), || async {
        let head = gateway.status().await?["stream"]["head"].as_u64().context("a sequence")?;
        ensure!(head >= last, "{head}");
        Ok(())
    })
    .await?;
    let grown = proc::memory(id)?.saturating_sub(before);
    ensure!(grown < EVENTS * BETWEEN / 2, "{grown} bytes");
    Ok(())
}
