//! Who gets an event, and in what form.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use sse_tests::process::{Gateway, Nats};

#[tokio::test]
async fn an_event_reaches_every_stream_of_its_user_on_every_pod_and_nobody_else() -> Result<()> {
    let nats = Nats::start().await?;
    let one = Gateway::start(&nats, json!({})).await?;
    let two = Gateway::start(&nats, json!({})).await?;
    let mut tabs = [
        one.client("acme", "alice@example.com").open("").await?,
        one.client("acme", "alice@example.com").open("").await?,
        two.client("acme", "alice@example.com").open("").await?,
    ];
    let mut bob = two.client("acme", "bob").open("").await?;
    let mut eve = one.client("other", "alice@example.com").open("").await?;
    let publisher = nats.publisher().await?;
    publisher.publish("sse.acme.user.alice%40example%2Ecom", "for alice").await?;
    publisher.publish("sse.acme.all", "for acme").await?;
    publisher.publish("sse.other.all", "for other").await?;
    for tab in &mut tabs {
        assert_eq!(tab.until("for acme").await?, ["for alice", "for acme"]);
    }
    assert_eq!(bob.until("for acme").await?, ["for acme"]);
    assert_eq!(eve.until("for other").await?, ["for other"]);
    Ok(())
}

#[tokio::test]
async fn the_fields_are_the_publishers_and_the_id_is_the_place_in_the_log() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"limits": {"maxPayloadBytes": 64}})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let publisher = nats.publisher().await?;
    let subject = "sse.acme.user.alice";
    let hard = "a\nb\r\nc\rd\n\n: no comment\n  two spaces ✓";
    let headers = [("Sse-Event", "order.shipped"), ("Sse-Retry", "2500")];
    let sequence = publisher.publish_with(subject, &headers, hard).await?;
    // None of these may reach the stream, nor break it.
    publisher.publish(subject, &"x".repeat(65)).await?;
    publisher.publish_with(subject, &[("Nats-Sequence", "1")], "forged").await?;
    publisher.publish_with(subject, &[("Sse-Retry", "soon")], "bad").await?;
    publisher.publish("sse.acme.user.al%69ce", "another spelling").await?;
    publisher.publish(subject, "").await?;
    publisher.publish_with(subject, &[("Sse-Complete", "true")], "done").await?;
    let epoch = gateway.status().await?["stream"]["epoch"].as_str().expect("an epoch").to_owned();

    let event = stream.event().await?;
    assert_eq!((event.name.as_str(), event.id), ("order.shipped", format!("{epoch}-{sequence}")));
    assert_eq!(event.data, "a\nb\nc\nd\n\n: no comment\n  two spaces ✓");
    assert_eq!(stream.retry, Some(2500));
    let empty = stream.event().await?;
    assert_eq!((empty.name.as_str(), empty.data.as_str()), ("message", ""));
    let done = stream.event().await?;
    assert_eq!((done.data.as_str(), done.id.ends_with("-end")), ("done", true));
    assert_eq!(stream.next(Duration::from_secs(5)).await?, None);
    assert_eq!(stream.ended_cleanly, Some(true));

    let path = format!("/api/v1/sse/stream?lastEventId={}", done.id);
    let client = gateway.client("acme", "alice");
    let bearer = format!("Bearer {}", client.jwt);
    let again = client.request(hyper::Method::GET, &path, &[("authorization", &bearer)]).await?;
    assert_eq!(again.status, 204);
    Ok(())
}

#[tokio::test]
async fn a_slow_client_gets_everything_and_nobody_waits_for_it() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"limits": {"connectionBufferSize": 10}})).await?;
    let mut slow = gateway.client("acme", "tortoise").open("").await?;
    let mut quick = gateway.client("acme", "achilles").open("").await?;
    let publisher = nats.publisher().await?;
    // More than sockets and buffers hold: the slow one stops being read after its first event.
    let events: Vec<String> = (0..2000).map(|i| format!("{i:05} {}", "x".repeat(10_000))).collect();
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 2000 {
            seen.push(quick.event().await?.data);
        }
        anyhow::Ok(seen)
    });
    for event in &events {
        publisher.publish("sse.acme.all", event).await?;
    }
    assert!(reader.await?? == events, "the quick client missed something");
    for event in &events {
        let seen = slow.event().await?.data;
        assert!(seen == *event, "expected {}, saw {}", &event[..5], &seen[..5]);
    }
    Ok(())
}
