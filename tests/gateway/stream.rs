//! The head, the first bytes, the heartbeats, and every answer that is no stream.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn the_head_and_the_first_bytes_are_those_of_the_contract() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(
        &nats,
        json!({"stream": {"retryMs": 1500, "welcomeEvents": [
        {"event": "welcome", "data": "{connectionId}"}]}}),
    )
    .await?;
    let token = gateway.client("acme", "alice").token().await?;
    let mut socket = TcpStream::connect(gateway.address).await?;
    let request =
        format!("GET /api/v1/sse/stream?token={token} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    while !text.contains("event: welcome") {
        let mut buffer = [0; 4096];
        let count = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut buffer)).await??;
        assert!(count > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for line in [
        "content-type: text/event-stream\r\n",
        "cache-control: no-cache, no-transform\r\n",
        "x-accel-buffering: no\r\n",
    ] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    for name in ["connection:", "content-length:", "content-encoding:"] {
        assert!(!head.contains(name), "{name} is in {head}");
    }
    let body = body.split_once("\r\n").expect("a chunk").1;
    let epoch = gateway.status().await?["stream"]["epoch"].as_str().expect("an epoch").to_owned();
    let expected = format!(":connected\n\nid: {epoch}-1\n\nretry: 1500\n\nevent: welcome\ndata: ");
    assert!(body.starts_with(&expected), "{body:?}");
    Ok(())
}

#[tokio::test]
async fn many_streams_share_one_http2_connection() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let socket = TokioIo::new(TcpStream::connect(gateway.address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await?;
    let connection = tokio::spawn(connection);
    let mut bodies = Vec::new();
    for user in 0..5 {
        let request = Request::get("http://gateway/api/v1/sse/stream")
            .header("authorization", format!("Bearer {}", jwt("acme", &format!("user-{user}"))))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
        bodies.push(response.into_body());
    }
    nats.publisher().await?.publish("sse.acme.all", "over one connection").await?;
    for body in &mut bodies {
        let mut text = String::new();
        while !text.contains("data: over one connection\n\n") {
            let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await?;
            let data = frame.expect("an open stream")?.into_data().expect("data");
            text.push_str(&String::from_utf8_lossy(&data));
        }
        assert!(text.starts_with(":connected\n\n"), "{text}");
    }
    // One stream that is let go of frees its place; the others, and the connection, stay.
    drop(bodies.pop());
    sse_tests::eventually("four streams", Duration::from_secs(5), || async {
        let connections = gateway.status().await?["connections"].clone();
        anyhow::ensure!(connections == 4, "{connections}");
        Ok(())
    })
    .await?;
    connection.abort();
    Ok(())
}

#[tokio::test]
async fn a_quiet_stream_has_heartbeats_in_the_form_that_was_asked_for() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"stream": {"heartbeatIntervalSeconds": 5}})).await?;
    let client = gateway.client("acme", "alice");
    let mut comment = client.open_bearer("", &[]).await?;
    let mut event = client.open_bearer("?heartbeat=event", &[]).await?;
    comment.until_raw(":heartbeat\n\n", Duration::from_secs(8)).await?;
    // One at once: a page has no other way to its place before the first event.
    for within in [2, 8] {
        let beat = event.next(Duration::from_secs(within)).await?.expect("an event");
        assert_eq!((beat.name.as_str(), beat.id.ends_with("-1")), ("heartbeat", true), "{beat:?}");
        let data: Value = serde_json::from_str(&beat.data)?;
        assert_eq!(data["type"], "heartbeat");
        assert!(data["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{data}");
    }
    Ok(())
}

/// Method, path, headers; and the status of the answer.
type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test]
async fn every_error_is_a_problem_document() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let client = gateway.client("acme", "alice");
    let bearer = format!("Bearer {}", client.jwt);
    let jwt_in_query = format!("/api/v1/sse/stream?token={}", client.jwt);
    let ok = ("authorization", bearer.as_str());
    let cases: [Case<'_>; 11] = [
        (Method::GET, "/", &[], 404),
        (Method::GET, "/api/v1/sse/stream/", &[ok], 404),
        (Method::GET, "/api/v1/sse/stream/alice", &[ok], 404),
        (Method::GET, "/api/v1/sse/token", &[ok], 405),
        (Method::POST, "/api/v1/sse/stream", &[ok], 405),
        (Method::HEAD, "/api/v1/sse/stream", &[ok], 405),
        (Method::GET, "/api/v1/sse/stream", &[], 401),
        (Method::GET, &jwt_in_query, &[], 401),
        (Method::GET, "/api/v1/sse/stream?heartbeat=loud", &[ok], 400),
        (Method::GET, "/api/v1/sse/stream?topics=orders", &[ok], 403),
        (Method::GET, "/api/v1/sse/stream", &[ok, ("tenant", "other")], 403),
    ];
    for (method, path, headers, status) in cases {
        let answer = client.request(method.clone(), path, headers).await?;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
        if method != Method::HEAD {
            let body: Value = serde_json::from_str(&answer.body)?;
            assert_eq!(body["status"], status, "{body}");
            assert!(!answer.body.contains(&client.jwt), "the credential is in the error");
        }
    }
    assert!(!gateway.log().contains(&client.jwt), "the credential is in the log");
    Ok(())
}

#[tokio::test]
async fn one_user_has_as_many_streams_as_are_allowed() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"limits": {"maxConnectionsPerUser": 2}})).await?;
    let alice = gateway.client("acme", "alice");
    let first = alice.open("").await?;
    let _second = alice.open("").await?;
    let bearer = format!("Bearer {}", alice.jwt);
    for (path, headers) in [
        ("/api/v1/sse/stream", &[("authorization", bearer.as_str())][..]),
        (&format!("/api/v1/sse/stream?token={}", alice.token().await?), &[]),
    ] {
        let third = alice.request(Method::GET, path, headers).await?;
        assert_eq!(third.status, 429, "{}", third.body);
        assert_eq!(third.headers["content-type"], "application/problem+json");
        let body: Value = serde_json::from_str(&third.body)?;
        assert_eq!(body["detail"], "Too many concurrent SSE connections.");
        // A slot seldom comes free at once, and not for all who wait for one at the same time.
        let seconds: u32 = third.headers["retry-after"].to_str()?.parse()?;
        assert!((5..=15).contains(&seconds), "{seconds}");
    }
    gateway.client("acme", "bob").open("").await?;
    drop(first);
    sse_tests::eventually("a free slot", Duration::from_secs(5), || async { alice.open("").await.map(drop) })
        .await
}
