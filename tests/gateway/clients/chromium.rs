//! Debian's Chromium, with a page of another origin: its `EventSource` and its `fetch`, over HTTP/1.1. It speaks
//! HTTP/2 over TLS alone: a gateway with TLS is another base here.

use anyhow::Result;
use serde_json::json;
use sse_tests::process::free_port;

use super::{Deviation, FETCH_EVENT_SOURCE, TYPES, World};

async fn chromium(style: &str, deviation: Deviation) -> Result<()> {
    let port = free_port()?.to_string();
    let world = World::start(json!({
        "auth": {"modes": ["Token", "Bearer", "Cookie"], "cookie": {"name": "session"}},
        "cors": {"allowedOrigins": [format!("http://127.0.0.1:{port}")]},
    }));
    let arguments: Vec<&str> = [port.as_str(), style].into_iter().chain(TYPES).collect();
    world.await?.watched_by("chromium.cjs", &arguments, deviation).await
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
