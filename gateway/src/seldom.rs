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
}
