//! Pages of other origins: those that are named may ask, and read every answer; others are told nothing.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::http::HeaderName;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sse_tests::client::{Answer, Client};
use sse_tests::jwt::{jwt, jwt_with};
use sse_tests::process::{Gateway, Nats};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

const APP: &str = "https://app.example.com";
const STREAM: &str = "/api/v1/sse/stream";
const TOKEN: &str = "/api/v1/sse/token";
const EVENTS: &str = "/api/v1/sse/events";

/// Method, path, headers beside the origin, and the status of the answer.
type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], u16);

async fn gateway(nats: &Nats) -> Result<Gateway> {
    let patch = json!({"publish": {"enabled": true}, "auth": {"modes": ["Token", "Bearer", "Cookie"]},
        "cors": {"allowedOrigins": [APP, "http://localhost:5173"]}});
    Gateway::start(nats, patch).await
}

/// Every value of a header, as the one list that they are.
fn list(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII")).collect();
    values.join(", ")
}

fn told(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("access-control-")).collect()
}

/// What a page of the origin needs, to be shown an answer to a request with credentials.
fn assert_shown(headers: &HeaderMap, origin: &str, what: &str) {
    assert_eq!(list(headers, "access-control-allow-origin"), origin, "{what}");
    assert_eq!(list(headers, "access-control-allow-credentials"), "true", "{what}");
    assert_eq!(list(headers, "access-control-expose-headers"), "retry-after", "{what}");
    assert!(list(headers, "vary").contains("origin"), "{what}: {headers:?}");
}

async fn preflight(client: &Client, path: &str, origin: &str, headers: &str) -> Result<Answer> {
    let asked = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", headers),
    ];
    client.request(Method::OPTIONS, path, &asked).await
}

#[tokio::test]
async fn a_preflight_is_answered_for_each_endpoint_and_each_header_of_ours() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats).await?;
    let client = gateway.client("acme", "alice");
    let ours = "authorization, content-type, last-event-id, tenant, sse-subject, sse-event, ce-type, nats-msg-id, \
                traceparent";
    for (path, method) in [(TOKEN, "POST"), (STREAM, "GET"), (EVENTS, "POST")] {
        for origin in [APP, "http://localhost:5173"] {
            let answer = preflight(&client, path, origin, ours).await?;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""), "{path}");
            assert_shown(&answer.headers, origin, path);
            assert_eq!(list(&answer.headers, "access-control-allow-methods"), method, "{path}");
            assert_eq!(list(&answer.headers, "access-control-allow-headers"), ours, "{path}");
            assert_eq!(list(&answer.headers, "access-control-max-age"), "7200", "{path}");
            let vary = list(&answer.headers, "vary");
            assert!(vary.contains("access-control-request-headers"), "{vary}");
        }
    }
    // A browser compares what it asked for with what is allowed, and refuses the rest itself.
    let mixed = preflight(&client, EVENTS, APP, "Authorization,x-evil,  SSE-Users,cookie").await?;
    assert_eq!(list(&mixed.headers, "access-control-allow-headers"), "authorization, sse-users");
    let none = preflight(&client, EVENTS, APP, "x-evil").await?;
    assert!(!none.headers.contains_key("access-control-allow-headers"), "{none:?}");
    let nowhere = preflight(&client, "/api/v1/sse/nothing", APP, "authorization").await?;
    assert_eq!(nowhere.status, 404);
    // Without its question it is a method like any other.
    let plain = client.request(Method::OPTIONS, TOKEN, &[("origin", APP)]).await?;
    assert_eq!((plain.status.as_u16(), &plain.headers["allow"]), (405, &"POST".parse()?));
    Ok(())
}

#[tokio::test]
async fn a_foreign_page_is_told_nothing() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats).await?;
    let client = gateway.client("acme", "alice");
    let bearer = format!("Bearer {}", client.jwt);
    let cookie = format!("access_token={}", client.jwt);
    for origin in [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "https://app.example.com:444",
        "http://app.example.com",
        "HTTPS://APP.EXAMPLE.COM",
        "https://app.example.com, https://app.example.com",
        "null",
        "*",
        "",
    ] {
        let asked = preflight(&client, TOKEN, origin, "authorization").await?;
        assert_eq!((asked.status.as_u16(), told(&asked.headers)), (405, vec![]), "{origin}");
        let headers = [("origin", origin), ("authorization", &bearer)];
        let answer = client.request(Method::POST, TOKEN, &headers).await?;
        assert_eq!((answer.status.as_u16(), told(&answer.headers)), (200, vec![]), "{origin}");
        assert!(list(&answer.headers, "vary").contains("origin"), "{:?}", answer.headers);
        let answer = client.request(Method::GET, STREAM, &[("origin", origin), ("cookie", &cookie)]).await?;
        assert_eq!((answer.status.as_u16(), told(&answer.headers)), (403, vec![]), "{origin}");
    }
    let twice = [("origin", APP), ("origin", "https://evil.example"), ("authorization", &bearer)];
    assert_eq!(told(&client.request(Method::POST, TOKEN, &twice).await?.headers), Vec::<&str>::new());
    // Who is no page is told what an answer depends on, for caches, and no more.
    let answer = client.ask_token().await?;
    assert_eq!((list(&answer.headers, "vary").as_str(), told(&answer.headers)), ("origin", vec![]));
    Ok(())
}

#[tokio::test]
async fn a_page_that_is_named_reads_streams_and_errors_alike() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats).await?;
    let client = gateway.client("acme", "alice");
    let bearer = format!("Bearer {}", jwt("acme", "alice"));
    let cookie = format!("access_token={}", jwt("acme", "alice"));
    let page = ("origin", APP);
    let mut stream = client.open_cookie("", &cookie, &[page, ("sec-fetch-site", "cross-site")]).await?;
    assert_shown(&stream.headers, APP, "the head of a stream");
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    nats.publisher().await?.publish("sse.acme.user.alice", "seen").await?;
    assert_eq!(stream.event().await?.data, "seen");
    let cases: [Case<'_>; 8] = [
        (Method::POST, TOKEN, &[("authorization", &bearer)], 200),
        (Method::POST, TOKEN, &[], 401),
        (Method::GET, STREAM, &[], 401),
        (Method::GET, STREAM, &[("authorization", &bearer), ("tenant", "other")], 403),
        (Method::HEAD, STREAM, &[("authorization", &bearer)], 405),
        (Method::POST, EVENTS, &[("authorization", &bearer), ("sse-subject", "all")], 403),
        (Method::PUT, EVENTS, &[], 405),
        (Method::GET, "/api/v1/sse", &[], 404),
    ];
    for (method, path, headers, status) in cases {
        let mut all = vec![page];
        all.extend_from_slice(headers);
        let answer = client.request(method.clone(), path, &all).await?;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_shown(&answer.headers, APP, path);
        if status >= 400 {
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        }
        if status == 405 {
            assert!(answer.headers.contains_key("allow"), "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn over_http2_it_is_the_same() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats).await?;
    let socket = TokioIo::new(TcpStream::connect(gateway.address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let bearer = format!("Bearer {}", jwt_with("acme", "alice", json!({"publish": "user.alice"})));
    let request = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(format!("http://gateway{path}"));
        request.header("origin", APP).header("authorization", &bearer).header("sse-subject", "user.alice")
    };
    let stream = sender.send_request(request(Method::GET, STREAM).body(Full::default())?).await?;
    assert_eq!(stream.status(), 200);
    assert_shown(stream.headers(), APP, "the head of a stream");
    let posted = request(Method::POST, EVENTS).body(Full::new(Bytes::from_static(b"posted")))?;
    let posted = sender.send_request(posted).await?;
    assert_eq!(posted.status(), 202);
    assert_shown(posted.headers(), APP, "an event");
    let (mut body, mut text) = (stream.into_body(), String::new());
    while !text.contains("data: posted") {
        let frame = body.frame().await.context("an open stream")??;
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap_or_default())?);
    }
    Ok(())
}

#[tokio::test]
async fn without_origins_there_is_no_cors() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, Value::Object(serde_json::Map::new())).await?;
    let client = gateway.client("acme", "alice");
    let asked = preflight(&client, TOKEN, APP, "authorization").await?;
    assert_eq!((asked.status.as_u16(), told(&asked.headers)), (405, vec![]));
    assert!(!asked.headers.contains_key("vary"), "{:?}", asked.headers);
    Ok(())
}
