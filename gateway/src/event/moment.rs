//! When an event was stored, by both clocks: the wall's, which the server told it by, and the one that only goes
//! forward, which each write looks at anyway. The two are brought together once for an event, not for each
//! of its deliveries.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The moment in which an event was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Microseconds since 1970.
    pub micros: u64,
    /// The same; the present, where the server's clock is ahead of ours.
    pub at: Instant,
}

impl Stored {
    #[must_use]
    pub fn new(micros: u64) -> Self {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let ago = wall.duration_since(UNIX_EPOCH + Duration::from_micros(micros)).unwrap_or_default();
        Self { micros, at: now.checked_sub(ago).unwrap_or(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(time: SystemTime) -> u64 {
        time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
    }

    #[test]
    fn what_was_stored_a_minute_ago_is_a_minute_late() {
        let minute = Duration::from_mins(1);
        let late = Stored::new(micros(SystemTime::now() - minute)).at.elapsed();
        assert!(late >= minute && late < 2 * minute, "{late:?}");
    }

    #[test]
    fn a_clock_that_is_ahead_makes_nothing_early() {
        let before = Instant::now();
        let stored = Stored::new(micros(SystemTime::now() + Duration::from_mins(1)));
        assert!(stored.at >= before && stored.at <= Instant::now());
    }
}
