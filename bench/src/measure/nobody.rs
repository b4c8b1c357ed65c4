//! Events for nobody on this pod: what one costs, and what a stream of very many does.

use anyhow::Result;

use super::Bench;
use super::stage::{Stage, small};
use crate::figures::Figures;
use crate::party::{Audience, Name};
use crate::publisher::Pace;

/// The first user who is not here.
pub const ELSEWHERE: u32 = 1_000_000;
/// Events a second of a busy stream, and how many of them are for one client here.
const BUSY: u32 = 100_000;
const SHARE: u64 = 100;
/// Clients here; a divisor of what they get.
const CLIENTS: u32 = 100;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&[Name::Ours], bench.repeats.min(3)) {
        let measured = one(bench, name, figures).await;
        figures.told("nobody", name, measured);
    }
    Ok(())
}

async fn one(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let mut stage = Stage::start(bench, name).await?;
    stage.grow(CLIENTS, Audience::Own).await?;
    bench.settle().await;
    let events = u64::from(bench.count(200_000, 5_000));
    let elsewhere = |index: u64| (ELSEWHERE + small(index % 10_000), 0);
    stage.publish(events / 10, 0, Pace::Window(512), elsewhere).await?;
    let meter = stage.meter()?;
    stage.publish(events, 0, Pace::Window(512), elsewhere).await?;
    meter.add(figures, name, ("nobody.cpu", events as f64), ("nobody.nats", events as f64))?;

    let events = u64::from(bench.count(5 * BUSY, BUSY / 10));
    let here = events / SHARE;
    let (meter, clients) = (stage.meter()?, u64::from(CLIENTS));
    let took = stage
        .publish(events, here, Pace::Rate(BUSY.into()), move |index| match index % SHARE {
            0 => (small(index / SHARE % clients), small(index / SHARE / clients)),
            _ => elsewhere(index),
        })
        .await?;
    stage.expect_own(small(here / clients));
    let (ours, nats) = meter.spent()?;
    let rate = events as f64 / took.as_secs_f64();
    figures.add("nobody.busy.rate", name, rate);
    figures.add("nobody.busy.cores", name, ours.as_secs_f64() / took.as_secs_f64() * f64::from(BUSY) / rate);
    figures.add("nobody.busy.nats", name, nats.as_secs_f64() / took.as_secs_f64() * f64::from(BUSY) / rate);
    stage.complete().await
}
