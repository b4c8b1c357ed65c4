//! Everybody comes back at once, with a cursor: each gets the events of its own that it missed, and nothing else.
//!
//! Once at a gateway that ran all the while, so that it has in memory what its ring holds; once at one that
//! was restarted halfway, so that one half of the clients have cursors that are older than the ring.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use sse_tests::jwt::jwt;
use sse_tests::raw;

use super::Bench;
use super::nobody::ELSEWHERE;
use super::stage::small;
use crate::figures::Figures;
use crate::fleet::{Fleet, Plan};
use crate::party::ours::Ours;
use crate::party::{Name, Party as _, World};
use crate::publisher::{Pace, Publisher};
use crate::usage;

/// Events that each client missed.
const EACH: u32 = 50;
/// Handshakes at one time: a storm is not polite.
const AT_ONCE: usize = 256;
/// Events that are not acknowledged, at most.
const WINDOW: u64 = 512;
/// They have everything by then, or never.
const PATIENCE: Duration = Duration::from_mins(5);

/// The figures of one kind of storm.
struct Kind {
    restarted: bool,
    time: &'static str,
    cpu: &'static str,
    nats: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind { restarted: false, time: "storm.time", cpu: "storm.cpu", nats: "storm.nats" },
    Kind { restarted: true, time: "storm.older.time", cpu: "storm.older.cpu", nats: "storm.older.nats" },
];

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&[Name::Ours], if bench.short { 1 } else { bench.repeats.min(2) }) {
        for kind in &KINDS {
            let measured = one(bench, kind, figures).await;
            figures.told("storm", name, measured);
        }
    }
    Ok(())
}

async fn one(bench: &Bench, kind: &Kind, figures: &mut Figures) -> Result<()> {
    let clients = bench.count(10_000, 200);
    // A stream of its own.
    let world = World::start(bench.world.gateway.clone()).await?;
    let mut ours = Ours::start(&world, json!({})).await?;
    let half = clients / 2;
    publish(&ours, WINDOW, u64::from(clients) * 5, |index| (ELSEWHERE + small(index % 10_000), 0)).await?;
    let first = cursor(&ours).await?;
    publish(&ours, WINDOW, u64::from(half * EACH), own(0, half)).await?;
    if kind.restarted {
        ours.gateway.kill().await?;
        ours.gateway.restart()?;
        ours.gateway.ready().await?;
    }
    let second = if kind.restarted { cursor(&ours).await? } else { first.clone() };
    publish(&ours, WINDOW, u64::from(half * EACH), own(half, half)).await?;

    let request = |user: u32| {
        let cursor = if user < half { &first } else { &second };
        (user, raw::request(&jwt("acme", &format!("user-{user}")), cursor).into_bytes())
    };
    // Both halves mixed, as they would come.
    let requests = (0..half).flat_map(|user| [request(user), request(half + user)]).collect();
    let (gateway, nats) = (ours.processes()?, [world.nats.id()?]);
    let before = (usage::processor_time(&gateway)?, usage::processor_time(&nats)?);
    let mut fleet = Fleet::start()?;
    let begun = Instant::now();
    fleet
        .open(Plan { address: ours.address(), requests, at_once: AT_ONCE, mint: false, next_all: 0 })
        .await?;
    fleet.received(u64::from(clients * EACH), PATIENCE).await?;
    let took = begun.elapsed();
    let spent = |processes: &[u32], before| {
        anyhow::Ok(usage::processor_time(processes)?.saturating_sub(before).as_secs_f64())
    };
    figures.add(kind.time, Name::Ours, took.as_secs_f64());
    figures.add(kind.cpu, Name::Ours, spent(&gateway, before.0)?);
    figures.add(kind.nats, Name::Ours, spent(&nats, before.1)?);
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.complete(0, EACH).await
}

/// Events for each of these clients, in turn.
fn own(from: u32, clients: u32) -> impl Fn(u64) -> (u32, u32) + Send + Copy + 'static {
    move |index| (from + small(index % u64::from(clients)), small(index / u64::from(clients)))
}

/// Publishes what `event` says, with at most so many that are not acknowledged.
pub async fn publish(
    ours: &Ours,
    window: u64,
    events: u64,
    event: impl Fn(u64) -> (u32, u32) + Send + 'static,
) -> Result<()> {
    let (address, language) = ours.publisher()?;
    let publish = move || Publisher::connect(address, language)?.publish(Pace::Window(window), events, event);
    tokio::task::spawn_blocking(publish).await??;
    Ok(())
}

/// Where the log ends now, as a client's cursor.
pub async fn cursor(ours: &Ours) -> Result<String> {
    let status = ours.gateway.status().await?;
    let epoch = status["stream"]["epoch"].as_str().context("an epoch")?;
    Ok(format!("{epoch}-{}", status["stream"]["head"]))
}
