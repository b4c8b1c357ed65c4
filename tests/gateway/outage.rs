//! What is killed and lost: nats-server, a gateway, live messages, the stream itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::json;
use sse_tests::eventually;
use sse_tests::nats::heard_and_mute;
use sse_tests::process::{Gateway, Nats};

#[tokio::test]
async fn nothing_acknowledged_is_lost_while_nats_is_killed_under_open_streams() -> Result<()> {
    let mut nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let publisher = nats.publisher().await?;
    let publishing = tokio::spawn(async move {
        for i in 0..2000 {
            publisher.insist("sse.acme.user.alice", &format!("acme:{i}"), &i.to_string()).await?;
        }
        anyhow::Ok(())
    });
    let mut seen = Vec::new();
    for kill_at in [200, 900] {
        while seen.len() < kill_at {
            seen.push(stream.event().await?.data);
        }
        nats.kill().await?;
        eventually("handshakes refused", Duration::from_secs(10), || async {
            let answer = gateway.client("acme", "bob").ask_token().await?;
            ensure!(answer.status == 503 && answer.headers.contains_key("retry-after"), "{answer:?}");
            Ok(())
        })
        .await?;
        let nats_status = gateway.status().await?["nats"].clone();
        ensure!(nats_status["connected"] == false && nats_status["lastError"].is_string(), "{nats_status}");
        // An outage of NATS takes no pod out of the service.
        ensure!(gateway.get("/readyz").await?.0 == 200, "not ready");
        nats.restart().await?;
    }
    while seen.len() < 2000 {
        seen.push(stream.next(Duration::from_secs(30)).await?.expect("an open stream").data);
    }
    publishing.await??;
    let expected: Vec<String> = (0..2000).map(|i| i.to_string()).collect();
    ensure!(seen == expected, "{:?}", seen.iter().zip(&expected).find(|(a, b)| a != b));
    Ok(())
}

#[tokio::test]
async fn a_client_of_a_killed_gateway_misses_nothing_on_another() -> Result<()> {
    let nats = Nats::start().await?;
    let mut one = Gateway::start(&nats, json!({})).await?;
    let two = Gateway::start(&nats, json!({})).await?;
    let publisher = nats.publisher().await?;
    let mut stream = one.client("acme", "alice").open("").await?;
    publisher.publish("sse.acme.user.alice", "before").await?;
    stream.until("before").await?;
    one.kill().await?;
    for i in 0..100 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
    }
    let mut stream = two.client("acme", "alice").open(&stream.last_id).await?;
    let expected: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    ensure!(stream.until("99").await? == expected);
    Ok(())
}

#[tokio::test]
async fn lost_live_messages_are_repaired_also_the_last_before_a_silence() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let publisher = nats.publisher().await?;
    let jetstream = &publisher.jetstream;
    let (heard, mute) = heard_and_mute(jetstream).await?;
    let mut expected = Vec::new();
    for round in 0..3 {
        jetstream.update_stream(mute.clone()).await?;
        for i in 0..5 {
            expected.push(format!("lost {round} {i}"));
            publisher.publish("sse.acme.user.alice", &expected[expected.len() - 1]).await?;
        }
        if round == 2 {
            break; // nothing follows
        }
        jetstream.update_stream(heard.clone()).await?;
        expected.push(format!("heard {round}"));
        publisher.publish("sse.acme.user.alice", &expected[expected.len() - 1]).await?;
    }
    let last = &expected[expected.len() - 1];
    ensure!(stream.until(last).await? == expected, "order or loss");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_was_deleted_is_made_anew_and_open_streams_are_told() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    let publisher = nats.publisher().await?;
    publisher.publish("sse.acme.user.alice", "old").await?;
    let old = stream.event().await?;
    publisher.jetstream.delete_stream("SSE_sse").await?;
    let reset = stream.event().await?;
    ensure!((reset.name.as_str(), reset.data.as_str()) == ("reset", r#"{"reason":"epoch"}"#), "{reset:?}");
    publisher.publish("sse.acme.user.alice", "new").await?;
    let new = stream.event().await?;
    ensure!(new.data == "new" && new.id.split('-').next() != old.id.split('-').next(), "{old:?} {new:?}");
    let reset = client.open(&old.id).await?.event().await?;
    ensure!(reset.data == r#"{"reason":"epoch"}"#, "{reset:?}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_starts_while_nats_is_away_and_becomes_ready_when_it_comes() -> Result<()> {
    let mut nats = Nats::start().await?;
    nats.kill().await?;
    let gateway = Gateway::start_unready(&nats, "tests/gateway", json!({}))?;
    eventually("liveness", Duration::from_secs(10), || async {
        ensure!(gateway.get("/livez").await?.0 == 200);
        Ok(())
    })
    .await?;
    let (status, why) = gateway.get("/readyz").await?;
    ensure!(status == 503 && why.contains("NATS"), "{status} {why}");
    let answer = gateway.client("acme", "alice").ask_token().await?;
    ensure!(answer.status == 503, "{answer:?}");
    nats.restart().await?;
    gateway.ready().await
}

#[tokio::test]
async fn a_second_gateway_on_an_owned_stream_says_so() -> Result<()> {
    let nats = Nats::start().await?;
    let _owner = Gateway::start(&nats, json!({})).await?;
    let other = Gateway::start_unready(&nats, "tests/other", json!({}))?;
    eventually("StreamOwned", Duration::from_secs(10), || async {
        let problem = other.status().await?["problems"][0].clone();
        ensure!(problem["reason"] == "StreamOwned", "{problem}");
        ensure!(problem["message"].as_str().is_some_and(|text| text.contains("tests/gateway")), "{problem}");
        Ok(())
    })
    .await?;
    let client = other.client("acme", "alice");
    let bearer = format!("Bearer {}", client.jwt);
    let answer = client.request(Method::GET, "/api/v1/sse/stream", &[("authorization", &bearer)]).await?;
    ensure!(answer.status == 503, "{answer:?}");
    Ok(())
}
