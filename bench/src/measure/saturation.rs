//! Events for everybody, as many as are acknowledged: how many go through in a second. Those for one client are
//! in the measure of unicast.

use anyhow::Result;

use super::Bench;
use super::stage::Stage;
use crate::figures::Figures;
use crate::party::{Audience, Name};
use crate::publisher::Pace;

/// Events that are not acknowledged.
const WINDOW: u64 = 16;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&Name::ALL, bench.repeats.min(3)) {
        let measured = one(bench, name, figures).await;
        figures.told("saturation", name, measured);
    }
    Ok(())
}

async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let (clients, events) = (bench.count(5_000, 200), bench.count(200, 50));
    let mut stage = Stage::start(bench, name).await?;
    stage.grow(clients, Audience::All).await?;
    bench.settle().await;
    stage.broadcast(10, Pace::Window(WINDOW)).await?;
    let meter = stage.meter()?;
    let took = stage.broadcast(events, Pace::Window(WINDOW)).await?;
    let deliveries = f64::from(clients * events);
    figures.add("saturation.rate", name, f64::from(events) / took.as_secs_f64());
    figures.add("saturation.cpu", name, meter.spent()?.0.as_secs_f64() * 1e6 / deliveries);
    stage.complete().await
}
