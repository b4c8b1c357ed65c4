//! Fields of the spec that give something another name or form: each does what it says.

use std::time::Duration;

use anyhow::{Result, ensure};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sse_tests::client::Client;
use sse_tests::eventually;
use sse_tests::jwt::{ISSUER, KEY, now, signed};
use sse_tests::nats::Nats;
use sse_tests::process::Gateway;

#[tokio::test]
async fn paths_claims_types_and_heartbeats_are_as_the_spec_names_them() -> Result<()> {
    let nats = Nats::start().await?;
    let spec = json!({
        "endpoints": {"basePath": "/live/v2"},
        "auth": {"userIdClaims": ["uid", "sub"], "tenantClaim": "org"},
        "stream": {"heartbeatMode": "Event", "heartbeatIntervalSeconds": 5, "defaultEventType": "notice",
            "endAtCredentialExpiry": false},
    });
    let gateway = Gateway::start(&nats, spec).await?;
    let end = now() + 4;
    let claims = json!({"iss": ISSUER, "uid": "", "sub": "alice", "org": "acme", "exp": end});
    let jwt = signed(&claims, KEY, Algorithm::HS256);
    let there = Client { base: "/live/v2".into(), jwt, ..gateway.client("acme", "alice") };
    let default = Client { base: "/api/v1/sse".into(), ..there.clone() };
    ensure!(default.ask_token().await?.status == 404, "at the default path, too");
    let mut stream = there.open("").await?;
    // The first at once, with the place.
    let beat = stream.event().await?;
    ensure!(beat.name == "heartbeat" && !beat.id.is_empty(), "{beat:?}");
    let publisher = nats.publisher().await?;
    publisher.publish("sse.acme.user.alice", "before").await?;
    let event = stream.event().await?;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("notice", "before"));
    // After five seconds of silence the credential has ended, and the stream has not.
    let beat = stream.next(Duration::from_secs(8)).await?;
    assert_eq!(beat.map(|beat| (beat.name, beat.id)), Some(("heartbeat".into(), event.id)));
    ensure!(now() > end, "the credential has not ended");
    publisher.publish("sse.acme.user.alice", "after").await?;
    stream.until("after").await?;
    Ok(())
}

#[tokio::test]
async fn what_the_server_does_not_take_is_told_and_open_streams_stay() -> Result<()> {
    let nats = Nats::start_with("max_payload: 8192").await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    eventually("a word about the server", Duration::from_secs(10), || async {
        let status = gateway.status().await?;
        let problem = status["problems"].as_array().and_then(|problems| problems.first()).cloned();
        let problem = problem.unwrap_or_default();
        let message = problem["message"].as_str().unwrap_or_default();
        ensure!(
            problem["reason"] == "NatsUnsuitable" && message.starts_with("limits.maxPayloadBytes: is 16384"),
            "{status}"
        );
        ensure!(message.contains("8192") && status["ready"] == Value::Bool(true), "{status}");
        Ok(())
    })
    .await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    nats.publisher().await?.publish("sse.acme.all", "served").await?;
    assert_eq!(stream.event().await?.data, "served");
    Ok(())
}

#[tokio::test]
async fn a_stream_of_somebody_else_that_republishes_no_payload_is_refused() -> Result<()> {
    let nats = Nats::start().await?;
    let jetstream = nats.publisher().await?.jetstream;
    let mut theirs = async_nats::jetstream::stream::Config {
        name: "SSE_sse".into(),
        subjects: vec!["sse.>".into()],
        allow_direct: true,
        republish: Some(async_nats::jetstream::stream::Republish {
            source: "sse.>".into(),
            destination: "sse-live.>".into(),
            headers_only: true,
        }),
        ..Default::default()
    };
    jetstream.create_stream(theirs.clone()).await?;
    let spec = json!({"nats": {"stream": {"managed": false}}});
    let gateway = Gateway::start_unready(&nats, "tests/gateway", spec)?;
    eventually("a word about the stream", Duration::from_secs(10), || async {
        let (status, why) = gateway.get("/readyz").await?;
        ensure!(status == 503 && why.starts_with("StreamUnsuitable: nats.stream:"), "{status} {why}");
        Ok(())
    })
    .await?;
    theirs.republish.iter_mut().for_each(|republish| republish.headers_only = false);
    jetstream.update_stream(theirs).await?;
    gateway.ready().await
}
