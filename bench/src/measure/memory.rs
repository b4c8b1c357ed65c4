//! Memory of idle connections: what the server's processes grow by, and what the kernel holds for sockets.

use anyhow::Result;

use super::Bench;
use super::stage::Stage;
use crate::figures::Figures;
use crate::party::{Audience, Name};
use crate::publisher::Pace;
use crate::usage;

/// Connections, and the figures at them.
const STEPS: [(u32, &str, &str); 3] = [
    (1_000, "memory.1000", "memory.kernel.1000"),
    (5_000, "memory.5000", "memory.kernel.5000"),
    (15_000, "memory.15000", "memory.kernel.15000"),
];
/// Clients that come and are served before anything counts.
const WARM: u32 = 100;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&Name::ALL, 1) {
        let measured = one(bench, name, figures).await;
        figures.told("memory", name, measured);
    }
    Ok(())
}

/// The server begins with a few clients that were served, and its memory then is the base: what a
/// process holds once is not counted.
async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let mut stage = Stage::start(bench, name).await?;
    stage.grow(WARM, Audience::All).await?;
    stage.broadcast(5, Pace::Rate(10.0)).await?;
    bench.settle().await;
    let processes = stage.party.processes()?;
    let (base, kernel) = (usage::memory(&processes)?, usage::sockets()?);
    let per =
        |bytes: u64, base: u64, clients: u32| bytes.saturating_sub(base) as f64 / f64::from(clients) / 1024.0;
    let steps = if bench.short { &STEPS[..1] } else { &STEPS };
    for (clients, memory, sockets) in steps {
        stage.grow(WARM + clients, Audience::All).await?;
        bench.settle().await;
        figures.add(memory, name, per(usage::memory(&processes)?, base, *clients));
        figures.add(sockets, name, per(usage::sockets()?, kernel, *clients));
    }
    stage.broadcast(10, Pace::Rate(4.0)).await?;
    bench.settle().await;
    figures.add("memory.used", name, per(usage::memory(&processes)?, base, stage.clients - WARM));
    stage.complete().await
}
