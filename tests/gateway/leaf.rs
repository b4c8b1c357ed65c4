//! Leaf nodes of NATS: servers near to publishers, which keep nothing themselves.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sse_tests::eventually;
use sse_tests::nats::Nats;
use sse_tests::process::{Gateway, free_port};

#[tokio::test]
async fn what_is_published_at_a_leaf_is_acknowledged_by_the_log_and_delivered() -> Result<()> {
    let port = free_port()?;
    let hub = Nats::start_with(&format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}")).await?;
    let remote = format!("leafnodes {{ remotes: [{{ url: \"nats-leaf://127.0.0.1:{port}\" }}] }}");
    let leaf = Nats::start_with(&format!("jetstream: disabled\n{remote}")).await?;
    let gateway = Gateway::start(&hub, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;

    let publisher = leaf.publisher().await?;
    eventually("the way from the leaf to the log", Duration::from_secs(10), || async {
        publisher.publish("sse.acme.user.alice", "from afar").await.map(drop)
    })
    .await?;
    stream.until("from afar").await.map(drop)
}
