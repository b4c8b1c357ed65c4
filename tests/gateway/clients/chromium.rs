//! Debian's Chromium, with a page of another origin: its `EventSource` and its `fetch`, over HTTP/1.1, and
//! over TLS, where it chooses HTTP/2.

use anyhow::Result;
use serde_json::json;
use sse_tests::authority::{Authority, Pair};
use sse_tests::process::free_port;

use super::{Deviation, FETCH_EVENT_SOURCE, TYPES, World};

async fn chromium(style: &str, tls: Option<Pair>, deviation: Deviation) -> Result<()> {
    let port = free_port()?.to_string();
    let patch = json!({
        "auth": {"modes": ["Token", "Bearer", "Cookie"], "cookie": {"name": "session"}},
        "cors": {"allowedOrigins": [format!("http://127.0.0.1:{port}")]},
    });
    let arguments: Vec<&str> = [port.as_str(), style].into_iter().chain(TYPES).collect();
    let world = World::start_with(patch, tls).await?;
    world.watched_by("chromium.cjs", &arguments, deviation).await
}

#[tokio::test]
async fn event_source_of_chromium_comes_back_by_itself_with_a_cookie() -> Result<()> {
    chromium("cookie", None, Deviation::default()).await
}

#[tokio::test]
async fn event_source_of_chromium_sees_everything_and_comes_back_with_a_token_each_time() -> Result<()> {
    chromium("token", None, Deviation::default()).await
}

#[tokio::test]
async fn fetch_of_chromium_sees_everything_and_comes_back() -> Result<()> {
    chromium("fetch", None, FETCH_EVENT_SOURCE).await
}

#[tokio::test]
async fn event_source_and_fetch_of_chromium_do_so_over_tls_too() -> Result<()> {
    let authority = Authority::new()?;
    chromium("token", Some(authority.pair()?), Deviation::default()).await?;
    chromium("fetch", Some(authority.pair()?), FETCH_EVENT_SOURCE).await
}
