//! Publishing as fast as the run's faults allow: many outstanding, each again until acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use sse_tests::publisher::Publisher;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::plan::{EVENTS, Plan, decisions};

/// Publishes that may wait for their acknowledgement.
const OUTSTANDING: usize = 1024;
/// Bursts: at most so many at once, at each tick.
const TICK: Duration = Duration::from_millis(5);
const BURST: usize = 8;

/// The acknowledgements, and how far publishing may go.
pub struct Progress {
    /// Sequence of each event, by its number; 0 before it is acknowledged.
    sequences: Mutex<Vec<u64>>,
    acknowledged: watch::Sender<usize>,
    /// Faults that are over. Each lets a share of the events go: there is traffic for all of them.
    faults: watch::Sender<usize>,
    planned_faults: usize,
}

impl Progress {
    pub fn new(plan: &Plan, planned_faults: usize) -> Self {
        Self {
            sequences: Mutex::new(vec![0; plan.events.len()]),
            acknowledged: watch::Sender::new(0),
            faults: watch::Sender::new(0),
            planned_faults,
        }
    }

    /// Events between two faults.
    pub fn share(&self) -> usize {
        EVENTS / (self.planned_faults + 1)
    }

    pub fn fault_is_over(&self) {
        self.faults.send_modify(|faults| *faults += 1);
    }

    /// Events that were acknowledged.
    pub fn count(&self) -> usize {
        *self.acknowledged.borrow()
    }

    /// Waits until so many events were acknowledged.
    pub async fn reached(&self, count: usize) {
        // The sender is here: it is not closed.
        let _ = self.acknowledged.subscribe().wait_for(|acknowledged| *acknowledged >= count).await;
    }

    /// The sequence of each event.
    pub fn sequences(&self) -> Vec<u64> {
        self.sequences.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn acknowledge(&self, n: usize, sequence: u64) {
        self.sequences.lock().unwrap_or_else(PoisonError::into_inner)[n] = sequence;
        self.acknowledged.send_modify(|acknowledged| *acknowledged += 1);
    }

    /// Waits until the event may be published.
    async fn allowed(&self, n: usize) {
        let all = self.planned_faults;
        let until = |faults: usize| if faults >= all { usize::MAX } else { (faults + 1) * self.share() };
        let _ = self.faults.subscribe().wait_for(|faults| n < until(*faults)).await;
    }
}

/// Publishes every event of the run; each publisher has a connection of its own.
pub async fn publish_all(plan: Arc<Plan>, progress: Arc<Progress>, publishers: Vec<Publisher>) -> Result<()> {
    let mut random = decisions(plan.seed, "publishing");
    let outstanding = Arc::new(Semaphore::new(OUTSTANDING));
    let mut publishes = JoinSet::new();
    let mut ticks = interval(TICK);
    let mut burst = 0;
    for n in 0..EVENTS {
        if burst == 0 {
            ticks.tick().await;
            burst = random.random_range(1..=BURST);
        }
        burst -= 1;
        progress.allowed(n).await;
        let permit = outstanding.clone().acquire_owned().await?;
        let (plan, progress) = (plan.clone(), progress.clone());
        let publisher = publishers[n % publishers.len()].clone();
        publishes.spawn(async move {
            let done = publish(&plan, &progress, &publisher, n).await;
            drop(permit);
            done
        });
        while let Some(done) = publishes.try_join_next() {
            done??;
        }
    }
    while let Some(done) = publishes.join_next().await {
        done??;
    }
    Ok(())
}

/// Publishes the ends, in their order.
pub async fn publish_ends(plan: &Plan, progress: &Progress, publisher: &Publisher) -> Result<()> {
    for n in EVENTS..plan.events.len() {
        publish(plan, progress, publisher, n).await?;
    }
    Ok(())
}

async fn publish(plan: &Plan, progress: &Progress, publisher: &Publisher, n: usize) -> Result<()> {
    let event = &plan.events[n];
    let headers: Vec<(&str, &str)> =
        event.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let sequence = publisher.insist_with(&event.subject, &headers, &event.payload).await?;
    progress.acknowledge(n, sequence);
    Ok(())
}
