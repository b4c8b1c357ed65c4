//! Events that nobody can get are told to whoever listens for dead letters.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt;
use serde_json::json;
use sse_tests::process::{Gateway, Nats};
use tokio::time::timeout;

/// Subject, headers, payload, and what the reason says.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

#[tokio::test]
async fn each_refused_event_is_a_dead_letter_with_its_reason_and_its_sequence() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"limits": {"maxPayloadBytes": 64}})).await?;
    let publisher = nats.publisher().await?;
    let mut letters = publisher.client.subscribe("sse-dead.>").await?;
    publisher.client.flush().await?;
    let (long, cloud) = ("x".repeat(65), [("Content-Type", "application/cloudevents+json")]);
    let cases: [Case<'_>; 10] = [
        ("sse.acme.user.alice", &[], &long, "limits.maxPayloadBytes"),
        ("sse.acme.user.al%69ce", &[], "", "canonical"),
        ("sse.acme.topic.News", &[], "", "lower case"),
        ("sse.acme.users", &[], "", "Sse-Users"),
        ("sse.acme.user.alice", &[("Sse-Retry", "soon")], "", "Sse-Retry"),
        ("sse.acme.user.alice", &[("Nats-Sequence", "1")], "", "only the server may set"),
        ("sse.acme.user.alice", &cloud, "{}", "CloudEvent has no specversion"),
        (
            "sse.acme.user.alice",
            &cloud,
            r#"{"specversion":"1.0","source":"/s","type":"t"}"#,
            "CloudEvent has no id",
        ),
        ("sse.acme.nowhere", &[], "payload", "names no target"),
        ("sse._platform.all", &[], "", "platformBroadcast.enabled"),
    ];
    for (subject, headers, payload, reason) in cases {
        let sequence = publisher.publish_with(subject, headers, payload).await?;
        let letter = timeout(Duration::from_secs(5), letters.next()).await?.context("a letter")?;
        let header = |name: &str| letter.headers.as_ref().and_then(|h| h.get(name)).map(ToString::to_string);
        let tenant = subject.split('.').nth(1).expect("a tenant");
        ensure!(letter.subject.as_str() == format!("sse-dead.{tenant}"), "{}", letter.subject);
        ensure!(header("Sse-Dead-Sequence") == Some(sequence.to_string()), "{letter:?}");
        ensure!(header("Sse-Dead-Subject").as_deref() == Some(subject), "{letter:?}");
        ensure!(header("Sse-Dead-Reason").is_some_and(|text| text.contains(reason)), "{reason}: {letter:?}");
        let key = header("Nats-Msg-Id").context("a key")?;
        ensure!(key.ends_with(&format!("-{sequence}")), "{key}");
        ensure!(letter.payload == payload.as_bytes(), "another payload");
    }
    ensure!(gateway.status().await?["refusedEvents"] == cases.len(), "{}", gateway.status().await?);
    // A flood of them holds nothing up, and each is told.
    for _ in 0..3000 {
        publisher.client.publish("sse.flood.nowhere", "".into()).await?;
    }
    let mut told = 0;
    while told < 3000 {
        timeout(Duration::from_secs(20), letters.next()).await?.context("a letter")?;
        told += 1;
    }
    Ok(())
}

/// What is too long for a letter is cut: a letter that can not go out would hold up all that come after it.
#[tokio::test]
async fn an_event_whose_letter_would_be_too_large_holds_nothing_up() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let publisher = nats.publisher().await?;
    let mut letters = publisher.client.subscribe("sse-dead.>").await?;
    publisher.client.flush().await?;
    let most = publisher.client.server_info().max_payload;
    let long = |from: &str, length: usize| format!("{from}{}", "a".repeat(length));
    let cases = [
        // With its subject in a header it is longer than NATS takes.
        (long("sse.acme.user.", 3800), "x".repeat(most - 4100), "sse-dead.acme"),
        (long("sse.", 3700) + ".all", "x".repeat(most - 10), "sse-dead._unknown"),
        (long("sse.acme.nowhere.", 100), "short".into(), "sse-dead.acme"),
    ];
    for (subject, payload, dead) in cases {
        let sequence = publisher.publish_with(&subject, &[], &payload).await?;
        let letter = timeout(Duration::from_secs(10), letters.next()).await?.context("a letter")?;
        let headers = letter.headers.context("headers")?;
        ensure!(letter.subject.as_str() == dead, "{}", letter.subject);
        ensure!(headers.get("Sse-Dead-Sequence").is_some_and(|of| of.as_str() == sequence.to_string()));
        let quoted = headers.get("Sse-Dead-Subject").context("a subject")?.as_str();
        let whole = quoted == subject && letter.payload == payload.as_bytes();
        ensure!(subject.starts_with(quoted) && quoted.len() <= 1024, "{} bytes", quoted.len());
        ensure!(whole != headers.get("Sse-Dead-Truncated").is_some(), "{quoted}");
    }
    publisher.publish("sse.acme.user.alice", "after them").await?;
    ensure!(stream.event().await?.data == "after them");
    Ok(())
}
