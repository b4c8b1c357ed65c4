//! Events for everybody at a fixed rate: processor time of a delivery, and the time from publish to read.

use anyhow::Result;

use super::Bench;
use super::stage::Stage;
use crate::figures::Figures;
use crate::party::{Audience, Name};
use crate::publisher::Pace;

/// Events a second.
const RATE: f64 = 10.0;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&Name::ALL, bench.repeats) {
        let measured = one(bench, name, figures).await;
        figures.told("broadcast", name, measured);
    }
    Ok(())
}

async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let (clients, events) = (bench.count(5_000, 200), bench.count(100, 20));
    let mut stage = Stage::start(bench, name).await?;
    stage.grow(clients, Audience::All).await?;
    bench.settle().await;
    stage.broadcast(bench.count(20, 5), Pace::Rate(RATE)).await?;
    drop(stage.fleet.delays().await?);
    let meter = stage.meter()?;
    stage.broadcast(events, Pace::Rate(RATE)).await?;
    let deliveries = f64::from(clients * events);
    meter.add(figures, name, ("broadcast.cpu", deliveries), ("broadcast.nats", events.into()))?;
    stage.complete().await?;
    let names = ["broadcast.p50", "broadcast.p99", "broadcast.p999"];
    figures.add_delays(names, name, stage.fleet.delays().await?);
    Ok(())
}
