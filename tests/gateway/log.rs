//! Reading the log: what publishers can do to it, what it does not have any more, and many at once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_gateway::nats::log::Log;
use sse_gateway::nats::{Link, LinkState};
use sse_tests::client::Stream;
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A publisher that speaks the protocol of NATS itself, and so can publish what no library would.
struct Raw(BufReader<TcpStream>);

impl Raw {
    async fn connect(nats: &Nats) -> Result<Self> {
        let url = nats.url();
        let socket = TcpStream::connect(url.strip_prefix("nats://").context("an address")?).await?;
        let mut raw = Self(BufReader::new(socket));
        raw.0.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n").await?;
        raw.flush().await?;
        Ok(raw)
    }

    async fn publish(&mut self, subject: &[u8], headers: &[u8], data: &str) -> Result<()> {
        let sizes = format!(" {} {}\r\n", headers.len(), headers.len() + data.len());
        let message = [b"HPUB ", subject, sizes.as_bytes(), headers, data.as_bytes(), b"\r\n"].concat();
        self.0.write_all(&message).await?;
        self.flush().await
    }

    /// Waits until the server has taken everything.
    async fn flush(&mut self) -> Result<()> {
        self.0.write_all(b"PING\r\n").await?;
        let mut line = String::new();
        while line != "PONG\r\n" {
            line.clear();
            ensure!(self.0.read_line(&mut line).await? > 0 && !line.starts_with("-ERR"), "{line}");
        }
        Ok(())
    }
}

const ALICE: &str = "sse.acme.user.alice";

/// Subjects and headers that the gateway's client library ends its connection at.
const UNREADABLE: [(&[u8], &[u8]); 8] = [
    // The client does not survive this one: it panics.
    (ALICE.as_bytes(), b"NATS/1.0\r\nSse-Event: a\rb\r\n\r\n"),
    (ALICE.as_bytes(), b"NATS/1.0\r\nSse-Event: a\nb\r\n\r\n"),
    (ALICE.as_bytes(), b"NATS/1.0\r\nX: \xff\r\n\r\n"),
    (ALICE.as_bytes(), b"NATS/1.0\r\nno colon\r\n\r\n"),
    (ALICE.as_bytes(), b"NATS/1.0\r\nbad name: x\r\n\r\n"),
    (ALICE.as_bytes(), b"NATS/1.0 500"),
    (b"sse.acme.user.\xff", b"NATS/1.0\r\n\r\n"),
    (b"sse.acme.user.a\x0bb", b"NATS/1.0\r\n\r\n"),
];

fn connections(gateway: &Gateway) -> usize {
    gateway.log().matches("Connected to NATS.").count()
}

async fn epoch(gateway: &Gateway) -> Result<String> {
    Ok(gateway.status().await?["stream"]["epoch"].as_str().context("an epoch")?.to_owned())
}

#[tokio::test]
async fn a_message_that_nobody_can_read_breaks_the_connection_once_and_is_passed_over() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({})).await?;
    let first = format!("{}-1", epoch(&gateway).await?);
    let (mut raw, publisher) = (Raw::connect(&nats).await?, nats.publisher().await?);
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let mut expected = Vec::new();
    for (at, (subject, headers)) in UNREADABLE.into_iter().enumerate() {
        raw.publish(subject, headers, "unreadable").await?;
        expected.push(format!("after {at}"));
        publisher.publish(ALICE, &format!("after {at}")).await?;
        let event = stream.next(Duration::from_secs(5)).await?.context("an open stream")?;
        ensure!(event.data == expected[at], "{event:?} after {headers:?}");
    }
    let live = connections(&gateway);
    ensure!(live <= 1 + 2 * UNREADABLE.len(), "{live} connections");
    // The last can not be heard, but it can be read.
    let refused = gateway.log().matches("Refused an event whose headers or subject").count();
    ensure!(refused == UNREADABLE.len() - 1, "{refused} refused");

    // A pod that has none of it in its ring reads it from the log, for several clients.
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    for _ in 0..3 {
        let mut stream = back(&gateway, &first).await?;
        ensure!(stream.until(&expected[expected.len() - 1]).await? == expected, "order or loss");
    }
    let replay = connections(&gateway) - live;
    ensure!(replay <= 3, "{replay} connections for one replay");
    publisher.publish(ALICE, "still live").await?;
    ensure!(stream_ends_with(&gateway, &first, "still live").await?);
    Ok(())
}

#[tokio::test]
async fn what_a_limit_per_subject_removed_is_known() -> Result<()> {
    let nats = Nats::start().await?;
    let publisher = nats.publisher().await?;
    let config = async_nats::jetstream::stream::Config {
        name: "SSE_sse".into(),
        subjects: vec!["sse.>".into()],
        max_messages_per_subject: 3,
        allow_direct: true,
        ..Default::default()
    };
    publisher.jetstream.create_stream(config).await?;
    for i in 1..=10 {
        // Odd sequences are alice's, even ones bob's until the sixth.
        let user = if i % 2 == 1 {
            "alice"
        } else if i <= 6 {
            "bob"
        } else {
            "carol"
        };
        publisher.publish(&format!("sse.acme.user.{user}"), "x").await?;
    }
    let (state, states) = tokio::sync::watch::channel(LinkState::default());
    state.send_modify(|state| state.connected = true);
    let (_client, clients) = tokio::sync::watch::channel(publisher.client.clone());
    let log = Log::new("SSE_sse".into(), "sse");
    log.attach(Link::new(clients, states));
    let on = |user: &str| vec![format!("sse.acme.user.{user}")];
    // Alice has 5, 7 and 9 left; bob has 2, 4 and 6; carol has not reached the limit.
    for (subjects, after, lost) in [
        (on("alice"), 3, true),
        (on("alice"), 4, false),
        (on("bob"), 1, false),
        (on("carol"), 1, false),
        (on("nobody"), 1, false),
        (vec!["sse.acme.all".into(), "sse.acme.user.*".into()], 3, true),
        (vec!["sse.acme.all".into(), "sse.acme.user.*".into()], 4, false),
    ] {
        ensure!(log.lost_since(&subjects, after, 3).await? == lost, "{subjects:?} after {after}");
    }
    for i in 0..65 {
        publisher.publish(&format!("sse.acme.topic.t{i}"), "x").await?;
    }
    ensure!(log.lost_since(&["sse.acme.topic.>".into()], 1000, 3).await?, "too many to look at");
    Ok(())
}

/// Alice's stream at this cursor: where another's replay has the connection made again she is told so, and comes back.
async fn back(gateway: &Gateway, cursor: &str) -> Result<Stream> {
    let client = gateway.client("acme", "alice");
    eventually("a stream", Duration::from_secs(5), || client.open(cursor)).await
}

async fn stream_ends_with(gateway: &Gateway, cursor: &str, last: &str) -> Result<bool> {
    let mut stream = back(gateway, cursor).await?;
    Ok(stream.until(last).await?.last().is_some_and(|data| data == last))
}

#[tokio::test]
async fn many_unreadable_messages_in_a_row_are_passed_over() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({})).await?;
    let first = format!("{}-1", epoch(&gateway).await?);
    let (mut raw, publisher) = (Raw::connect(&nats).await?, nats.publisher().await?);
    let mut stream = gateway.client("acme", "alice").open("").await?;
    let mut expected = Vec::new();
    for i in 0..300 {
        let (subject, headers) = UNREADABLE[i % UNREADABLE.len()];
        raw.publish(subject, headers, "unreadable").await?;
        expected.push(i.to_string());
        publisher.publish(ALICE, &i.to_string()).await?;
    }
    ensure!(stream.until("299").await? == expected, "live: order or loss");
    let live = eventually("a quiet connection", Duration::from_secs(20), || async {
        let before = connections(&gateway);
        let mut stream = gateway.client("acme", "alice").open("").await?;
        publisher.publish(ALICE, "quiet").await?;
        stream.until("quiet").await?;
        ensure!(connections(&gateway) == before);
        Ok(before)
    });
    let live = live.await?;
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    let mut stream = gateway.client("acme", "alice").open(&first).await?;
    ensure!(stream.until("299").await? == expected, "replay: order or loss");
    let replay = connections(&gateway) - live;
    ensure!(replay <= 4, "{replay} connections for one replay");
    Ok(())
}

#[tokio::test]
async fn a_publisher_can_not_speak_for_the_server() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({})).await?;
    let first = format!("{}-1", epoch(&gateway).await?);
    let (mut raw, publisher) = (Raw::connect(&nats).await?, nats.publisher().await?);
    let mut stream = gateway.client("acme", "alice").open("").await?;
    publisher.publish(ALICE, "before").await?;
    // A status in the headers of a stored message ends no batch and fails none.
    for status in ["204 EOB", "404 none", "408 bad", "503 gone"] {
        for end in ["\r\n", "\n"] {
            let headers = format!("NATS/1.0 {status}{end}A: b\r\n\r\n");
            raw.publish(ALICE.as_bytes(), headers.as_bytes(), status).await?;
        }
    }
    // A sequence of the publisher's own makes the event a forgery.
    raw.publish(ALICE.as_bytes(), b"NATS/1.0\r\nNats-Sequence: 1\r\n\r\n", "forged").await?;
    // Past the stream, under its subjects of the feed: without a sequence, and with an old one.
    let live = b"sse-live.acme.user.alice";
    raw.publish(live, b"NATS/1.0\r\nA: b\r\n\r\n", "forged").await?;
    raw.publish(live, b"NATS/1.0\r\n\r\n", "forged").await?;
    raw.publish(live, b"NATS/1.0\r\nNats-Sequence: 1\r\n\r\n", "forged").await?;
    raw.publish(live, b"NATS/1.0\r\nNats-Sequence: x\r\n\r\n", "forged").await?;
    publisher.publish(ALICE, "after").await?;
    let seen = stream.until("after").await?;
    let statuses: Vec<&str> = seen[1..seen.len() - 1].iter().map(String::as_str).collect();
    ensure!(seen[0] == "before" && !seen.iter().any(|data| data == "forged"), "{seen:?}");
    let all = ["204 EOB", "404 none", "408 bad", "503 gone"].map(|status| [status; 2]).concat();
    ensure!(statuses == all, "{statuses:?}");
    ensure!(connections(&gateway) == 1, "the feed was interrupted");
    gateway.kill().await?;
    gateway.restart()?;
    gateway.ready().await?;
    let mut stream = gateway.client("acme", "alice").open(&first).await?;
    ensure!(stream.until("after").await? == seen, "live and replay disagree");
    Ok(())
}
