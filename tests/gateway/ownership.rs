//! Who may change the stream: its owner, and never back to what an older generation wanted.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::nats::Nats;
use sse_tests::process::Gateway;

#[tokio::test]
async fn a_pod_of_an_older_generation_leaves_the_stream_as_the_newer_one_wants_it() -> Result<()> {
    let nats = Nats::start().await?;
    let publisher = nats.publisher().await?;
    let age = async || {
        let stream = publisher.jetstream.get_stream("SSE_sse").await?;
        let config = stream.cached_info().config.clone();
        anyhow::Ok((config.max_age.as_secs(), config.metadata.get("generation").cloned()))
    };
    let spec = |seconds: u64| json!({"nats": {"stream": {"maxAgeSeconds": seconds}}});
    let mut old = Gateway::start(&nats, spec(1000)).await?;
    ensure!(age().await? == (1000, Some("0".into())), "{:?}", age().await?);
    let mut new = Gateway::start_unready(&nats, "tests/gateway", spec(2000))?;
    new.kill().await?;
    new.generation = 2;
    new.restart()?;
    new.ready().await?;
    ensure!(age().await? == (2000, Some("2".into())), "{:?}", age().await?);
    // The old one is started again, as in the middle of a rollout.
    old.kill().await?;
    old.generation = 1;
    old.restart()?;
    old.ready().await?;
    ensure!(age().await? == (2000, Some("2".into())), "{:?}", age().await?);
    let mut stream = old.client("acme", "alice").open("").await?;
    publisher.publish("sse.acme.all", "served by both").await?;
    ensure!(stream.event().await?.data == "served by both");
    // And one that another generation follows gives way.
    old.kill().await?;
    old.generation = 3;
    old.restart()?;
    old.ready().await?;
    ensure!(age().await? == (1000, Some("3".into())), "{:?}", age().await?);
    Ok(())
}

#[tokio::test]
async fn a_log_that_nats_has_no_room_for_names_the_field_and_what_to_do() -> Result<()> {
    let small =
        "accounts { A { jetstream: {max_file: 64M}, users: [{user: a, password: a}] } }\nno_auth_user: a";
    let nats = Nats::start_with(small).await?;
    let gateway = Gateway::start_unready(&nats, "tests/gateway", json!({}))?;
    eventually("no room", Duration::from_secs(10), || async {
        let problem = gateway.status().await?["problems"][0].clone();
        let message = problem["message"].as_str().unwrap_or_default();
        ensure!(problem["reason"] == "StreamError", "{problem}");
        ensure!(message.starts_with("nats.stream.maxBytes: "), "{problem}");
        ensure!(message.contains("max_file_store"), "{problem}");
        Ok(())
    })
    .await?;
    let _fits = Gateway::start(&nats, json!({"nats": {"stream": {"maxBytes": 16 << 20}}})).await?;
    Ok(())
}
