//! Clients that are not ours see what was published, by the specification of Server-Sent Events (WHATWG HTML, section
//! 9.2), and come back from a cut without a gap or a duplicate.
//!
//! Each gets the same inputs again and again: live, replayed after the gateway was killed under it and after it drained,
//! and live after each. Where a client is known to deviate from the specification, its test says how, and expects just
//! that.

mod chromium;
mod rust;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::authority::{Authority, Pair};
use sse_tests::clients::{Seen, Watcher};
use sse_tests::collector::{Collector, Span};
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};
use sse_tests::publisher::Publisher;
use tempfile::TempDir;
use tokio::time::timeout;

/// For all that a round brings, to a client that has to come back first; and for a browser to start.
const ROUND: Duration = Duration::from_mins(1);
/// What ends each round: whatever came too often would come before.
const LAST: &str = "the last";
/// The event types of the inputs, and `message`, which is what an event without one is.
const TYPES: [&str; 6] = ["message", "order.shipped", "data", "two  words", "größe:✓", "id: 7"];

/// What is published: an event type, and data.
fn inputs() -> Vec<(Option<&'static str>, String)> {
    let data = [
        "plain",
        "",
        "a\nb\nc",
        "a\rb\r\nc\n\nd\r\r\ne",
        "ends\n",
        "ends\r\n",
        "\nbegins",
        "\n",
        "\r",
        ":",
        ": no comment",
        "a: b:c::",
        " one space",
        "  two spaces\n \n\ttab ",
        "data: no field\ndata\nid: 7\nid\nevent: none\nretry: 1\n\n: no comment\nretry: 1",
        "nul \0 in it",
        "\u{feff}begins with a byte order mark",
        // To some languages they end lines.
        "a\u{b}b\u{c}c\u{1c}d\u{1d}e\u{1e}f\u{85}g\u{2028}h\u{2029}i",
        "{\"json\": \"ünïcödé ✓ 🦀\"}",
    ];
    let mut inputs: Vec<_> = data.into_iter().map(|data| (None, data.to_owned())).collect();
    inputs.extend(TYPES.map(|kind| (Some(kind), format!("of type {kind}"))));
    inputs.push((Some("order.shipped"), String::new()));
    // Characters of four bytes, wherever 16,384 bytes end, in four ways; and wherever anybody else reads up to.
    for shift in 0..4 {
        inputs.push((None, "x".repeat(16_000 + shift) + &"🦀".repeat(200)));
        inputs.push((None, "x".repeat(shift) + &"🦀".repeat(40_000)));
    }
    inputs.push((None, "x".repeat(200_000)));
    inputs.push((None, "y\n".repeat(20_000)));
    inputs.push((None, LAST.to_owned()));
    inputs
}

/// Publishes the inputs. Returns what a client by the letter of the specification sees.
async fn publish(publisher: &Publisher, gateway_epoch: &str) -> Result<Vec<Seen>> {
    let mut expected = Vec::new();
    for (kind, data) in inputs() {
        let headers: Vec<_> = kind.map(|kind| ("Sse-Event", kind)).into_iter().collect();
        let sequence = publisher.publish_with("sse.acme.user.alice", &headers, &data).await?;
        expected.push(Seen {
            kind: kind.unwrap_or("message").to_owned(),
            id: format!("{gateway_epoch}-{sequence}"),
            data: data.replace("\r\n", "\n").replace('\r', "\n"),
        });
    }
    Ok(expected)
}

/// How a client reads a stream otherwise than the specification has it.
#[derive(Clone, Copy, Default)]
struct Deviation {
    /// It dispatches blocks that have no data: comments, positions, `retry`.
    dispatches_without_data: bool,
    /// What it makes of the data of an event.
    data: Option<fn(&str) -> String>,
}

/// How a gateway ends under its client.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The stream is cut.
    Killed,
    /// The stream ends as HTTP has it, and who comes back too early is refused for a while.
    Drained,
}

/// A world with one gateway, for one client.
struct World {
    nats: Nats,
    gateway: Gateway,
    publisher: Publisher,
    epoch: String,
    scheme: &'static str,
}

impl World {
    async fn start(more: Value) -> Result<Self> {
        Self::start_with(more, None).await
    }

    /// The same, of a gateway that serves TLS.
    async fn start_with(more: Value, tls: Option<Pair>) -> Result<Self> {
        let nats = Nats::start().await?;
        let mut patch = json!({"limits": {"maxPayloadBytes": 262_144}, "stream": {"retryMs": 100}});
        sse_tests::process::merge(&mut patch, more);
        let scheme = if tls.is_some() { "https" } else { "http" };
        if tls.is_some() {
            patch["tls"] = json!({"secretName": "cert"});
        }
        let gateway = Gateway::start_unready(&nats, "tests/gateway", patch)?;
        if let Some(pair) = tls {
            gateway.write_secret("cert", "tls.crt", &pair.certificate)?;
            gateway.write_secret("cert", "tls.key", &pair.key)?;
        }
        gateway.ready().await?;
        let publisher = nats.publisher().await?;
        let epoch = gateway.status().await?["stream"]["epoch"].as_str().context("an epoch")?.to_owned();
        Ok(Self { nats, gateway, publisher, epoch, scheme })
    }

    fn base(&self) -> String {
        format!("{}://{}/api/v1/sse", self.scheme, self.gateway.address)
    }

    /// Starts a program, and has it see everything.
    async fn watched_by(self, program: &str, arguments: &[&str], deviation: Deviation) -> Result<()> {
        let base = self.base();
        let arguments: Vec<&str> = [base.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        let watcher = Watcher::start(program, &jwt("acme", "alice"), &arguments)?;
        self.seen_by(watcher, deviation).await
    }

    async fn connected(&self, watcher: &Watcher) -> Result<()> {
        eventually("a stream", ROUND, || async {
            let status = self.gateway.status().await?;
            ensure!(status["connections"] == 1, "{status} {}", watcher.said());
            Ok(())
        })
        .await
    }

    async fn seen_by(mut self, mut watcher: Watcher, deviation: Deviation) -> Result<()> {
        self.connected(&watcher).await?;
        let live = publish(&self.publisher, &self.epoch).await?;
        sees(&mut watcher, live, deviation).await.context("live")?;
        for end in [End::Killed, End::Drained] {
            match end {
                End::Killed => self.gateway.kill().await?,
                End::Drained => {
                    self.gateway.terminate()?;
                    self.gateway.exit_code(Duration::from_secs(20)).await?;
                }
            }
            let away = publish(&self.publisher, &self.epoch).await?;
            self.gateway.restart()?;
            self.gateway.ready().await?;
            sees(&mut watcher, away, deviation).await.with_context(|| format!("{end:?}, then replayed"))?;
            let live = publish(&self.publisher, &self.epoch).await?;
            sees(&mut watcher, live, deviation).await.with_context(|| format!("{end:?}, then live"))?;
        }
        Ok(())
    }
}

async fn sees(watcher: &mut Watcher, mut expected: Vec<Seen>, deviation: Deviation) -> Result<()> {
    if let Some(data) = deviation.data {
        expected.iter_mut().for_each(|event| event.data = data(&event.data));
    }
    let empty: BTreeSet<String> =
        expected.iter().filter(|event| event.data.is_empty()).map(|event| event.id.clone()).collect();
    let read = async {
        for event in expected {
            let mut seen = watcher.next().await?;
            while deviation.dispatches_without_data && seen.data.is_empty() && !empty.contains(&seen.id) {
                seen = watcher.next().await?;
            }
            ensure!(seen == event, "expected {}, but it saw {}", short(&event), short(&seen));
        }
        Ok(())
    };
    // Heartbeats alone are events without an end to some.
    timeout(ROUND, read).await.context("it sees nothing of what was published")?
}

/// Enough of an event to know it by.
fn short(event: &Seen) -> String {
    let length = event.data.len();
    let data: String = event.data.chars().take(80).collect();
    format!("{:?} {} {data:?} of {length} bytes", event.kind, event.id)
}

/// Sees that each handshake was one of HTTP/2: as the gateway that drained told, at least. The others were killed with what
/// they had to tell.
async fn over_http2(collector: &Collector) -> Result<()> {
    let versions = |spans: &[Span]| -> Vec<Value> {
        let streams =
            spans.iter().filter(|span| span.name == "sse.connect" && span.attributes["sse.result"] == "ok");
        streams.map(|span| span.attributes["network.protocol.version"].clone()).collect()
    };
    let versions =
        collector.spans(|spans| Some(versions(spans)).filter(|versions| !versions.is_empty())).await?;
    ensure!(versions.iter().all(|version| version == "2"), "{versions:?}");
    Ok(())
}

#[tokio::test]
async fn eventsource_of_npm_sees_everything_and_comes_back_with_a_token_each_time() -> Result<()> {
    let arguments = [&[""], &TYPES[..]].concat();
    World::start(json!({})).await?.watched_by("eventsource.cjs", &arguments, Deviation::default()).await
}

#[tokio::test]
async fn eventsource_of_npm_sees_everything_over_http2_too() -> Result<()> {
    let (authority, collector, dir) = (Authority::new()?, Collector::start().await?, TempDir::new()?);
    let pem = dir.path().join("authority.pem");
    std::fs::write(&pem, authority.pem())?;
    let telemetry = json!({"telemetry": collector.telemetry("grpc")});
    let world = World::start_with(telemetry, Some(authority.pair()?)).await?;
    let pem = pem.to_string_lossy();
    let arguments = [&[&*pem], &TYPES[..]].concat();
    world.watched_by("eventsource.cjs", &arguments, Deviation::default()).await?;
    over_http2(&collector).await
}

/// That of `@microsoft/fetch-event-source`.
const FETCH_EVENT_SOURCE: Deviation = Deviation {
    dispatches_without_data: true,
    // It forgets empty lines before the first with text, and decodes each line as if a text began there.
    data: Some(|data| {
        let lines: Vec<_> =
            data.split('\n').map(|line| line.strip_prefix('\u{feff}').unwrap_or(line)).collect();
        lines.join("\n").trim_start_matches('\n').to_owned()
    }),
};

#[tokio::test]
async fn fetch_event_source_of_npm_sees_everything_and_comes_back() -> Result<()> {
    let world = World::start(json!({})).await?;
    world.watched_by("fetch_event_source.cjs", &[], FETCH_EVENT_SOURCE).await
}

#[tokio::test]
async fn httpx_sse_of_pypi_sees_everything_and_comes_back_over_http1_and_http2() -> Result<()> {
    let deviation = Deviation { dispatches_without_data: true, data: None };
    for version in ["1", "2"] {
        let world = World::start(json!({})).await?;
        world.watched_by("httpx_client.py", &[version], deviation).await.context(version)?;
    }
    Ok(())
}

#[tokio::test]
async fn go_sse_sees_everything_and_comes_back_over_http1_and_http2() -> Result<()> {
    let deviation = Deviation { dispatches_without_data: true, data: None };
    for version in ["1", "2"] {
        let world = World::start(json!({})).await?;
        world.watched_by("sse-watch", &[version], deviation).await.context(version)?;
    }
    Ok(())
}

#[tokio::test]
async fn eventsource_client_of_rust_sees_everything_and_comes_back_over_http1_and_http2() -> Result<()> {
    for http2 in [false, true] {
        let world = World::start(json!({})).await?;
        let watcher = rust::watcher(&world.base(), &jwt("acme", "alice"), http2)?;
        world.seen_by(watcher, Deviation::default()).await.with_context(|| format!("HTTP/2: {http2}"))?;
    }
    Ok(())
}
