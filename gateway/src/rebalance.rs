//! Whether this pod has more than its share of the streams, and how many of them it lets go of now:
//! `spec.scaling.rebalance`.
//!
//! Clients stay where they are when pods are added. So the pods of a gateway [tell each other](crate::nats::pods) how many
//! streams they have, and one that has more than the mean, while another has far fewer, lets some of its own go. Their
//! clients come back through the Service, to any pod.
//!
//! - Never below the mean, and not while the pods are about even: this one has at most 15 % or 10 streams more than
//!   the one with the fewest.
//! - Gently: in a second at most 3 % of the streams, as a drain of half a minute would, and at most 100.
//! - Not blindly: only while every pod is heard, this one included (so not without NATS), and none came or went in the
//!   last seconds. A pod that is not ready or drains is silent.
//! - Not for ever: in ten minutes at most a quarter more than the most streams that it had in them. That is enough wherever
//!   clients come back to any pod, and an end where something leads them back to the same one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How often a pod tells, where there are few.
const TELL: Duration = Duration::from_secs(2);
/// Of each pod one hears at most so often, on the average of all: beyond 40 pods each tells less often.
const HEAR: Duration = Duration::from_millis(50);
/// Pods that are told apart: as many as a gateway may have, and some that come and go.
const MOST_PODS: usize = 2000;
/// After a pod came or went nothing is let go of: the endpoints take a moment to spread.
const SETTLE: Duration = Duration::from_secs(5);
/// Streams by which pods differ without being uneven.
const SLACK: u32 = 10;
/// The same in percent of this pod's.
const TOLERANCE: u64 = 15;
/// Streams that go in a second, in percent, and at most.
const PACE: u64 = 3;
const MOST: u32 = 100;
/// The time in which no more go than a quarter more than there were.
const WINDOW: Duration = Duration::from_mins(10);

/// What a pod tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub pod: String,
    /// Its open streams; `None` when it wants no more.
    pub streams: Option<u32>,
}

/// What is to be done in this second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the pod has its share, or not enough is known.
    Fair,
    /// Let so many go.
    LetGo(LetGo),
    /// Nothing, for a while: too many came back.
    Rest,
}

/// How many of the streams go, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetGo {
    pub count: u32,
    /// Streams of a pod, on the average.
    pub mean: u32,
    pub pods: usize,
}

/// How many streams each pod has, by its name.
pub type Streams = BTreeMap<String, u32>;

/// What a pod knows of all pods of its gateway.
pub struct Fleet {
    own: String,
    pods: HashMap<String, (u32, Instant)>,
    /// When a pod came or went last.
    changed: Instant,
    window: Window,
}

/// What was let go of in the present ten minutes.
struct Window {
    began: Instant,
    /// The most streams that there were.
    most: u64,
    gone: u64,
}

impl Fleet {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(own: String, now: Instant) -> Self {
        let window = Window { began: now, most: 0, gone: 0 };
        Self { own, pods: HashMap::new(), changed: now, window }
    }

    /// How long a pod waits between two words.
    #[must_use]
    pub fn interval(&self) -> Duration {
        TELL.max(HEAR * u32::try_from(self.pods.len()).unwrap_or(u32::MAX))
    }

    /// Takes the word of a pod.
    pub fn hear(&mut self, word: Word, now: Instant) {
        let is_known = self.pods.contains_key(&word.pod);
        match word.streams {
            Some(streams) if is_known || self.pods.len() < MOST_PODS => {
                self.pods.insert(word.pod, (streams, now));
            }
            Some(_) => return,
            None => drop(self.pods.remove(&word.pod)),
        }
        if is_known != word.streams.is_some() {
            self.changed = now;
        }
    }

    /// The streams of each pod that was heard lately.
    pub fn streams(&mut self, now: Instant) -> Streams {
        self.forget(now);
        self.pods.iter().map(|(pod, (streams, _))| (pod.clone(), *streams)).collect()
    }

    /// What to do with so many streams, asked each second.
    pub fn look(&mut self, streams: u32, now: Instant) -> Verdict {
        self.forget(now);
        self.window.look(streams, now);
        let Some((count, mean)) = self.uneven(streams, now) else { return Verdict::Fair };
        if self.window.is_spent() {
            return Verdict::Rest;
        }
        let pace = u32::try_from(u64::from(streams) * PACE / 100).unwrap_or(MOST).clamp(1, MOST);
        Verdict::LetGo(LetGo { count: pace.min(streams - mean), mean, pods: count })
    }

    /// Takes how many really went.
    pub fn let_go(&mut self, count: u32) {
        self.window.gone += u64::from(count);
    }

    /// The number of pods and their mean, if this one has more and another far fewer.
    fn uneven(&self, streams: u32, now: Instant) -> Option<(usize, u32)> {
        let late = 2 * self.interval();
        let all_heard = self.pods.values().all(|(_, heard)| now.duration_since(*heard) < late);
        if !all_heard || !self.pods.contains_key(&self.own) || now.duration_since(self.changed) < SETTLE {
            return None;
        }
        let others = self.pods.iter().filter(|(pod, _)| **pod != self.own).map(|(_, (streams, _))| *streams);
        let fewest = others.clone().min()?;
        let total = u64::from(streams) + others.map(u64::from).sum::<u64>();
        // Rounded up: nobody goes below it.
        let mean = u32::try_from(total.div_ceil(self.pods.len() as u64)).ok()?;
        let tolerated = u64::from(SLACK).max(u64::from(streams) * TOLERANCE / 100);
        let uneven = streams > mean && u64::from(streams - fewest) > tolerated;
        uneven.then_some((self.pods.len(), mean))
    }

    /// Forgets who is silent for long: it has ended without a word.
    fn forget(&mut self, now: Instant) {
        let (silent, before) = (4 * self.interval(), self.pods.len());
        self.pods.retain(|_, (_, heard)| now.duration_since(*heard) < silent);
        if self.pods.len() < before {
            self.changed = now;
        }
    }
}

impl Window {
    fn look(&mut self, streams: u32, now: Instant) {
        if now.duration_since(self.began) >= WINDOW {
            *self = Self { began: now, most: 0, gone: 0 };
        }
        self.most = self.most.max(streams.into());
    }

    const fn is_spent(&self) -> bool {
        self.gone >= self.most + self.most / 4 + SLACK as u64
    }
}

#[cfg(test)]
mod tests;
