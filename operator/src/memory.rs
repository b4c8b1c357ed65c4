//! What the operator remembers of each gateway between two looks at it: what it applied, how often it
//! failed, and the status that it wrote last. Losing it costs some requests, never correctness.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use sse_crds::SseGatewayStatus;

use crate::changes::Mark;
use crate::status::Failure;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(5);
/// How long applied children are left alone though nothing seems to have happened to them.
const APPLIED_FOR: Duration = Duration::from_mins(10);
/// Least time between two writes of `status.connections` alone.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Namespace and name of a gateway.
pub type Key = (String, String);

#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Key, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    applied: Option<Applied>,
    put_off: Option<PutOff>,
    /// Uid and generation that `failures` counts for: a changed spec begins anew.
    subject: (String, i64),
    failures: u32,
    /// Resource version that the gateway had when its status was written, and that status.
    written: Option<(String, SseGatewayStatus)>,
    written_at: Option<Instant>,
}

/// What was planned, and what the children had been through then: the same again gives the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// Hash of the plan.
    pub plan: u64,
    /// None: nobody can tell what the children went through.
    pub mark: Option<Mark>,
}

impl Occasion {
    fn is_again(self, other: Self) -> bool {
        self == other && self.mark.is_some()
    }
}

/// Children that were applied.
#[derive(Clone, Debug)]
pub struct Applied {
    pub occasion: Occasion,
    pub at: Instant,
    pub deployment: Deployment,
    /// Whether the Deployment was left as it was, until other gateways have their pods.
    pub waiting: bool,
    /// Whether there are no configurations of earlier pods any more.
    pub swept: bool,
}

/// Children that could not be applied.
#[derive(Clone, Debug)]
struct PutOff {
    occasion: Occasion,
    until: Instant,
    failure: Failure,
}

impl Memory {
    /// Notes what was applied.
    pub fn applied(&self, key: &Key, applied: Applied) {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.applied = Some(applied);
        entry.put_off = None;
    }

    /// What was applied on the same occasion, not long ago.
    pub fn still_applied(&self, key: &Key, occasion: Occasion, now: Instant) -> Option<Applied> {
        let entries = self.lock();
        let applied = entries.get(key)?.applied.as_ref()?;
        let recent = now.saturating_duration_since(applied.at) < APPLIED_FOR;
        (recent && applied.occasion.is_again(occasion)).then(|| applied.clone())
    }

    /// Notes that the configurations of earlier pods are gone.
    pub fn swept(&self, key: &Key) {
        if let Some(applied) = self.lock().get_mut(key).and_then(|entry| entry.applied.as_mut()) {
            applied.swept = true;
        }
    }

    /// Notes that applying the children failed, and is not to be tried again before that moment.
    pub fn put_off(&self, key: &Key, occasion: Occasion, until: Instant, failure: Failure) {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.applied = None;
        entry.put_off = Some(PutOff { occasion, until, failure });
    }

    /// Why the children were not applied on the same occasion, while it is too early to try again.
    pub fn too_early(&self, key: &Key, occasion: Occasion, now: Instant) -> Option<(Failure, Duration)> {
        let entries = self.lock();
        let put_off = entries.get(key)?.put_off.as_ref()?;
        let left = put_off.until.saturating_duration_since(now);
        (put_off.occasion.is_again(occasion) && !left.is_zero()).then(|| (put_off.failure.clone(), left))
    }

    /// Notes a failure, and tells how long to wait before the next try.
    pub fn failed(&self, key: &Key, uid: &str, generation: i64) -> Duration {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_default();
        let subject = (uid.to_owned(), generation);
        if entry.subject != subject {
            entry.subject = subject;
            entry.failures = 0;
        }
        let delay = backoff(entry.failures);
        entry.failures = entry.failures.saturating_add(1);
        jittered(delay)
    }

    /// Notes that nothing is wrong any more.
    pub fn succeeded(&self, key: &Key) {
        if let Some(entry) = self.lock().get_mut(key) {
            entry.failures = 0;
        }
    }

    /// Notes the status written on the gateway as it was at `resource_version`.
    pub fn wrote(&self, key: &Key, resource_version: &str, status: &SseGatewayStatus, now: Instant) {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.written = Some((resource_version.to_owned(), status.clone()));
        entry.written_at = Some(now);
    }

    /// The status written on top of `resource_version`, while the watch has not brought it back.
    pub fn written(&self, key: &Key, resource_version: &str) -> Option<SseGatewayStatus> {
        let entries = self.lock();
        let (base, status) = entries.get(key)?.written.as_ref()?;
        (base == resource_version).then(|| status.clone())
    }

    /// Whether enough time has gone by to write a changed number of connections.
    pub fn may_count(&self, key: &Key, now: Instant) -> bool {
        let written_at = self.lock().get(key).and_then(|entry| entry.written_at);
        written_at.is_none_or(|at| now.saturating_duration_since(at) >= COUNT_EVERY)
    }

    /// Forgets a gateway that is gone.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures)).min(LAST_RETRY)
}

/// Up to a fifth more, so that what failed together is not retried together.
pub fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(1.0..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Changes;

    fn key() -> Key {
        ("demo".into(), "live".into())
    }

    #[test]
    fn retries_double_up_to_five_minutes() {
        let seconds: Vec<_> = (0..11).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(u32::MAX), LAST_RETRY);
    }

    /// A moment in what the watches told.
    fn occasion(plan: u64) -> Occasion {
        Occasion { plan, mark: Changes::default().mark(&key()) }
    }

    #[test]
    fn what_was_applied_holds_until_something_else_is_planned_or_time_goes_by() {
        let (memory, now) = (Memory::default(), Instant::now());
        let apply = |occasion| {
            let deployment = Deployment::default();
            memory.applied(&key(), Applied { occasion, at: now, deployment, waiting: false, swept: false });
        };
        let holds = |occasion, seconds| {
            memory.still_applied(&key(), occasion, now + Duration::from_secs(seconds)).is_some()
        };
        assert!(!holds(occasion(1), 0));
        apply(occasion(1));
        assert!(holds(occasion(1), 599));
        assert!(!holds(occasion(1), 600) && !holds(occasion(2), 0));
        apply(Occasion { plan: 1, mark: None });
        assert!(!holds(Occasion { plan: 1, mark: None }, 0), "a watch is blind");
        apply(occasion(1));
        memory.put_off(&key(), occasion(1), now, Failure { reason: "ApplyFailed", message: "no".into() });
        assert!(!holds(occasion(1), 0), "it failed since");
    }

    #[test]
    fn what_failed_is_put_off_on_the_same_occasion_only() {
        let (memory, now) = (Memory::default(), Instant::now());
        let failure = Failure { reason: "ApplyFailed", message: "denied".into() };
        memory.put_off(&key(), occasion(1), now + Duration::from_secs(8), failure.clone());
        let too_early =
            |occasion, seconds| memory.too_early(&key(), occasion, now + Duration::from_secs(seconds));
        assert_eq!(too_early(occasion(1), 3), Some((failure, Duration::from_secs(5))));
        assert_eq!(too_early(occasion(1), 8), None);
        assert_eq!(too_early(occasion(2), 3), None);
    }

    #[test]
    fn success_and_a_changed_spec_begin_anew() {
        let memory = Memory::default();
        let seconds = |generation| memory.failed(&key(), "u", generation).as_secs_f64();
        assert!(seconds(1) < 1.2);
        assert!(seconds(1) >= 2.0);
        assert!(seconds(2) < 1.2, "another generation");
        assert!(seconds(2) >= 2.0);
        memory.succeeded(&key());
        assert!(seconds(2) < 1.2, "after a success");
    }

    #[test]
    fn a_written_status_counts_until_the_watch_brings_it() {
        let memory = Memory::default();
        let status = SseGatewayStatus { replicas: Some(2), ..SseGatewayStatus::default() };
        let now = Instant::now();
        assert!(memory.may_count(&key(), now));
        memory.wrote(&key(), "7", &status, now);
        assert_eq!(memory.written(&key(), "7"), Some(status));
        assert_eq!(memory.written(&key(), "8"), None);
        assert!(!memory.may_count(&key(), now + Duration::from_secs(14)));
        assert!(memory.may_count(&key(), now + Duration::from_secs(15)));
        memory.forget(&key());
        assert_eq!(memory.written(&key(), "7"), None);
    }
}
