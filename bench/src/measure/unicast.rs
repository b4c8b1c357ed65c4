//! Events for one client alone: at a fixed rate, and as many as are acknowledged.

use anyhow::Result;

use super::Bench;
use super::stage::Stage;
use crate::figures::Figures;
use crate::party::{Audience, Name};
use crate::publisher::Pace;

/// Events a second, of those that are paced.
const RATE: f64 = 2_000.0;
/// Events that are not acknowledged, at saturation.
const WINDOW: u64 = 512;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&Name::ALL, bench.repeats.min(3)) {
        let measured = one(bench, name, figures).await;
        figures.told("unicast", name, measured);
    }
    Ok(())
}

async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let clients = bench.count(1_000, 100);
    let mut stage = Stage::start(bench, name).await?;
    stage.grow(clients, Audience::Own).await?;
    bench.settle().await;
    stage.unicast(2, Pace::Rate(RATE)).await?;
    drop(stage.fleet.delays().await?);
    // A peer that can not keep up with the rate is measured at saturation alone.
    if name != Name::Mercure {
        let each = bench.count(20, 10);
        let meter = stage.meter()?;
        stage.unicast(each, Pace::Rate(RATE)).await?;
        let events = f64::from(clients * each);
        meter.add(figures, name, ("unicast.cpu", events), ("unicast.nats", events))?;
        let names = ["unicast.p50", "unicast.p99", "unicast.p999"];
        figures.add_delays(names, name, stage.fleet.delays().await?);
    }
    let each = match name {
        Name::Ours | Name::Floor => bench.count(200, 20),
        Name::Nchan => bench.count(50, 10),
        Name::Mercure => bench.count(5, 2),
    };
    let meter = stage.meter()?;
    let took = stage.unicast(each, Pace::Window(WINDOW)).await?;
    let events = f64::from(clients * each);
    meter.add(figures, name, ("unicast.full.cpu", events), ("unicast.full.nats", events))?;
    figures.add("unicast.full.rate", name, events / took.as_secs_f64());
    stage.complete().await
}
