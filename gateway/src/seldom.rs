//! Log lines about what strangers can cause at any rate: one in a while, which says how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One line for all that happens in this time.
const TOLD: Duration = Duration::from_secs(1);

/// Whether it is time for another line.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    /// Left out since.
    others: u64,
}

impl Seldom {
    /// If a line is due: how many were left out before it.
    pub fn turn(&self) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.at.is_some_and(|at| at.elapsed() < TOLD) {
            told.others += 1;
            return None;
        }
        told.at = Some(Instant::now());
        Some(std::mem::take(&mut told.others))
    }
}

/// Lines about streams in a second, at most.
const CALM: u32 = 100;

/// Whether streams come and go slowly enough for a line each.
#[derive(Debug, Default)]
pub struct Pace(Mutex<(Option<Instant>, u32)>);

impl Pace {
    /// Counts one; whether it is among the first of this second.
    pub fn is_calm(&self) -> bool {
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = &mut *pace;
        if since.is_none_or(|since| since.elapsed() >= TOLD) {
            (*since, *count) = (Some(Instant::now()), 0);
        }
        *count = count.saturating_add(1);
        *count <= CALM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_many_one_is_told_in_a_second_with_how_many_were_not() {
        let seldom = Seldom::default();
        assert_eq!([seldom.turn(), seldom.turn(), seldom.turn()], [Some(0), None, None]);
        tokio::time::advance(TOLD).await;
        assert_eq!([seldom.turn(), seldom.turn()], [Some(2), None]);
        tokio::time::advance(TOLD).await;
        assert_eq!(seldom.turn(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_has_as_many_lines_as_a_calm_second_and_the_next_one_begins_anew() {
        let pace = Pace::default();
        let told = || (0..1000).filter(|_| pace.is_calm()).count();
        assert_eq!((told(), told()), (100, 0));
        tokio::time::advance(TOLD).await;
        assert_eq!(told(), 100);
    }
}
