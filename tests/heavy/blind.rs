//! A collector that is away, and everything to tell: it costs a count, never an event, and no memory.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use sse_tests::jwt::jwt;
use sse_tests::proc::{memory, processor_time};
use sse_tests::process::{Gateway, Nats};
use sse_tests::raw::{Raw, Shape};
use tokio::net::TcpListener;
use tokio::time::Instant;

const STREAMS: usize = 5_000;
const EVENTS: usize = 30;
/// Those that come to the gateway at one time.
const AT_ONCE: usize = 64;
/// Four thousand spans that wait, and what an allocator keeps; all that are made would be hundreds.
const MAY_GROW: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_streams_miss_nothing_while_the_collector_is_dead() -> Result<()> {
    let nats = Nats::start().await?;
    // It accepts, and never answers: worse than one that refuses.
    let dead = TcpListener::bind("127.0.0.1:0").await?;
    let telemetry = json!({
        "otlpEndpoint": format!("http://{}", dead.local_addr()?), "traceSamplePercent": 100, "deliverySamplePercent": 100,
    });
    let (plain, _) = run(&nats, json!({})).await?;
    let (traced, dropped) = run(&nats, telemetry).await?;
    println!(
        "blind: {STREAMS} streams, {} deliveries; CPU of a delivery {plain:.1?} without telemetry, {traced:.1?} with every one \
         traced to a dead collector; {dropped} spans counted as dropped",
        STREAMS * EVENTS,
    );
    // A span for each delivery and handshake, but for those that still wait.
    let made = STREAMS * EVENTS + STREAMS;
    ensure!(dropped + 5000 > made && dropped <= made, "{dropped} of {made}");
    Ok(())
}

/// Everyone gets everything; answers the CPU time of one delivery, and the spans that were dropped.
async fn run(nats: &Nats, telemetry: serde_json::Value) -> Result<(Duration, usize)> {
    let patch = json!({"logging": {"level": "info"}, "limits": {"maxConnectionsPerUser": 10}, "telemetry": telemetry});
    let gateway = Gateway::start(nats, patch).await?;
    let publisher = nats.publisher().await?;
    let open = |user: usize| {
        let address = gateway.address;
        async move {
            let jwt = jwt("acme", &format!("user-{}", user / 10));
            let mut raw = Raw::open(address, &jwt, "", Shape::default()).await?;
            raw.opened().await?;
            anyhow::Ok(raw)
        }
    };
    let streams: Vec<Raw> =
        stream::iter((0..STREAMS).map(open)).buffer_unordered(AT_ONCE).try_collect().await?;
    let id = gateway.id()?;
    let (before, worked, begun) = (memory(id)?, processor_time(id)?, Instant::now());
    let readers = streams.into_iter().map(|mut raw| {
        tokio::spawn(async move {
            let mut got = Vec::with_capacity(EVENTS);
            while got.len() < EVENTS {
                let event = raw.next(Duration::from_mins(1)).await?;
                got.push(event.context("the stream ended")?.data);
            }
            anyhow::Ok((raw, got))
        })
    });
    let readers: Vec<_> = readers.collect();
    let expected: Vec<String> = (0..EVENTS).map(|i| i.to_string()).collect();
    for data in &expected {
        publisher.publish("sse.acme.all", data).await?;
    }
    let mut open = Vec::with_capacity(STREAMS);
    for reader in join_all(readers).await {
        let (raw, got) = reader??;
        ensure!(got == expected, "{got:?}");
        open.push(raw);
    }
    let (grown, worked) = (memory(id)?.saturating_sub(before), processor_time(id)?.saturating_sub(worked));
    println!(
        "blind: delivered in {:.1?}, memory {} MiB, and {} KiB more",
        begun.elapsed(),
        before >> 20,
        grown >> 10
    );
    ensure!(grown < MAY_GROW, "{grown} bytes more");
    let metrics = gateway.get("/metrics").await?.1;
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("sse_server_spans_dropped_total "));
    let dropped = dropped.context("a count")?.parse()?;
    Ok((worked / u32::try_from(STREAMS * EVENTS)?, dropped))
}
