//! The JWT in a cookie: when it counts, whose pages may use it, and what a native `EventSource` gets
//! where others get 503.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sse_tests::client::{Answer, Client};
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};
use tokio::net::TcpStream;

/// Who asks with it is answered at once: a good credential gets 204.
const STREAM: &str = "/api/v1/sse/stream?lastEventId=00000000-1-end";

fn modes(modes: &[&str]) -> Value {
    json!({"auth": {"modes": modes, "cookie": {"name": "session"}}})
}

async fn ask(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    gateway.client("acme", "alice").request(Method::GET, path, headers).await
}

async fn status(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Result<u16> {
    Ok(ask(gateway, path, headers).await?.status.as_u16())
}

/// An answer that asks an `EventSource` to come back.
fn assert_comes_back(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let retry = answer.body.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
    let ms: Option<u32> = retry.and_then(|ms| ms.parse().ok());
    assert!(ms.is_some_and(|ms| (1000..=5000).contains(&ms)), "{:?}", answer.body);
}

#[tokio::test]
async fn a_cookie_opens_a_stream_of_its_user_and_no_token() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, modes(&["Token", "Bearer", "Cookie"])).await?;
    let cookie = format!("theme=dark; session={}; lang=en", jwt("acme", "carol"));
    // A client without an `Authorization` of its own.
    let mut stream = gateway.client("acme", "carol").open_cookie("", &cookie, &[]).await?;
    let publisher = nats.publisher().await?;
    publisher.publish("sse.acme.user.alice", "for another").await?;
    publisher.publish("sse.acme.user.carol", "for carol").await?;
    assert_eq!(stream.event().await?.data, "for carol");
    let client = gateway.client("acme", "carol");
    let answer = client.request(Method::POST, "/api/v1/sse/token", &[("cookie", &cookie)]).await?;
    assert_eq!(answer.status, 401);
    assert!(!gateway.log().contains(&cookie), "the cookie is in the log");
    Ok(())
}

#[tokio::test]
async fn without_the_mode_a_cookie_is_nothing() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, modes(&["Token", "Bearer"])).await?;
    let cookie = format!("session={}", jwt("acme", "alice"));
    assert_eq!(status(&gateway, STREAM, &[("cookie", &cookie)]).await?, 401);
    // What no cookie speaks for is not refused for its origin.
    let bearer = format!("Bearer {}", jwt("acme", "alice"));
    let foreign = [("cookie", &*cookie), ("authorization", &bearer), ("origin", "https://evil.example")];
    assert_eq!(status(&gateway, STREAM, &foreign).await?, 204);
    Ok(())
}

#[tokio::test]
async fn the_query_counts_before_the_header_and_the_header_before_the_cookie() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, modes(&["Token", "Bearer", "Cookie"])).await?;
    let publisher = nats.publisher().await?;
    let cookie = format!("session={}", jwt("acme", "by-cookie"));
    let bearer = format!("Bearer {}", jwt("acme", "by-bearer"));
    let token = gateway.client("acme", "by-token").token().await?;
    let client = gateway.client("acme", "stranger");
    let query = format!("?token={token}");
    let authorization = [("authorization", &*bearer)];
    let mut streams = [
        (client.open_cookie(&query, &cookie, &authorization).await?, "by-token"),
        (client.open_cookie("", &cookie, &authorization).await?, "by-bearer"),
        (client.open_cookie("", &cookie, &[]).await?, "by-cookie"),
        // Somebody else's scheme, as a proxy may add it.
        (client.open_cookie("", &cookie, &[("authorization", "Basic YTpi")]).await?, "by-cookie"),
    ];
    for user in ["by-token", "by-bearer", "by-cookie"] {
        publisher.publish(&format!("sse.acme.user.{user}"), user).await?;
    }
    for (stream, user) in &mut streams {
        assert_eq!(stream.event().await?.data, *user);
    }
    // A bad one does not fall through to a good one.
    let bad_bearer = [("cookie", &*cookie), ("authorization", "Bearer bad")];
    assert_eq!(status(&gateway, STREAM, &bad_bearer).await?, 401);
    let bad_token = format!("{STREAM}&token={}", "0".repeat(32));
    assert_eq!(status(&gateway, &bad_token, &[("cookie", &cookie)]).await?, 401);
    Ok(())
}

#[tokio::test]
async fn a_foreign_page_may_not_use_the_cookie() -> Result<()> {
    let nats = Nats::start().await?;
    let mut patch = modes(&["Bearer", "Cookie"]);
    patch["cors"] = json!({"allowedOrigins": ["https://app.example.com"]});
    let gateway = Gateway::start(&nats, patch).await?;
    let cookie = format!("session={}", jwt("acme", "alice"));
    let asked = async |more: &[(&str, &str)]| {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend_from_slice(more);
        status(&gateway, STREAM, &headers).await
    };
    assert_eq!(asked(&[]).await?, 204);
    // The client's `Host` is `gateway`.
    for good in ["https://gateway", "http://gateway", "http://GATEWAY:80", "https://app.example.com"] {
        assert_eq!(asked(&[("origin", good)]).await?, 204, "{good}");
    }
    for foreign in [
        "https://evil.example",
        "https://gateway.evil.example",
        "https://gateway:8443",
        "http://app.example.com",
        "https://app.example.com:444",
        "https://app.example.com.evil.example",
        "null",
        "*",
        "",
    ] {
        assert_eq!(asked(&[("origin", foreign)]).await?, 403, "{foreign:?}");
    }
    assert_eq!(asked(&[("origin", "https://gateway"), ("origin", "https://evil.example")]).await?, 403);
    for (site, expected) in [("cross-site", 403), ("same-site", 403), ("same-origin", 204), ("none", 204)] {
        assert_eq!(asked(&[("sec-fetch-site", site)]).await?, expected, "{site}");
    }
    let allowed = [("origin", "https://app.example.com"), ("sec-fetch-site", "cross-site")];
    assert_eq!(asked(&allowed).await?, 204);
    // What a page must add itself is no ambient authority.
    let bearer = format!("Bearer {}", jwt("acme", "alice"));
    let fetch = [("authorization", &*bearer), ("origin", "https://evil.example")];
    assert_eq!(asked(&fetch).await?, 204);
    Ok(())
}

#[tokio::test]
async fn over_http2_the_authority_is_the_host() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, modes(&["Cookie"])).await?;
    let socket = TokioIo::new(TcpStream::connect(gateway.address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await?;
    let connection = tokio::spawn(connection);
    for (origin, expected) in [("https://live.example.com", 204), ("https://evil.example", 403)] {
        let request = Request::get(format!("https://live.example.com{STREAM}"))
            .header("origin", origin)
            // HTTP/2 may split them.
            .header("cookie", "a=b")
            .header("cookie", format!("session={}", jwt("acme", "alice")))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        assert_eq!(response.status(), expected, "{origin}");
        response.into_body().collect().await?;
    }
    connection.abort();
    Ok(())
}

#[tokio::test]
async fn two_cookies_that_differ_are_refused() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, modes(&["Cookie"])).await?;
    let (alice, mallory) = (jwt("acme", "alice"), jwt("acme", "mallory"));
    let cases = [
        (format!("session={alice}; session={alice}"), 204),
        (format!("session={mallory}; session={alice}"), 401),
        (format!("session={alice}; session=x"), 401),
        (format!("session=; session={alice}"), 204),
        (format!("SESSION={alice}"), 401),
        ("session=".to_owned(), 401),
        (format!("session={alice}x"), 401),
    ];
    for (cookie, expected) in &cases {
        assert_eq!(status(&gateway, STREAM, &[("cookie", cookie)]).await?, *expected, "{cookie}");
    }
    let two = [("cookie", &*format!("session={mallory}")), ("cookie", &*format!("session={alice}"))];
    assert_eq!(status(&gateway, STREAM, &two).await?, 401);
    Ok(())
}

#[tokio::test]
async fn where_others_get_503_an_event_source_is_asked_to_come_back() -> Result<()> {
    let mut nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, modes(&["Bearer", "Cookie"])).await?;
    let cookie = format!("session={}", jwt("acme", "alice"));
    let bearer = format!("Bearer {}", jwt("acme", "alice"));
    let by_cookie = [("cookie", cookie.as_str())];
    let by_bearer = [("authorization", bearer.as_str())];
    nats.kill().await?;
    eventually("the outage", Duration::from_secs(10), || async {
        let status = status(&gateway, STREAM, &by_bearer).await?;
        ensure!(status == 503, "{status}");
        Ok(())
    })
    .await?;
    let answer = ask(&gateway, STREAM, &by_cookie).await?;
    assert_comes_back(&answer);
    assert_eq!(answer.headers["connection"], "close");
    // Foreign pages learn nothing, and what is no stream request stays an error.
    let foreign = [by_cookie[0], ("origin", "https://evil.example")];
    assert_eq!(status(&gateway, STREAM, &foreign).await?, 403);
    assert_eq!(status(&gateway, STREAM, &[("cookie", "other=1")]).await?, 503);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_drains_or_is_full_asks_an_event_source_to_come_back() -> Result<()> {
    let nats = Nats::start().await?;
    let mut patch = modes(&["Bearer", "Cookie"]);
    patch["limits"] = json!({"maxConnectionsPerPod": 1});
    patch["drain"] = json!({"windowSeconds": 10});
    let gateway = Gateway::start(&nats, patch).await?;
    let cookie = format!("session={}", jwt("acme", "bob"));
    let full = async || ask(&gateway, "/api/v1/sse/stream", &[("cookie", &cookie)]).await;
    let held = gateway.client("acme", "alice").open_bearer("", &[]).await?;
    assert_comes_back(&full().await?);
    let other = Client::new(gateway.address, "acme", "bob");
    let refused = other.open_bearer("", &[]).await.map(drop).expect_err("a full pod").to_string();
    assert!(refused.contains("503"), "{refused}");
    gateway.terminate()?;
    eventually("the drain", Duration::from_secs(8), || async {
        let authorization = format!("Bearer {}", jwt("acme", "bob"));
        let answer = ask(&gateway, STREAM, &[("authorization", &authorization)]).await?;
        ensure!(answer.status == 503, "{}", answer.status);
        Ok(())
    })
    .await?;
    assert_comes_back(&full().await?);
    drop(held);
    Ok(())
}
