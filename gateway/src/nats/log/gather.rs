//! When the log is read on: not while clients come back by the thousand, all with about the same cursor. A sweep that sets
//! off with the first of them has to go back for the others, or to come again, and reads once more what they missed.
//!
//! No clock is read here: who asks brings the time.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked whether many come.
const LOOK: Duration = Duration::from_millis(25);
/// Searches that begin within [`LOOK`] when many come.
const MANY: u32 = 100;
/// Longest wait for those who come.
const LONGEST: Duration = Duration::from_secs(1);

/// What is known of those who come.
pub(super) struct Gather {
    /// The last look, and how many searches had begun then.
    looked: (Instant, u64),
    many: bool,
    /// When the present wait began.
    since: Option<Instant>,
    /// After a wait there is none for as long as it was: who is there already gets on.
    not_before: Instant,
}

impl Gather {
    pub const fn new(now: Instant) -> Self {
        Self { looked: (now, 0), many: false, since: None, not_before: now }
    }

    /// Until when nothing is to be read, if it is to be waited; `begun`: searches since the start.
    pub fn wait(&mut self, now: Instant, begun: u64) -> Option<Instant> {
        let (at, before) = self.looked;
        let passed = now.saturating_duration_since(at);
        if passed >= LOOK {
            let came = u32::try_from(begun - before).unwrap_or(u32::MAX);
            self.many = LOOK.saturating_mul(came) >= passed.saturating_mul(MANY);
            self.looked = (now, begun);
        }
        let next = self.looked.0 + LOOK;
        match self.since {
            Some(since) if self.many && now.saturating_duration_since(since) < LONGEST => Some(next),
            Some(since) => {
                self.since = None;
                self.not_before = now + now.saturating_duration_since(since);
                None
            }
            None if self.many && now >= self.not_before => {
                self.since = Some(now);
                Some(next)
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every five milliseconds, with so many searches each time; answers for how long it was waited.
    fn waited(came: impl Fn(u32) -> u64, looks: u32) -> Vec<u32> {
        let begin = Instant::now();
        let (mut gather, mut begun) = (Gather::new(begin), 0);
        let waits = |look: &u32| {
            begun += came(*look);
            gather.wait(begin + Duration::from_millis(5) * *look, begun).is_some()
        };
        (1..=looks).filter(waits).map(|look| look * 5).collect()
    }

    #[test]
    fn who_comes_alone_waits_for_nobody() {
        assert!(waited(|_| 1, 1000).is_empty());
    }

    #[test]
    fn a_crowd_is_waited_for_until_it_is_there() {
        let waits = waited(|look| if look <= 60 { 40 } else { 0 }, 200);
        assert_eq!((waits.first(), waits.last()), (Some(&25), Some(&320)));
        assert_eq!(waits.len(), 60);
    }

    #[test]
    fn one_that_never_ends_holds_up_the_others_half_of_the_time() {
        let waits = waited(|_| 40, 2000);
        assert!(waits.contains(&1000) && !waits.contains(&1100) && waits.contains(&2100), "{waits:?}");
        assert!(waits.len() <= 1030, "{}", waits.len());
    }
}
