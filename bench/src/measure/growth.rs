//! How processor time grows with the connections, and 30,000 of them in two pods.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::Bench;
use super::stage::Stage;
use crate::figures::Figures;
use crate::party::ours::Ours;
use crate::party::{Audience, Name, Party as _};
use crate::publisher::Pace;
use crate::usage;

/// Connections, and the figures at them.
const STEPS: [(u32, &str, &str); 3] = [
    (1_000, "growth.1000", "growth.nats.1000"),
    (5_000, "growth.5000", "growth.nats.5000"),
    (15_000, "growth.15000", "growth.nats.15000"),
];
/// Connections of each of two pods.
const POD: u32 = 15_000;
const OPEN: Duration = Duration::from_mins(2);

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&[Name::Ours, Name::Floor], bench.repeats.min(3)) {
        let measured = one(bench, name, figures).await;
        figures.told("growth", name, measured);
    }
    if bench.parties.contains(&Name::Ours) {
        let measured = two(bench, figures).await;
        figures.told("growth", Name::Ours, measured);
    }
    Ok(())
}

async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let mut stage = Stage::start(bench, name).await?;
    let events = bench.count(20, 5);
    let steps = if bench.short { &STEPS[..1] } else { &STEPS };
    for (clients, cpu, nats) in steps {
        stage.grow(*clients, Audience::All).await?;
        bench.settle().await;
        stage.broadcast(3, Pace::Rate(2.0)).await?;
        let meter = stage.meter()?;
        stage.broadcast(events, Pace::Rate(4.0)).await?;
        meter.add(figures, name, (cpu, f64::from(clients * events)), (nats, events.into()))?;
    }
    stage.complete().await
}

/// Two pods of one gateway; the second one's clients are in a process of their own, for its files.
async fn two(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let (clients, events) = (bench.count(POD, 300), bench.count(20, 5));
    let other = Ours::start(&bench.world, json!({})).await?;
    let mut stage = Stage::start(bench, Name::Ours).await?;
    let pods = [stage.party.processes()?, other.processes()?].concat();
    let before = pods.iter().map(|id| usage::memory(&[*id])).sum::<Result<u64>>()?;
    let (address, count, each) = (other.address().to_string(), clients.to_string(), events.to_string());
    let mut child = Command::new(std::env::current_exe()?)
        .args(["clients", "--address", &address, "--count", &count, "--events", &each])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut says = BufReader::new(child.stdout.take().context("stdout")?).lines();
    stage.grow(clients, Audience::All).await?;
    let open = timeout(OPEN, says.next_line()).await.context("the other pod's clients")??;
    ensure!(open.as_deref() == Some("open"), "the other pod's clients: {open:?}");
    bench.settle().await;
    let grown = pods.iter().map(|id| usage::memory(&[*id])).sum::<Result<u64>>()?.saturating_sub(before);
    figures.add("growth.two.memory", Name::Ours, grown as f64 / f64::from(2 * clients) / 1024.0);
    stage.broadcast(events, Pace::Rate(2.0)).await?;
    child.stdin.take().context("stdin")?.write_all(b"published\n").await?;
    let said = timeout(OPEN, says.next_line()).await.context("the other pod's clients")??;
    ensure!(said.as_deref() == Some("complete"), "the other pod's clients: {said:?}");
    figures.add("growth.two.connections", Name::Ours, f64::from(2 * clients));
    stage.complete().await
}

/// The second process: opens streams, says so, and says when all events have come to all of them.
///
/// # Errors
///
/// When a stream is refused, or events are missing.
pub async fn clients(address: std::net::SocketAddr, count: u32, events: u32) -> Result<()> {
    let mut fleet = crate::fleet::Fleet::start()?;
    let request = |user: u32| {
        let jwt = sse_tests::jwt::jwt("acme", &format!("user-{user}"));
        (user, sse_tests::raw::request(&jwt, "").into_bytes())
    };
    let requests = (POD..POD + count).map(request).collect();
    let at_once = crate::fleet::AT_ONCE;
    fleet.open(crate::fleet::Plan { address, requests, at_once, mint: false, next_all: 0 }).await?;
    println!("open");
    let mut line = String::new();
    // Published: what is missing from now on is late.
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await??;
    fleet.received(u64::from(count) * u64::from(events), Duration::from_mins(1)).await?;
    fleet.complete(events, 0).await?;
    println!("complete");
    Ok(())
}
