//! A server with its clients and its publisher: what every measure is made of.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

use super::Bench;
use crate::event::ALL;
use crate::figures::Figures;
use crate::fleet::{AT_ONCE, Fleet, Plan};
use crate::party::{Audience, Name, Party};
use crate::publisher::{Pace, Publisher};
use crate::usage;

/// Everything that was published has come by then.
const ARRIVED: Duration = Duration::from_mins(1);

pub struct Stage {
    pub name: Name,
    pub party: Box<dyn Party>,
    pub fleet: Fleet,
    pub clients: u32,
    /// Process of nats-server.
    nats: u32,
    /// Events that were published for everybody, and for each client alone.
    all: u32,
    own: u32,
}

impl Stage {
    /// Starts a party, for no clients yet.
    pub async fn start(bench: &Bench, name: Name) -> Result<Self> {
        let party = bench.world.party(name).await.with_context(|| format!("{name:?}"))?;
        Self::of(bench, name, party)
    }

    /// The same, of a party that runs.
    pub fn of(bench: &Bench, name: Name, party: Box<dyn Party>) -> Result<Self> {
        let nats = bench.world.nats.id()?;
        Ok(Self { name, party, fleet: Fleet::start()?, clients: 0, nats, all: 0, own: 0 })
    }

    /// Opens streams until there are so many; how long it took.
    pub async fn grow(&mut self, clients: u32, audience: Audience) -> Result<Duration> {
        let requests =
            (self.clients..clients).map(|user| (user, self.party.request(user, audience))).collect();
        self.open(requests, false).await
    }

    /// Opens a stream for each request; how long it took.
    pub async fn open(&mut self, requests: Vec<(u32, Vec<u8>)>, mint: bool) -> Result<Duration> {
        self.clients += u32::try_from(requests.len())?;
        let address = self.party.address();
        let plan = Plan { address, requests, at_once: AT_ONCE, mint, next_all: self.all };
        self.fleet.open(plan).await.with_context(|| tail(&self.party.log()))
    }

    /// Publishes for everybody, and waits until everybody has it; how long both took.
    pub async fn broadcast(&mut self, events: u32, pace: Pace) -> Result<Duration> {
        let from = self.all;
        self.all += events;
        let due = u64::from(events) * u64::from(self.clients);
        self.publish(events.into(), due, pace, move |index| (ALL, from + small(index))).await
    }

    /// Publishes so many events for each client alone, in turn, and waits until they have come.
    pub async fn unicast(&mut self, each: u32, pace: Pace) -> Result<Duration> {
        let (from, clients) = (self.own, u64::from(self.clients));
        self.own += each;
        let events = u64::from(each) * clients;
        let event = move |index| (small(index % clients), from + small(index / clients));
        self.publish(events, events, pace, event).await
    }

    /// Publishes what `event` says, and waits until so many deliveries have come.
    pub async fn publish(
        &self,
        events: u64,
        due: u64,
        pace: Pace,
        event: impl FnMut(u64) -> (u32, u32) + Send + 'static,
    ) -> Result<Duration> {
        let (address, language) = self.party.publisher()?;
        let (before, begun) = (self.fleet.count(), Instant::now());
        let publishing = tokio::task::spawn_blocking(move || {
            Publisher::connect(address, language)?.publish(pace, events, event)
        });
        let published = publishing.await?.map(drop);
        published.with_context(|| tail(&self.party.log()))?;
        self.fleet.received(before + due, ARRIVED).await.with_context(|| tail(&self.party.log()))?;
        Ok(begun.elapsed())
    }

    /// Says how many events each client got alone, when not by [`Stage::unicast`].
    pub fn expect_own(&mut self, each: u32) {
        self.own = each;
    }

    /// Fails unless everybody has everything, once and in order. A moment later, so that what comes twice
    /// has come.
    pub async fn complete(&self) -> Result<()> {
        sleep(Duration::from_millis(300)).await;
        self.fleet.complete(self.all, self.own).await
    }

    /// Begins to count processor time.
    pub fn meter(&self) -> Result<Meter> {
        let processes = self.party.processes()?;
        let before = (usage::processor_time(&processes)?, usage::processor_time(&[self.nats])?);
        Ok(Meter { processes, nats: self.nats, before })
    }
}

/// Processor time since it was made.
pub struct Meter {
    processes: Vec<u32>,
    nats: u32,
    before: (Duration, Duration),
}

impl Meter {
    /// Of the party's processes, and of nats-server.
    pub fn spent(&self) -> Result<(Duration, Duration)> {
        let of =
            |processes: &[u32], before| anyhow::Ok(usage::processor_time(processes)?.saturating_sub(before));
        Ok((of(&self.processes, self.before.0)?, of(&[self.nats], self.before.1)?))
    }

    /// Adds what one of so many cost, in microseconds; nats-server's only for those that use it.
    pub fn add(&self, figures: &mut Figures, name: Name, own: (&str, f64), nats: (&str, f64)) -> Result<()> {
        let spent = self.spent()?;
        figures.add(own.0, name, spent.0.as_secs_f64() * 1e6 / own.1);
        if matches!(name, Name::Ours | Name::Floor) {
            figures.add(nats.0, name, spent.1.as_secs_f64() * 1e6 / nats.1);
        }
        Ok(())
    }
}

/// A number of an event.
pub fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX - 1)
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
