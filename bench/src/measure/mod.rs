//! What is measured. Each measure is a file: what it does, and which figures come out of it.

mod broadcast;
mod churn;
pub mod growth;
mod handshakes;
mod http2;
mod memory;
mod nobody;
mod saturation;
mod stage;
mod storm;
mod unicast;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use tokio::time::sleep;

use crate::Arguments;
use crate::figures::Figures;
use crate::party::{Name, World};

/// A part of the comparison that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Memory of idle connections.
    Memory,
    /// Memory of idle streams of HTTP/2.
    Http2,
    /// Processor time and latency of events for everybody, at a fixed rate.
    Broadcast,
    /// Processor time and latency of events for one client alone.
    Unicast,
    /// Events for nobody here.
    Nobody,
    /// Handshakes a second.
    Handshakes,
    /// Events a second, as many as go through.
    Saturation,
    /// Everybody comes back at once.
    Storm,
    /// From 1,000 to 15,000 connections, and 30,000 in two pods.
    Growth,
    /// Streams that come and go.
    Churn,
}

/// Who is measured, how often, on what.
pub struct Bench {
    pub world: World,
    pub parties: Vec<Name>,
    pub repeats: usize,
    /// Small counts.
    pub short: bool,
    /// How long streams come and go.
    pub churn: Duration,
}

impl Bench {
    /// # Errors
    ///
    /// When NATS does not start, or the gateway does not make its stream.
    pub async fn start(gateway: PathBuf, arguments: &Arguments) -> Result<Self> {
        let Arguments { repeats, short, churn, .. } = *arguments;
        let parties = Some(arguments.parties.clone()).filter(|parties| !parties.is_empty());
        Ok(Self {
            world: World::start(gateway).await?,
            parties: parties.unwrap_or_else(Name::installed),
            repeats,
            short,
            churn: Duration::from_mins(churn),
        })
    }

    /// Runs these measures, or all. What fails is told, and the others go on.
    pub async fn run(&self, only: &[Measure], figures: &mut Figures) {
        for measure in Measure::value_variants() {
            if !only.is_empty() && !only.contains(measure) {
                continue;
            }
            let begun = Instant::now();
            eprintln!("{measure:?}");
            let measured = match measure {
                Measure::Memory => memory::run(self, figures).await,
                Measure::Http2 => http2::run(self, figures).await,
                Measure::Broadcast => broadcast::run(self, figures).await,
                Measure::Unicast => unicast::run(self, figures).await,
                Measure::Nobody => nobody::run(self, figures).await,
                Measure::Handshakes => handshakes::run(self, figures).await,
                Measure::Saturation => saturation::run(self, figures).await,
                Measure::Storm => storm::run(self, figures).await,
                Measure::Growth => growth::run(self, figures).await,
                Measure::Churn => churn::run(self, figures).await,
            };
            if let Err(error) = measured {
                figures.failures.push(format!("{measure:?}: {error:#}"));
            }
            eprintln!("{measure:?} took {:.0?}", begun.elapsed());
        }
    }

    /// These parties in turn, so often; the peers at most three times.
    fn turns(&self, wanted: &[Name], repeats: usize) -> Vec<Name> {
        let here = |name: &&Name| self.parties.contains(name);
        let parties: Vec<Name> = wanted.iter().filter(here).copied().collect();
        let most =
            |name: Name| if matches!(name, Name::Ours | Name::Floor) { repeats } else { repeats.min(3) };
        let mut turns = Vec::new();
        for turn in 0..repeats {
            turns.extend(parties.iter().copied().filter(|name| turn < most(*name)));
        }
        turns
    }

    /// Leaves a server alone after many handshakes.
    async fn settle(&self) {
        sleep(Duration::from_millis(if self.short { 200 } else { 2_000 })).await;
    }

    /// A count, or the one for the short form.
    fn count(&self, full: u32, short: u32) -> u32 {
        if self.short { short } else { full }
    }
}
