//! Leaf nodes of NATS: servers elsewhere, which publishers or gateways are near to, and which keep nothing themselves.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sse_tests::eventually;
use sse_tests::nats::Nats;
use sse_tests::process::{Gateway, free_port};

#[tokio::test]
async fn what_is_published_at_a_leaf_is_acknowledged_and_reaches_gateways_at_the_hub_and_at_a_leaf()
-> Result<()> {
    let port = free_port()?;
    let hub = Nats::start_with(&format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}")).await?;
    let remote = format!("leafnodes {{ remotes: [{{ url: \"nats-leaf://127.0.0.1:{port}\" }}] }}");
    let leaf = Nats::start_with(&format!("jetstream: disabled\n{remote}")).await?;
    let near = Gateway::start(&hub, json!({})).await?;
    let unmanaged = json!({"nats": {"stream": {"managed": false}}});
    let far = Gateway::start_unready(&leaf, "default/far", unmanaged)?;
    far.ready().await?;

    let mut streams = Vec::new();
    for gateway in [&near, &far] {
        streams.push(gateway.client("acme", "alice").open("").await?);
    }
    let publisher = leaf.publisher().await?;
    let sequence = eventually("the way from the leaf to the log", Duration::from_secs(10), || async {
        publisher.publish("sse.acme.user.alice", "from afar").await
    });
    sequence.await?;
    for stream in &mut streams {
        stream.until("from afar").await?;
    }
    // Replay is read through the leaf, too.
    let cursor = streams[1].last_id.clone();
    publisher.publish("sse.acme.user.alice", "missed").await?;
    far.client("acme", "alice").open(&cursor).await?.until("missed").await.map(drop)
}
