//! What the operator remembers of each gateway between two looks at it: how often it failed, and
//! the status that it wrote last. Losing it costs a retry or a write, never correctness.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sse_crds::SseGatewayStatus;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(5);
/// Least time between two writes of `status.connections` alone.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Namespace and name of a gateway.
pub type Key = (String, String);

#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Key, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    /// Uid and generation that `failures` counts for: a changed spec begins anew.
    subject: (String, i64),
    failures: u32,
    /// Resource version that the gateway had when its status was written, and that status.
    written: Option<(String, SseGatewayStatus)>,
    written_at: Option<Instant>,
}

impl Memory {
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

    fn key() -> Key {
        ("demo".into(), "live".into())
    }

    #[test]
    fn retries_double_up_to_five_minutes() {
        let seconds: Vec<_> = (0..11).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(u32::MAX), LAST_RETRY);
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
