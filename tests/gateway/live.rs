//! Without a log: `replay.enabled: false` runs on core NATS alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use async_nats::jetstream;
use futures::TryStreamExt;
use serde_json::json;
use sse_tests::client::{Client, redeem_at_once};
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};

#[tokio::test]
async fn events_come_live_without_ids_and_no_stream_is_made() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"replay": {"enabled": false}, "topics": {"public": [">"]}});
    let one = Gateway::start(&nats, patch.clone()).await?;
    let two = Gateway::start(&nats, patch).await?;
    let alice = one.client("acme", "alice");
    let mut first = alice.open_with("&topics=news").await?;
    let mut second = two.client("acme", "alice").open_bearer("?heartbeat=event", &[]).await?;
    let publisher = nats.publisher().await?;
    for (subject, data) in [
        ("sse.acme.user.alice", "hers"),
        ("sse.acme.topic.news", "news"),
        ("sse.other.all", "theirs"),
        ("sse.acme.user.al%69ce", "another spelling"),
        ("sse.acme.all", "end"),
    ] {
        publisher.client.publish(subject, data.into()).await?;
    }
    assert_eq!(first.until("end").await?, ["hers", "news", "end"]);
    assert_eq!(second.until("end").await?, ["hers", "end"]);
    publisher.client.publish("sse-ctl.acme.all", json!({"op": "ping"}).to_string().into()).await?;
    let beat = second.event().await?;
    ensure!((beat.name.as_str(), beat.id.as_str()) == ("heartbeat", ""), "{beat:?}");
    ensure!(!String::from_utf8_lossy(&first.raw).contains("id:"), "a place, where there is no log");
    // No place was ever given out, so none can be come back to; and none is the end of a stream.
    for cursor in ["0a1b2c3d-7", "0a1b2c3d-7-end"] {
        let reset = alice.open(cursor).await?.event().await?;
        ensure!(reset.data == r#"{"reason":"invalid"}"#, "{reset:?}");
    }
    let status = one.status().await?;
    ensure!(status["replay"] == false && status["stream"].is_null(), "{status}");
    let names: Vec<String> = jetstream::new(publisher.client.clone()).stream_names().try_collect().await?;
    ensure!(names.is_empty(), "{names:?}");
    Ok(())
}

#[tokio::test]
async fn a_token_is_redeemed_once_on_whichever_pod() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"replay": {"enabled": false}});
    let gateways = [Gateway::start(&nats, patch.clone()).await?, Gateway::start(&nats, patch).await?];
    let client = gateways[0].client("acme", "alice");
    for _ in 0..3 {
        let token = client.token().await?;
        let racers: Vec<Client> = (0..20)
            .map(|i: usize| Client { gateway: gateways[i % 2].address.into(), ..client.clone() })
            .collect();
        // Whoever wins gets a stream, which is closed at once; the others are refused.
        let path = format!("/api/v1/sse/stream?token={token}");
        let race = racers.iter().map(|racer| racer.open_at(&path));
        let won = futures::future::join_all(race).await.iter().filter(|answer| answer.is_ok()).count();
        ensure!(won == 1, "{won} won");
    }
    ensure!(redeem_at_once(vec![client.clone()], &"0".repeat(32)).await? == [401]);
    Ok(())
}

#[tokio::test]
async fn open_streams_stay_while_nats_is_away_and_are_told_of_the_gap() -> Result<()> {
    let mut nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"replay": {"enabled": false}})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    nats.kill().await?;
    eventually("handshakes refused", Duration::from_secs(10), || async {
        let answer = gateway.client("acme", "bob").ask_token().await?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(())
    })
    .await?;
    nats.restart().await?;
    let reset = stream.event().await?;
    ensure!((reset.name.as_str(), reset.data.as_str()) == ("reset", r#"{"reason":"epoch"}"#), "{reset:?}");
    let publisher = nats.publisher().await?;
    publisher.client.publish("sse.acme.all", "after".into()).await?;
    ensure!(stream.event().await?.data == "after");
    Ok(())
}
