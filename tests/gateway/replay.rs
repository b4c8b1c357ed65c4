//! Coming back: with a good cursor nothing is missed and nothing comes twice; with another, the
//! client is told.

use anyhow::Result;
use rand::RngExt;
use serde_json::json;
use sse_tests::process::{Gateway, Nats};

const EVENTS: usize = 3000;

#[tokio::test]
async fn at_whatever_event_a_client_leaves_it_comes_back_to_the_next() -> Result<()> {
    let nats = Nats::start().await?;
    let mut pods = [Gateway::start(&nats, json!({})).await?, Gateway::start(&nats, json!({})).await?];
    let publisher = nats.publisher().await?;
    let publishing = tokio::spawn(async move {
        for i in 0..EVENTS {
            // Others' events lie between: the cursor must pass over them.
            publisher
                .publish(
                    &format!("sse.acme.user.{}", if i % 3 == 0 { "bob" } else { "alice" }),
                    &i.to_string(),
                )
                .await?;
        }
        anyhow::Ok(())
    });
    let expected: Vec<String> = (0..EVENTS).filter(|i| i % 3 != 0).map(|i| i.to_string()).collect();
    let (mut seen, mut cursor, mut rounds) = (Vec::new(), String::new(), 0);
    // The first stream must be open before the first event: a client without a cursor begins now.
    let first = format!("{}-1", pods[0].status().await?["stream"]["epoch"].as_str().expect("an epoch"));
    cursor.push_str(&first);
    while seen.len() < expected.len() {
        rounds += 1;
        let pod = rounds % 2;
        if rounds == 4 {
            // A pod whose ring is empty has to read the log.
            pods[0].kill().await?;
            pods[0].restart()?;
            pods[0].ready().await?;
        }
        let mut stream = pods[pod].client("acme", "alice").open(&cursor).await?;
        let leave_after = rand::rng().random_range(1..400).min(expected.len() - seen.len());
        for _ in 0..leave_after {
            seen.push(stream.event().await?.data);
        }
        cursor.clone_from(&stream.last_id);
    }
    publishing.await??;
    assert!(
        seen == expected,
        "after {rounds} rounds: {:?}",
        seen.iter().zip(&expected).find(|(a, b)| a != b)
    );
    // What came from the log, in the order of the log, on a pod that has seen none of it live.
    pods[1].kill().await?;
    pods[1].restart()?;
    pods[1].ready().await?;
    let mut stream = pods[1].client("acme", "alice").open(&first).await?;
    assert_eq!(stream.until(expected.last().expect("events")).await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_can_not_be_honoured_is_told() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"replay": {"maxReplayEvents": 50}})).await?;
    let client = gateway.client("acme", "alice");
    let publisher = nats.publisher().await?;
    let epoch = gateway.status().await?["stream"]["epoch"].as_str().expect("an epoch").to_owned();
    for i in 0..300 {
        publisher.publish("sse.acme.user.alice", &format!("old {i}")).await?;
    }
    let ahead = format!("{epoch}-99999");
    for (cursor, reason) in [("what", "invalid"), ("00000000-5", "epoch"), (ahead.as_str(), "invalid")] {
        let mut stream = client.open(cursor).await?;
        let reset = stream.event().await?;
        assert_eq!(
            (reset.name, reset.data),
            ("reset".into(), format!(r#"{{"reason":"{reason}"}}"#)),
            "{cursor}"
        );
        publisher.publish("sse.acme.user.alice", "new").await?;
        assert_eq!(stream.event().await?.data, "new", "{cursor}");
    }
    // More was missed than is replayed: what came came in order, then the gap is told, then it is live.
    let mut stream = client.open(&format!("{epoch}-1")).await?;
    let mut replayed = 0;
    let reset = loop {
        let event = stream.event().await?;
        if event.name == "reset" {
            break event;
        }
        assert_eq!(event.data, format!("old {replayed}"));
        replayed += 1;
    };
    assert_eq!(reset.data, r#"{"reason":"expired"}"#);
    publisher.publish("sse.acme.user.alice", "live").await?;
    assert_eq!(stream.event().await?.data, "live");
    Ok(())
}

#[tokio::test]
async fn a_cursor_older_than_the_log_is_told_and_the_rest_is_replayed() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({})).await?;
    let publisher = nats.publisher().await?;
    let epoch = gateway.status().await?["stream"]["epoch"].as_str().expect("an epoch").to_owned();
    for i in 0..20 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
    }
    let stream = publisher.jetstream.get_stream("SSE_sse").await?;
    stream.purge().sequence(12).await?;
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    // The seam of the first start has sequence 1: event n has sequence n + 2.
    let mut stream = gateway.client("acme", "alice").open(&format!("{epoch}-3")).await?;
    let reset = stream.event().await?;
    assert_eq!((reset.name.as_str(), reset.data.as_str()), ("reset", r#"{"reason":"expired"}"#));
    let expected: Vec<String> = (10..20).map(|i| i.to_string()).collect();
    assert_eq!(stream.until("19").await?, expected);
    // One that is still within it is not told anything.
    let mut stream = gateway.client("acme", "alice").open(&format!("{epoch}-11")).await?;
    assert_eq!(stream.until("19").await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_client_that_saw_no_event_has_a_place_to_come_back_to() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    let cursor = stream.position().await?;
    drop(stream);
    nats.publisher().await?.publish("sse.acme.user.alice", "meanwhile").await?;
    assert_eq!(client.open(&cursor).await?.event().await?.data, "meanwhile");
    Ok(())
}
