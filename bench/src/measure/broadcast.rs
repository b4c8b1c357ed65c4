//! Events for everybody at a fixed rate: processor time of a delivery, and the time from publish to read.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{Bench, SETTLE, Stage, told};
use crate::figures::{Figures, quantile};
use crate::party::{Audience, Name};
use crate::publisher::Pace;
use crate::usage;

/// Events a second.
const RATE: f64 = 10.0;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&[Name::Ours, Name::Floor]) {
        let measured = one(bench, name, figures).await;
        told(name, measured, figures);
    }
    Ok(())
}

async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let (clients, events) = (bench.count(5_000, 200), bench.count(100, 20));
    let mut stage = Stage::start(bench, name).await?;
    stage.grow(clients, Audience::All).await?;
    sleep(SETTLE).await;
    stage.broadcast(bench.count(20, 5), Pace::Rate(RATE)).await?;
    drop(stage.fleet.delays().await?);
    let nats = [bench.world.nats.id()?];
    let processes = stage.party.processes()?;
    let before = (usage::processor_time(&processes)?, usage::processor_time(&nats)?);
    stage.broadcast(events, Pace::Rate(RATE)).await?;
    let after = (usage::processor_time(&processes)?, usage::processor_time(&nats)?);
    stage.complete(0).await?;
    let micros = |time: Duration, count: u32| time.as_secs_f64() * 1e6 / f64::from(count);
    figures.add("broadcast.cpu", name, micros(after.0.saturating_sub(before.0), clients * events));
    figures.add("broadcast.nats", name, micros(after.1.saturating_sub(before.1), events));
    let mut delays = stage.fleet.delays().await?;
    delays.sort_unstable();
    for (figure, part) in [("broadcast.p50", 0.5), ("broadcast.p99", 0.99), ("broadcast.p999", 0.999)] {
        figures.add(figure, name, f64::from(quantile(&delays, part)) / 1000.0);
    }
    Ok(())
}
