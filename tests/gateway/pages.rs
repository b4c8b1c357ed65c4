//! What the gateway keeps of its memory, and what it gives back.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::nats::Nats;
use sse_tests::process::Gateway;

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
