//! Debian's Chromium, with a page of another origin: its `EventSource` and its `fetch`, over HTTP/1.1, and
//! over TLS, where it chooses HTTP/2: the spans of the gateway say so.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::authority::Authority;
use sse_tests::clients::{Seen, Watcher};
use sse_tests::collector::Collector;
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::process::{free_port, merge};
use sse_tests::proxy::Proxy;
use tempfile::TempDir;

use super::{Deviation, FETCH_EVENT_SOURCE, ROUND, TYPES, World, over_http2};

/// What serves a page of this origin.
fn serving(page: &str) -> Value {
    json!({
        "auth": {"modes": ["Token", "Bearer", "Cookie"], "cookie": {"name": "session"}},
        "cors": {"allowedOrigins": [page]},
    })
}

/// A page of this origin; whose PEM is in the file, if it is of https.
async fn watched(
    style: &str,
    (page, pem): (&str, &str),
    tls: Option<&Authority>,
    more: Value,
    deviation: Deviation,
) -> Result<()> {
    let mut patch = serving(page);
    merge(&mut patch, more);
    let arguments: Vec<&str> = [page, pem, style].into_iter().chain(TYPES).collect();
    let world = World::start_with(patch, tls.map(Authority::pair).transpose()?).await?;
    world.watched_by("chromium.cjs", &arguments, deviation).await
}

async fn chromium(style: &str, deviation: Deviation) -> Result<()> {
    let page = format!("http://127.0.0.1:{}", free_port()?);
    watched(style, (&page, ""), None, json!({}), deviation).await
}

/// The same within TLS; each handshake was one of HTTP/2.
async fn chromium_over_http2(style: &str, deviation: Deviation) -> Result<()> {
    let (authority, collector, dir) = (Authority::new()?, Collector::start().await?, TempDir::new()?);
    let (page, pem) = (format!("https://127.0.0.1:{}", free_port()?), dir.path().join("page.pem"));
    let pair = authority.pair()?;
    std::fs::write(&pem, pair.certificate + &pair.key)?;
    let more = json!({"telemetry": collector.telemetry("grpc")});
    watched(style, (&page, &pem.to_string_lossy()), Some(&authority), more, deviation).await?;
    over_http2(&collector).await.with_context(|| style.to_owned())
}

#[tokio::test]
async fn event_source_of_chromium_comes_back_by_itself_with_a_cookie() -> Result<()> {
    chromium("cookie", Deviation::default()).await
}

#[tokio::test]
async fn event_source_of_chromium_sees_everything_and_comes_back_with_a_token_each_time() -> Result<()> {
    chromium("token", Deviation::default()).await
}

#[tokio::test]
async fn fetch_of_chromium_sees_everything_and_comes_back() -> Result<()> {
    chromium("fetch", FETCH_EVENT_SOURCE).await
}

#[tokio::test]
async fn event_source_of_chromium_comes_back_by_itself_with_a_cookie_over_http2() -> Result<()> {
    chromium_over_http2("cookie", Deviation::default()).await
}

#[tokio::test]
async fn event_source_and_fetch_of_chromium_see_everything_over_http2_too() -> Result<()> {
    chromium_over_http2("token", Deviation::default()).await?;
    chromium_over_http2("fetch", FETCH_EVENT_SOURCE).await
}

/// Any status but 200 would close it for good.
#[tokio::test]
async fn event_source_of_chromium_survives_an_outage_of_nats_and_misses_nothing() -> Result<()> {
    let page = format!("http://127.0.0.1:{}", free_port()?);
    let mut world = World::start(serving(&page)).await?;
    let line = Proxy::start(world.gateway.address).await?;
    let base = format!("http://{}/api/v1/sse", line.address);
    let arguments = [&base, &page, "", "cookie", "message"];
    let mut watcher = Watcher::start("chromium.cjs", &jwt("acme", "alice"), &arguments)?;
    world.connected(&watcher).await?;
    let mut sees = async |sequence: u64, data: &str| {
        let (kind, id) = ("message".to_owned(), format!("{}-{sequence}", world.epoch));
        let seen = watcher.next().await?;
        ensure!(seen == Seen { kind, id, data: data.into() }, "{seen:?}, and not {sequence} {data}");
        Ok(())
    };
    let publisher = &world.publisher;
    sees(publisher.publish("sse.acme.user.alice", "before").await?, "before").await?;
    line.cut();
    let away = publisher.publish("sse.acme.user.alice", "while it is away").await?;
    world.nats.kill().await?;
    eventually("the outage", ROUND, || async {
        let nats = world.gateway.status().await?["nats"].take();
        ensure!(nats["connected"] == false, "{nats}");
        Ok(())
    })
    .await?;
    line.open();
    eventually("a browser that comes back, and again when it was sent away", ROUND, || async {
        let metrics = world.gateway.get("/metrics").await?.1;
        let sent_away = "sse_server_connects_total{result=\"unavailable\"} ";
        let times = metrics.lines().find_map(|line| line.strip_prefix(sent_away)).context("a count")?;
        ensure!(times.parse::<u64>()? >= 3, "{times} times");
        Ok(())
    })
    .await?;
    world.nats.restart().await?;
    let after = publisher.insist("sse.acme.user.alice", "acme:after", "after the outage").await?;
    sees(away, "while it is away").await?;
    sees(after, "after the outage").await?;
    sees(publisher.publish("sse.acme.user.alice", "live").await?, "live").await
}
