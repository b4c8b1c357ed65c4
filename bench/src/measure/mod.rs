//! What is measured. Each measure is a file: what it does, and which figures come out of it.

mod broadcast;
mod memory;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::figures::Figures;
use crate::fleet::{AT_ONCE, Fleet, Plan};
use crate::party::{Audience, Name, Party, World};
use crate::publisher::{Pace, Publisher};

/// How long a server is left alone after many handshakes.
const SETTLE: Duration = Duration::from_secs(2);

/// A part of the comparison that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Memory of idle connections.
    Memory,
    /// Processor time and latency of events for everybody, at a fixed rate.
    Broadcast,
}

/// Who is measured, how often, on what.
pub struct Bench {
    pub world: World,
    pub parties: Vec<Name>,
    pub repeats: usize,
    /// Small counts.
    pub short: bool,
}

impl Bench {
    /// # Errors
    ///
    /// When NATS does not start, or the gateway does not make its stream.
    pub async fn start(gateway: PathBuf, parties: Vec<Name>, repeats: usize, short: bool) -> Result<Self> {
        let parties = if parties.is_empty() { Name::value_variants().to_vec() } else { parties };
        Ok(Self { world: World::start(gateway).await?, parties, repeats, short })
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
                Measure::Broadcast => broadcast::run(self, figures).await,
            };
            if let Err(error) = measured {
                figures.failures.push(format!("{measure:?}: {error:#}"));
            }
            eprintln!("{measure:?} took {:.0?}", begun.elapsed());
        }
    }

    /// Parties in turn, so often; the peers at most three times.
    fn turns(&self, wanted: &[Name]) -> impl Iterator<Item = Name> {
        let parties: Vec<Name> = wanted.iter().copied().filter(|name| self.parties.contains(name)).collect();
        let times = |name: Name| {
            if matches!(name, Name::Ours | Name::Floor) { self.repeats } else { self.repeats.min(3) }
        };
        let turns =
            (0..self.repeats).flat_map(move |turn| parties.clone().into_iter().map(move |name| (turn, name)));
        turns
            .filter(move |(turn, name)| *turn < times(*name))
            .map(|(_, name)| name)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// A count, or the one for the short form.
    fn count(&self, full: u32, short: u32) -> u32 {
        if self.short { short } else { full }
    }
}

/// A server with clients.
struct Stage {
    party: Box<dyn Party>,
    fleet: Fleet,
    clients: u32,
    /// Events that were published for everybody.
    all: u32,
}

impl Stage {
    async fn start(bench: &Bench, name: Name) -> Result<Self> {
        let party = bench.world.party(name).await.with_context(|| format!("{name:?}"))?;
        Ok(Self { party, fleet: Fleet::start()?, clients: 0, all: 0 })
    }

    /// Opens streams until there are so many; how long it took.
    async fn grow(&mut self, clients: u32, audience: Audience) -> Result<Duration> {
        let request = |user| (user, self.party.request(user, audience));
        let plan = Plan {
            address: self.party.address(),
            requests: (self.clients..clients).map(request).collect(),
            at_once: AT_ONCE,
            next_all: self.all,
        };
        self.clients = clients;
        self.fleet.open(plan).await.with_context(|| tail(&self.party.log()))
    }

    /// A publisher of this party's events.
    fn publisher(&self) -> Result<Publisher> {
        let (address, language) = self.party.publisher()?;
        Publisher::connect(address, language)
    }

    /// Publishes for everybody, and waits until everybody has it.
    async fn broadcast(&mut self, events: u32, pace: Pace) -> Result<Duration> {
        let (mut publisher, from, before) = (self.publisher()?, self.all, self.fleet.count());
        let publishing = tokio::task::spawn_blocking(move || {
            publisher.publish(pace, events.into(), |index| {
                (crate::event::ALL, from + u32::try_from(index).unwrap_or_default())
            })
        });
        let due = before + u64::from(events) * u64::from(self.clients);
        let took = publishing.await??;
        self.fleet.received(due, Duration::from_secs(30)).await.with_context(|| tail(&self.party.log()))?;
        self.all += events;
        Ok(took)
    }

    /// Fails unless everybody has everything, once and in order.
    async fn complete(&self, own: u32) -> Result<()> {
        self.fleet.complete(self.all, own).await
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Awaits one party's turn; its failure is told and does not end the others' measure.
fn told<T>(name: Name, result: Result<T>, figures: &mut Figures) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = format!("{name:?}: {error:#}");
            eprintln!("  FAILED {text}");
            figures.failures.push(text);
            None
        }
    }
}
