//! A log in memory, which a cluster brings back empty under its old name.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::nats::Nats;
use sse_tests::process::Gateway;

#[tokio::test]
async fn what_was_lost_while_no_gateway_ran_is_told() -> Result<()> {
    let mut servers = Nats::start_three().await?;
    let urls: Vec<String> = servers.iter().map(Nats::url).collect();
    let patch = json!({"nats": {"url": urls.join(","), "stream": {"storage": "Memory"}}});
    let mut gateway = Gateway::start(&servers[0], patch).await?;
    let client = gateway.client("acme", "alice");
    let publisher = sse_tests::publisher::Publisher::connect(&urls.join(",")).await?;
    let mut stream = client.open("").await?;
    for i in 0..20 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
    }
    stream.until("19").await?;
    // A gateway that starts notes how far the log has come.
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    eventually("the place in the stream's metadata", Duration::from_secs(10), || async {
        let info = publisher.jetstream.get_stream("SSE_sse").await?.cached_info().clone();
        let head = info.config.metadata.get("head").and_then(|head| head.parse::<u64>().ok());
        ensure!(head.is_some_and(|head| head > 20), "{head:?}");
        Ok(())
    })
    .await?;
    gateway.kill().await?;
    for server in &mut servers {
        server.kill().await?;
    }
    for server in &mut servers {
        server.restart().await?;
    }
    publisher.insist("sse.acme.user.alice", "acme:new", "new").await?;
    let info = publisher.jetstream.get_stream("SSE_sse").await?.cached_info().clone();
    ensure!(info.state.last_sequence < 20 && info.config.metadata.contains_key("head"), "{info:?}");
    gateway.restart()?;
    gateway.ready().await?;
    let reset = client.open(&stream.last_id).await?.event().await?;
    ensure!((reset.name.as_str(), reset.data.as_str()) == ("reset", r#"{"reason":"epoch"}"#), "{reset:?}");
    Ok(())
}
