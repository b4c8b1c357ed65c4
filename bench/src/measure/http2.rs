//! Memory of idle streams of HTTP/2: many on each connection, as a proxy in front of the gateway has them.

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sse_tests::h2::Http2;
use sse_tests::jwt::jwt;
use tokio::time::timeout;

use super::Bench;
use crate::event::{ALL, Scan};
use crate::figures::Figures;
use crate::party::{Name, Party};
use crate::publisher::{Pace, Publisher};
use crate::usage;

/// Streams of a connection.
const STREAMS: u32 = 100;
/// Events that each stream gets at the end.
const EVENTS: u32 = 3;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&[Name::Ours], bench.repeats.min(3)) {
        let measured = one(bench, name, figures).await;
        figures.told("http2", name, measured);
    }
    Ok(())
}

async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let connections = bench.count(100, 3);
    let party = bench.world.party(name).await?;
    let (mut held, mut bodies) = (Vec::new(), Vec::new());
    open(&*party, 0, &mut held, &mut bodies).await?;
    bench.settle().await;
    let processes = party.processes()?;
    let base = usage::memory(&processes)?;
    for connection in 1..=connections {
        open(&*party, connection, &mut held, &mut bodies).await?;
    }
    bench.settle().await;
    let grown = usage::memory(&processes)?.saturating_sub(base);
    figures.add("memory.http2", name, grown as f64 / f64::from(connections * STREAMS) / 1024.0);
    let (address, language) = party.publisher()?;
    let publish = move || {
        let number = |index| (ALL, u32::try_from(index).unwrap_or_default());
        Publisher::connect(address, language)?.publish(Pace::Rate(10.0), EVENTS.into(), number)
    };
    let reading = tokio::spawn(try_join_all(bodies.into_iter().map(read)));
    tokio::task::spawn_blocking(publish).await??;
    timeout(std::time::Duration::from_secs(30), reading).await.context("events on HTTP/2")???;
    Ok(())
}

/// One connection, and its streams.
async fn open(
    party: &dyn Party,
    connection: u32,
    held: &mut Vec<Http2>,
    bodies: &mut Vec<Incoming>,
) -> Result<()> {
    let mut http2 = Http2::connect(party.address()).await?;
    for stream in 0..STREAMS {
        bodies.push(http2.open(&jwt("acme", &format!("user-{}", connection * STREAMS + stream))).await?);
    }
    held.push(http2);
    Ok(())
}

/// Reads every event, once and in order.
async fn read(mut body: Incoming) -> Result<()> {
    let (mut scan, mut numbers) = (Scan::default(), Vec::new());
    while numbers.len() < EVENTS as usize {
        let frame = body.frame().await.context("the stream ended")??;
        let data = frame.into_data().unwrap_or_default();
        scan.take(&data, |stamp| numbers.push(stamp.number));
    }
    ensure!(numbers == (0..EVENTS).collect::<Vec<_>>(), "{numbers:?}");
    Ok(())
}
