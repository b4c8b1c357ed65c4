//! What an attacker sends: forged credentials, other people's names, broken framing, and too much of
//! everything.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sse_tests::jwt::{ISSUER, IssuerKey, KEY, jwt, now, signed};
use sse_tests::process::{Gateway, Nats, merge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TOKEN: &str = "/api/v1/sse/token";
/// A good credential is answered at once, with 204.
const STREAM: &str = "/api/v1/sse/stream?lastEventId=00000000-1-end";

async fn gateway(nats: &Nats, patch: Value) -> Result<Gateway> {
    let mut spec = json!({"auth": {"modes": ["Token", "Bearer", "Cookie"]}});
    merge(&mut spec, patch);
    Gateway::start(nats, spec).await
}

/// The statuses of a JWT at the token endpoint, and at the stream endpoint as header and as cookie.
async fn at_every_door(gateway: &Gateway, jwt: &str) -> Result<[u16; 3]> {
    let client = gateway.client("acme", "alice");
    let (bearer, cookie) = (format!("Bearer {jwt}"), format!("access_token={jwt}"));
    let authorization = [("authorization", bearer.as_str())];
    Ok([
        client.request(Method::POST, TOKEN, &authorization).await?.status.as_u16(),
        client.request(Method::GET, STREAM, &authorization).await?.status.as_u16(),
        client.request(Method::GET, STREAM, &[("cookie", &cookie)]).await?.status.as_u16(),
    ])
}

#[tokio::test]
async fn a_forged_credential_is_refused_at_every_door() -> Result<()> {
    let nats = Nats::start().await?;
    let rsa = IssuerKey::rsa("a");
    let issuer = |name: &str, algorithm: &str, secret: &str| {
        json!({"issuer": name, "audiences": ["sse"], "algorithms": [algorithm],
            "keySecretRef": {"name": secret, "key": "key"}})
    };
    let issuers = [issuer(ISSUER, "HS256", "jwt"), issuer("public", "RS256", "rsa")];
    let patch = json!({"auth": {"issuers": issuers, "modes": ["Token", "Bearer", "Cookie"]}});
    let gateway = Gateway::start_unready(&nats, "tests/gateway", patch)?;
    gateway.write_secret("rsa", "key", &rsa.public)?;
    gateway.ready().await?;
    let claims = |patch: Value| {
        let mut claims = json!({"iss": ISSUER, "aud": "sse", "sub": "alice", "tenant": "acme",
            "exp": now() + 600, "nbf": now() - 5});
        merge(&mut claims, patch);
        claims
    };
    let hs = |patch| signed(&claims(patch), KEY, Algorithm::HS256);
    let good = hs(json!({}));
    assert_eq!(at_every_door(&gateway, &good).await?, [200, 204, 204]);
    let public = rsa.sign(&claims(json!({"iss": "public"})));
    assert_eq!(at_every_door(&gateway, &public).await?, [200, 204, 204]);
    let parts: Vec<&str> = good.split('.').collect();
    let header = |json: &str| {
        // {"alg":…} before the signed part of a good token.
        format!("{}.{}.{}", base64_of(json), parts[1], parts[2])
    };
    let forged = [
        ("none", format!("{}.{}.", base64_of(r#"{"alg":"none"}"#), parts[1])),
        ("None", header(r#"{"alg":"None"}"#)),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no algorithm", header("{}")),
        (
            "another's payload",
            format!("{}.{}.{}", parts[0], public.split('.').nth(1).expect("one"), parts[2]),
        ),
        ("confusion", signed(&claims(json!({"iss": "public"})), &rsa.public, Algorithm::HS256)),
        (
            "confusion, trimmed",
            signed(&claims(json!({"iss": "public"})), rsa.public.trim(), Algorithm::HS256),
        ),
        ("RS256 at HS256", rsa.sign(&claims(json!({})))),
        ("HS256's key at RS256", signed(&claims(json!({"iss": "public"})), KEY, Algorithm::HS256)),
        ("another key", signed(&claims(json!({})), "another", Algorithm::HS256)),
        ("HS384", signed(&claims(json!({})), KEY, Algorithm::HS384)),
        ("iss", hs(json!({"iss": "https://evil.example"}))),
        ("iss, a list", hs(json!({"iss": [ISSUER, "public"]}))),
        ("iss, a space", hs(json!({"iss": format!("{ISSUER} ")}))),
        ("aud", hs(json!({"aud": "other"}))),
        ("aud, a part", hs(json!({"aud": "ss"}))),
        ("no aud", hs(json!({"aud": null}))),
        ("expired", hs(json!({"exp": now() - 60}))),
        ("exp, text", hs(json!({"exp": "9999999999"}))),
        ("exp, negative", hs(json!({"exp": -1}))),
        ("no exp", hs(json!({"exp": null}))),
        ("not yet", hs(json!({"nbf": now() + 60}))),
        ("no user", hs(json!({"sub": null}))),
        ("no tenant", hs(json!({"tenant": null}))),
        ("reserved tenant", hs(json!({"tenant": "_platform"}))),
        ("long user", hs(json!({"sub": "a".repeat(129)}))),
        ("long user, encoded", hs(json!({"sub": ".".repeat(43)}))),
        ("long tenant", hs(json!({"tenant": "é".repeat(22)}))),
        ("user, a list", hs(json!({"sub": ["alice"]}))),
        ("tenant, an object", hs(json!({"tenant": {"id": "acme"}}))),
        ("five parts", format!("{good}.x.y")),
        ("dots", "..".into()),
        ("long", format!("{}.{}.{}", parts[0], "a".repeat(12_000), parts[2])),
    ];
    for (what, jwt) in &forged {
        assert_eq!(at_every_door(&gateway, jwt).await?, [401, 401, 401], "{what}");
    }
    assert_eq!(at_every_door(&gateway, &hs(json!({"sub": "a".repeat(128)}))).await?, [200, 204, 204]);
    assert_eq!(at_every_door(&gateway, &good).await?, [200, 204, 204]);
    for (what, jwt) in &forged {
        let signature = jwt.rsplit('.').next().filter(|part| part.len() > 20);
        assert!(signature.is_none_or(|part| !gateway.log().contains(part)), "{what} is in the log");
    }
    Ok(())
}

/// Base64url, without padding.
fn base64_of(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |chunk: &[u8], i: usize| {
        let bits =
            chunk.iter().fold(0_usize, |bits, b| bits << 8 | usize::from(*b)) << (8 * (3 - chunk.len()));
        char::from(LETTERS[bits >> (18 - 6 * i) & 63])
    };
    text.as_bytes().chunks(3).flat_map(|chunk| (0..=chunk.len()).map(move |i| letter(chunk, i))).collect()
}

#[tokio::test]
async fn only_the_credential_says_who_speaks() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let client = gateway.client("acme", "alice");
    let bearer = format!("Bearer {}", client.jwt);
    for tenant in ["other", "ACME", "acme ,other", "acme\u{e9}", "%61cme", "*", ">", ""] {
        let headers = [("authorization", bearer.as_str()), ("tenant", tenant)];
        for (method, path) in [(Method::POST, TOKEN), (Method::GET, STREAM)] {
            let status = client.request(method.clone(), path, &headers).await?.status;
            assert_eq!(status, 403, "{method} {tenant:?}");
        }
    }
    let two = [("authorization", &*bearer), ("tenant", "acme"), ("tenant", "other")];
    assert_eq!(client.request(Method::GET, STREAM, &two).await?.status, 403);
    let token = client.token().await?;
    let path = format!("{STREAM}&token={token}");
    assert_eq!(client.request(Method::GET, &path, &[("tenant", "other")]).await?.status, 403);

    let query = "?tenant=other&user=bob&sub=bob&userId=bob";
    let mut headers = vec![("tenant", "acme")];
    headers.extend(["x-tenant", "x-tenant-id", "x-user", "x-user-id", "user"].map(|name| (name, "other")));
    let mut stream = client.open_bearer(query, &headers).await?;
    let publisher = nats.publisher().await?;
    for subject in ["sse.other.all", "sse.other.user.alice", "sse.other.user.bob", "sse.acme.user.bob"] {
        publisher.publish(subject, subject).await?;
    }
    publisher.publish("sse.acme.user.alice", "hers").await?;
    assert_eq!(stream.until("hers").await?, ["hers"]);
    Ok(())
}

/// An answer of HTTP/1.1, as it came.
#[derive(Debug)]
struct Raw {
    status: u16,
    head: String,
    body: String,
    /// Whether the connection ended with it.
    ended: bool,
}

/// The answer to these bytes, as far as it came within a moment of silence.
async fn raw(gateway: &Gateway, request: &[u8]) -> Result<Raw> {
    let mut socket = TcpStream::connect(gateway.address).await?;
    // The gateway may answer and close before it has read everything.
    let _ = socket.write_all(request).await;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 16_384];
    let mut patience = Duration::from_secs(10);
    let ended = loop {
        match timeout(patience, socket.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => answer.extend_from_slice(&buffer[..count]),
            Ok(_) => break true,
            Err(_) => break false,
        }
        patience = Duration::from_millis(200);
    };
    ensure!(!answer.is_empty(), "no answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no head: {answer}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok(Raw { status, head: head.to_lowercase(), body: body.to_owned(), ended })
}

impl Raw {
    /// Sees that the parser refused it: nothing of the request is given back, and nothing that follows it is read as another.
    fn assert_unread(&self, status: u16, what: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, ""), "{what}: {self:?}");
        assert!(self.ended && self.head.contains("\r\nconnection: close"), "{what}: {self:?}");
    }

    /// Sees that it is an error as all others, which gives back nothing of this.
    fn assert_problem(&self, status: u16, sent: &str, what: &str) {
        assert_eq!(self.status, status, "{what}: {self:?}");
        assert!(self.head.contains("\r\ncontent-type: application/problem+json"), "{what}: {self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        assert_eq!(body["status"], status, "{what}: {self:?}");
        assert!(body["detail"].as_str().is_some_and(|text| !text.contains(sent)), "{what}: {self:?}");
    }
}

#[tokio::test]
async fn broken_framing_opens_nothing_and_is_never_given_back() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let good = jwt("acme", "alice");
    let request = |header: &[u8]| {
        let mut bytes = b"GET /api/v1/sse/stream HTTP/1.1\r\nHost: gateway\r\n".to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes
    };
    for name in ["Last-Event-ID", "Cookie", "Authorization", "Tenant", "Origin"] {
        for broken in [&b"a\rinjected: 1"[..], b"a\0injected", b"a\r\n injected", b"a\x7finjected"] {
            let mut header = format!("Authorization: Bearer {good}\r\n{name}: ").into_bytes();
            header.extend_from_slice(broken);
            let what = format!("{name}: {}", broken.escape_ascii());
            raw(&gateway, &request(&header)).await?.assert_unread(400, &what);
        }
    }
    for name in ["na me", "na\0me", "", "n\r"] {
        let header = format!("Authorization: Bearer {good}\r\n{name}: x");
        raw(&gateway, &request(header.as_bytes())).await?.assert_unread(400, &format!("{name:?}"));
    }
    // A length that is in doubt is how requests are smuggled.
    for body in ["Content-Length: 1\r\nContent-Length: 2", "Content-Length: x"] {
        let header = format!("Authorization: Bearer {good}\r\n{body}");
        raw(&gateway, &request(header.as_bytes())).await?.assert_unread(400, body);
    }
    // A cursor is read, not repeated.
    let client = gateway.client("acme", "alice");
    for cursor in ["%0D%0A%0D%0Adata:%20injected", "%00injected", "injected%0Aid:%201", "%FFinjected"] {
        let mut stream = client.open_bearer(&format!("?lastEventId={cursor}"), &[]).await?;
        assert_eq!(stream.event().await?.data, r#"{"reason":"invalid"}"#, "{cursor}");
        assert!(!String::from_utf8_lossy(&stream.raw).contains("injected"), "{cursor}");
    }
    // In a claim it is a character of a name like any other.
    let mut stream = gateway.client("a\r\nb\0", "c\r\ndata: x").open_bearer("", &[]).await?;
    let publisher = nats.publisher().await?;
    publisher.publish("sse.a%0D%0Ab%00.user.c%0D%0Adata%3A%20x", "mine").await?;
    assert_eq!(stream.event().await?.data, "mine");
    for line in gateway.log().lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line:?}"))?;
        assert!(line.is_object());
    }
    Ok(())
}

#[tokio::test]
async fn too_much_of_anything_is_refused_and_the_gateway_lives() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let client = gateway.client("acme", "alice");
    let good = format!("Bearer {}", client.jwt);
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{headers}\r\n")
    };
    let long = "a".repeat(17_000);
    let many = (0..3000).fold(String::new(), |all, i| all + &format!("X-{i}: a\r\n"));
    let unread = [
        ("a JWT of 17 KB", get(STREAM, &format!("Authorization: Bearer {long}\r\n"))),
        ("a cookie of 17 KB", get(STREAM, &format!("Cookie: access_token={long}\r\n"))),
        ("a head of 1 MB", get(STREAM, &format!("X: {}\r\n", "a".repeat(1_000_000)))),
        ("3000 headers", get(STREAM, &format!("Authorization: {good}\r\n{many}"))),
        ("a query of 17 KB", get(&format!("{STREAM}&x={long}"), "")),
        ("a query of 100 KB", get(&format!("{STREAM}&x={}", "a".repeat(100_000)), "")),
    ];
    for (what, request) in &unread {
        raw(&gateway, request.as_bytes()).await.with_context(|| (*what).to_owned())?.assert_unread(431, what);
        assert_eq!(client.ask_token().await?.status, 200, "after {what}");
    }
    let read = [
        ("a token of 10 KB", get(&format!("{STREAM}&token={}", &long[..10_000]), ""), 401),
        ("10 KB of topics", get(&format!("{STREAM}&topics={}", &long[..10_000]), ""), 400),
        ("a JWT of 15 KB", get(STREAM, &format!("Authorization: Bearer {}\r\n", &long[..15_000])), 401),
    ];
    for (what, request, status) in &read {
        raw(&gateway, request.as_bytes()).await?.assert_problem(*status, &long[..100], what);
        assert_eq!(client.ask_token().await?.status, 200, "after {what}");
    }
    let cursor = get(STREAM, &format!("Authorization: {good}\r\nLast-Event-ID: {}\r\n", &long[..8000]));
    let opened = raw(&gateway, cursor.as_bytes()).await?;
    assert_eq!(opened.status, 200, "{opened:?}");
    assert!(
        opened.body.contains(r#"{"reason":"invalid"}"#) && !opened.body.contains(&long[..100]),
        "{opened:?}"
    );
    // A body that nobody asked for is not read: the answer is there before it.
    let body = "a".repeat(200_000);
    for length in ["Content-Length: 4000000000", "Transfer-Encoding: chunked"] {
        let request = format!(
            "POST {TOKEN} HTTP/1.1\r\nHost: x\r\nAuthorization: {good}\r\n{length}\r\n\r\n30D40\r\n{body}"
        );
        let answer = raw(&gateway, request.as_bytes()).await?;
        assert_eq!(answer.status, 200, "{length}: {answer:?}");
        assert!(answer.body.contains(r#"{"token":""#), "{length}: {answer:?}");
    }
    assert_eq!(over_http2(&gateway, &[("authorization", &good), ("x", &long)]).await?, 431);
    assert_eq!(over_http2(&gateway, &[("authorization", &good)]).await?, 204);
    Ok(())
}

async fn over_http2(gateway: &Gateway, headers: &[(&str, &str)]) -> Result<u16> {
    let socket = TokioIo::new(TcpStream::connect(gateway.address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(format!("http://gateway{STREAM}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response =
        timeout(Duration::from_secs(10), sender.send_request(request.body(Empty::<Bytes>::new())?));
    let status = response.await??.status().as_u16();
    connection.abort();
    Ok(status)
}
