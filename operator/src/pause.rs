//! Pauses between tries to watch gateways: kube's own, which reach a minute, cut short. Who installs the definition last waits
//! for this watch.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;

use crate::memory::jittered;

/// Longest of them, more or less.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Short(DefaultBackoff);

impl Iterator for Short {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(jittered(LONGEST)))
    }
}

impl Backoff for Short {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_and_stay_short() {
        let pauses: Vec<_> = Short::default().take(20).collect();
        assert!(pauses[0] < Duration::from_secs(2), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST.mul_f64(1.2)), "{pauses:?}");
        assert!(pauses[19] > Duration::from_secs(2), "{pauses:?}");
    }
}
