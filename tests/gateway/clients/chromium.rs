//! Debian's Chromium, with a page of another origin: its `EventSource` and its `fetch`, over HTTP/1.1, and
//! over TLS, where it chooses HTTP/2: the spans of the gateway say so.

use anyhow::Result;
use serde_json::{Value, json};
use sse_tests::authority::Authority;
use sse_tests::collector::{Collector, Span};
use sse_tests::process::{free_port, merge};
use tempfile::TempDir;

use super::{Deviation, FETCH_EVENT_SOURCE, TYPES, World};

/// A page of this origin; whose PEM is in the file, if it is of https.
async fn watched(
    style: &str,
    (page, pem): (&str, &str),
    tls: Option<&Authority>,
    more: Value,
    deviation: Deviation,
) -> Result<()> {
    let mut patch = json!({
        "auth": {"modes": ["Token", "Bearer", "Cookie"], "cookie": {"name": "session"}},
        "cors": {"allowedOrigins": [page]},
    });
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
    let versions = |spans: &[Span]| -> Vec<Value> {
        let streams =
            spans.iter().filter(|span| span.name == "sse.connect" && span.attributes["sse.result"] == "ok");
        streams.map(|span| span.attributes["network.protocol.version"].clone()).collect()
    };
    // Of the gateway that drained, at least: the others were killed with what they had to tell.
    let versions =
        collector.spans(|spans| Some(versions(spans)).filter(|versions| !versions.is_empty())).await?;
    assert!(versions.iter().all(|version| version == "2"), "{style}: {versions:?}");
    Ok(())
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
