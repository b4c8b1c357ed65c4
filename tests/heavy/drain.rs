//! The end of a pod with many streams: spread over its window, whatever some of the clients do.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};
use sse_tests::raw::{Raw, Shape};
use tokio::task::JoinSet;
use tokio::time::Instant;

const STREAMS: usize = 500;
const STALLED: usize = 20;
const WINDOW: u32 = 5;
/// What comes before the window: pods serve on for a moment, until endpoints forget them.
const GRACE: Duration = Duration::from_secs(3);
/// What may come after it.
const REST: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_streams_end_one_by_one_and_stalled_clients_hold_nothing() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"logging": {"level": "info"}, "drain": {"windowSeconds": WINDOW},
        "limits": {"writeTimeoutSeconds": 600}});
    let mut gateway = Gateway::start(&nats, patch).await?;
    let address = gateway.address;
    let open = |tenant: &'static str, user: usize, shape: Shape| async move {
        let jwt = jwt(tenant, &format!("user-{user}"));
        let mut raw = Raw::open(address, &jwt, "", shape).await?;
        raw.opened().await?;
        anyhow::Ok(raw)
    };
    let narrow = Shape { receive_buffer: Some(4096) };
    let stalled = try_join_all((0..STALLED).map(|user| open("stalled", user, narrow))).await?;
    let mut streams = JoinSet::new();
    let (begun, window) = (Instant::now(), Duration::from_secs(WINDOW.into()));
    for raw in try_join_all((0..STREAMS).map(|user| open("acme", user, Shape::default()))).await? {
        streams.spawn(until_drained(raw));
    }
    let publisher = nats.publisher().await?;
    let data = "x".repeat(16_000);
    for _ in 0..10 {
        // More than the largest socket buffer in all.
        try_join_all((0..40).map(|_| publisher.publish("sse.stalled.all", &data))).await?;
    }
    let opened = begun.elapsed();
    let begun = Instant::now();
    gateway.terminate()?;
    let mut seconds = BTreeMap::<u64, usize>::new();
    while let Some(ended) = streams.join_next().await {
        *seconds.entry((ended?? - begun).as_secs()).or_default() += 1;
    }
    ensure!(gateway.exit_code(GRACE + window + REST).await? == 0);
    let took = begun.elapsed();
    println!(
        "drain: {STREAMS} streams opened in {opened:.1?}, ended by second: {seconds:?}; all over after {took:.1?}"
    );
    ensure!(seconds.values().all(|count| *count <= STREAMS / 2), "not spread: {seconds:?}");
    ensure!(seconds.len() >= 4, "not over the window: {seconds:?}");
    ensure!(took < GRACE + window + REST, "held for {took:?}");
    drop(stalled);
    Ok(())
}

/// When the stream ended, cleanly, after a word about when to come back.
async fn until_drained(mut raw: Raw) -> Result<Instant> {
    ensure!(raw.to_end(Duration::from_secs(30)).await?, "cut off");
    let ended = Instant::now();
    ensure!(raw.retry.is_some_and(|ms| (500..=1500).contains(&ms)), "{:?}", raw.retry);
    Ok(ended)
}
