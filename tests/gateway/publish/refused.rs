//! What can not be an event is refused when it is posted, and never comes into the log.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use hyper::Method;
use serde_json::json;
use sse_tests::process::Nats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{EVENTS, gateway, place, service};

const SOON: Duration = Duration::from_secs(10);

/// Subject, headers, body; status and what the problem says.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[tokio::test]
async fn what_the_feed_would_refuse_is_refused_at_once_and_stored_nowhere() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({"limits": {"maxPayloadBytes": 200}})).await?;
    let shop = service(&gateway, "acme", &json!([">"]));
    let before = place(&shop.post("all", &[], "first").await?)?;
    let structured = [("content-type", "application/cloudevents+json")];
    let large = [b'x'; 201];
    let long = "a,".repeat(2100) + "a";
    let kind = |kind| [("content-type", kind)];
    let (batch, form) = (kind("application/cloudevents-batch+json"), kind("multipart/form-data; boundary=x"));
    let latin = kind("text/plain; charset=iso-8859-1");
    let cases: [Case<'_>; 34] = [
        ("all", &[], b"", 400, "empty"),
        ("all", &[], b"\xff", 400, "UTF-8"),
        ("all", &[], &large, 413, "limits.maxPayloadBytes"),
        ("all", &batch, b"[]", 415, "batch"),
        ("all", &form, b"--x--", 415, "UTF-8"),
        ("all", &latin, b"x", 415, "UTF-8"),
        ("all", &[("content-encoding", "gzip")], b"x", 415, "Content-Encoding"),
        ("all", &structured, b"{}", 400, "CloudEvent"),
        (
            "all",
            &structured,
            br#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#,
            400,
            "version 1.0",
        ),
        ("all", &structured, br#"{"specversion":"1.0","source":"/s","type":"t"}"#, 400, "no id"),
        ("all", &structured, br#"{"specversion":"1.0","id":"1","source":"","type":"t"}"#, 400, "no source"),
        ("all", &structured, br#"{"specversion":"1.0","id":"1","source":"/s","type":null}"#, 400, "no type"),
        (
            "all",
            &structured,
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"a\nb"}"#,
            400,
            "usable type",
        ),
        (
            "all",
            &structured,
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"/w=="}"#,
            400,
            "UTF-8",
        ),
        ("all", &[("ce-type", "a%0Ab")], b"x", 400, "Sse-Event"),
        ("all", &[("sse-event", "")], b"x", 400, "Sse-Event"),
        ("all", &[("sse-retry", "soon")], b"x", 400, "Sse-Retry"),
        ("all", &[("sse-complete", "yes")], b"x", 400, "Sse-Complete"),
        ("all", &[("nats-ttl", "soon")], b"x", 400, "Nats-TTL"),
        ("all", &[("nats-ttl", "")], b"x", 400, "Nats-TTL"),
        ("all", &[("nats-msg-id", "")], b"x", 400, "Nats-Msg-Id"),
        ("all", &[("nats-sequence", "1")], b"x", 400, "nats-sequence"),
        ("all", &[("nats-marker-reason", "MaxAge")], b"x", 400, "nats-marker-reason"),
        ("all", &[("nats-expected-last-sequence", "1")], b"x", 400, "nats-expected-last-sequence"),
        ("all", &[("sse-evnt", "tick")], b"x", 400, "sse-evnt"),
        ("users", &[], b"x", 400, "Sse-Users"),
        ("users", &[("sse-users", "alice@example.com")], b"x", 400, "canonical"),
        ("users", &[("sse-users", &long)], b"x", 400, "4096"),
        ("topics", &[("sse-topics", "News")], b"x", 400, "lower case"),
        ("user.al%69ce", &[], b"x", 400, "canonical"),
        ("user.*", &[], b"x", 400, "canonical"),
        ("topic.News", &[], b"x", 400, "lower case"),
        ("nowhere", &[], b"x", 400, "names no target"),
        ("all", &[("sse-subject", "all")], b"x", 400, "more than once"),
    ];
    for (subject, headers, body, status, detail) in cases {
        let answer = shop.post(subject, headers, body.to_vec()).await?;
        let case = format!("{subject} {headers:?}: {} {}", answer.status, answer.body);
        ensure!(answer.status == status && answer.body.contains(detail), "{case}, not {status} {detail:?}");
        ensure!(answer.headers["content-type"] == "application/problem+json", "{case}");
    }
    let bearer = format!("Bearer {}", shop.jwt);
    let unnamed = shop.request_with(Method::POST, EVENTS, &[("authorization", &bearer)], "x").await?;
    ensure!(unnamed.status == 400 && unnamed.body.contains("Sse-Subject"), "{unnamed:?}");
    // The limit is exact; and none of them has a place in the log.
    let after = place(&shop.post("all", &[], vec![b'x'; 200]).await?)?;
    let sequence = |id: &str| id.rsplit('-').next().and_then(|text| text.parse::<u64>().ok());
    ensure!(sequence(&after) == sequence(&before).map(|sequence| sequence + 1), "{before} {after}");
    ensure!(gateway.status().await?["refusedEvents"] == 0, "refused by the feed");
    Ok(())
}

/// Requirement L4: in bytes of UTF-8, whichever way an event comes.
#[tokio::test]
async fn by_default_16384_bytes_are_delivered_and_one_more_is_not() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let (shop, publisher) = (service(&gateway, "acme", &json!([">"])), nats.publisher().await?);
    let mut letters = publisher.client.subscribe("sse-dead.>").await?;
    publisher.client.flush().await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let (full, full_of_two) = ("x".repeat(16_384), "ü".repeat(8_192));
    for payload in [&full, &full_of_two] {
        place(&shop.post("user.alice", &[], payload.clone()).await?)?;
        ensure!(stream.event().await?.data == *payload, "over HTTP");
        publisher.publish("sse.acme.user.alice", payload).await?;
        ensure!(stream.event().await?.data == *payload, "over NATS");
    }
    for payload in [full + "x", full_of_two + "x"] {
        let answer = shop.post("user.alice", &[], payload.clone()).await?;
        ensure!(answer.status == 413 && answer.body.contains("limits.maxPayloadBytes"), "{answer:?}");
        ensure!(answer.headers["content-type"] == "application/problem+json", "{answer:?}");
        publisher.publish("sse.acme.user.alice", &payload).await?;
        let letter = timeout(SOON, letters.next()).await?.context("a letter")?;
        let reason = letter.headers.as_ref().and_then(|headers| headers.get("Sse-Dead-Reason"));
        let reason = reason.context("a reason")?.as_str();
        ensure!(reason.contains("limits.maxPayloadBytes"), "{reason}");
        ensure!(letter.payload == payload, "another payload");
    }
    // Those of HTTP never came into the log; and nothing of either reached alice.
    ensure!(gateway.status().await?["refusedEvents"] == 2, "{}", gateway.status().await?);
    publisher.publish("sse.acme.user.alice", "after").await?;
    ensure!(stream.until("after").await? == ["after"]);
    Ok(())
}

#[tokio::test]
async fn what_is_odd_but_legal_breaks_no_connection_to_nats() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let shop = service(&gateway, "acme", &json!([">"]));
    let level = format!("{}.", "l".repeat(120));
    // Longer than a line of NATS may be, and just not.
    let long = shop.post(&format!("topic.{}end", level.repeat(31)), &[], "x").await?;
    ensure!(long.status == 400 && long.body.contains("longer than"), "{long:?}");
    place(&shop.post(&format!("topic.{}end", level.repeat(25)), &[], "x").await?)?;
    let wide = "w".repeat(8000);
    let odd = [
        ("ce-empty", ""),
        ("ce-!#$%&'*+-.^_`|~", "a name"),
        ("ce-text", "\tsmall: größer\u{85}\u{2028}\t"),
        ("ce-wide", &wide),
        ("sse-event", "größer"),
        ("tracestate", ""),
    ];
    place(&shop.post("user.alice", &odd, "odd").await?)?;
    let event = stream.event().await?;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("größer", "odd"));
    let metrics = gateway.get("/metrics").await?.1;
    ensure!(metrics.contains("\nsse_server_nats_reconnects_total 0\n"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn the_query_may_name_the_subject_where_a_sender_has_no_headers() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let mut stream = gateway.client("acme", "b@b.example").open("").await?;
    let shop = service(&gateway, "acme", &json!(["user.*"]));
    let bearer = format!("Bearer {}", shop.jwt);
    // A query is decoded once: what is encoded in a subject is encoded twice here.
    let path = format!("{EVENTS}?subject=user.b%2540b%252Eexample");
    let post = async |headers: &[(&str, &str)]| {
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        shop.request_with(Method::POST, &path, &all, "by its address").await
    };
    let id = place(&post(&[]).await?)?;
    let event = stream.event().await?;
    assert_eq!((event.data.as_str(), event.id), ("by its address", id));
    assert_eq!(post(&[("sse-subject", "user.b%40b%2Eexample")]).await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_long_or_too_late_is_not_waited_for() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let shop = service(&gateway, "acme", &json!("all"));
    let answer = async |more: &str| {
        let mut socket = TcpStream::connect(gateway.address).await?;
        let head = format!(
            "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nSse-Subject: all\r\n{more}",
            shop.jwt
        );
        socket.write_all(head.as_bytes()).await?;
        let mut buffer = vec![0; 1024];
        let count = timeout(Duration::from_secs(20), socket.read(&mut buffer)).await??;
        anyhow::Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    };
    // Announced, and not even sent; and of no announced length.
    let announced = answer("Content-Length: 1000000000\r\n\r\n").await?;
    ensure!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let chunk = format!("Transfer-Encoding: chunked\r\n\r\n5000\r\n{}", "x".repeat(0x5000));
    let endless = answer(&chunk).await?;
    ensure!(endless.starts_with("HTTP/1.1 413 "), "{endless}");
    let late = answer("Content-Length: 10\r\n\r\nx").await?;
    ensure!(late.starts_with("HTTP/1.1 408 "), "{late}");
    Ok(())
}
