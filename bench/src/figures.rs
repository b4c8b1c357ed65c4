//! What was measured: samples of each figure of each party, on which machine, and what went wrong.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::party::Name;

/// Everything that a run tells; its JSON is what docs/performance.md is made from.
#[derive(Default, Serialize, Deserialize)]
pub struct Figures {
    pub machine: Machine,
    /// Of each figure, of each party.
    samples: BTreeMap<String, BTreeMap<Name, Vec<f64>>>,
    /// What the present measure has found; it counts when nothing was lost or doubled in it.
    #[serde(skip)]
    found: Vec<(String, Name, f64)>,
    /// What the gateway or the floor did wrong: the command fails.
    pub failures: Vec<String>,
    /// What a peer did wrong: it is told.
    pub peers: Vec<String>,
}

/// The middle of the samples, and how far they go.
#[derive(Clone, Copy)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub count: usize,
}

impl Figures {
    #[must_use]
    pub fn on(machine: Machine) -> Self {
        Self { machine, ..Self::default() }
    }

    /// Adds a sample of a measure that [`Figures::told`] will judge, and tells it.
    pub fn add(&mut self, figure: &str, party: Name, value: f64) {
        eprintln!("  {figure} {party:?}: {value:.2}");
        // As many digits as can be meant.
        let value = (value * 1000.0).round() / 1000.0;
        self.found.push((figure.into(), party, value));
    }

    /// Adds the half, 99 and 99.9 percent of what so many microseconds tell, in milliseconds.
    pub fn add_delays(&mut self, names: [&str; 3], party: Name, mut delays: Vec<u32>) {
        delays.sort_unstable();
        for (name, part) in names.into_iter().zip([0.5, 0.99, 0.999]) {
            self.add(name, party, f64::from(quantile(&delays, part)) / 1000.0);
        }
    }

    /// Keeps the samples of a measure that went right, and notes what did not: the others are measured all the same.
    pub fn told(&mut self, measure: &str, party: Name, result: Result<()>) {
        let found = std::mem::take(&mut self.found);
        let Err(error) = result else {
            for (figure, party, value) in found {
                self.samples.entry(figure).or_default().entry(party).or_default().push(value);
            }
            return;
        };
        let text = format!("{measure}, {party:?}: {error:#}");
        eprintln!("  FAILED {text}");
        match party {
            Name::Ours | Name::Floor => self.failures.push(text),
            Name::Nchan | Name::Mercure => self.peers.push(text),
        }
    }

    #[must_use]
    pub fn of(&self, figure: &str, party: Name) -> Option<Summary> {
        let mut samples = self.samples.get(figure)?.get(&party)?.clone();
        samples.sort_by(f64::total_cmp);
        let (least, most) = (*samples.first()?, *samples.last()?);
        let middle = samples.len() / 2;
        let median = match samples.len() % 2 {
            0 => f64::midpoint(samples[middle - 1], samples[middle]),
            _ => samples[middle],
        };
        Some(Summary { median, least, most, count: samples.len() })
    }
}

/// The share `part` (of 1) of the samples is at most this.
fn quantile(sorted: &[u32], part: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the slice")]
    let at = (part * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_spread_are_those_of_the_samples() {
        let mut figures = Figures::default();
        for value in [3.0, 1.0, 10.0, 2.0] {
            figures.add("x", Name::Ours, value);
            figures.told("measure", Name::Ours, Ok(()));
        }
        let summary = figures.of("x", Name::Ours).expect("samples");
        let told = format!("{} {} {}", summary.median, summary.least, summary.most);
        assert_eq!(told, "2.5 1 10");
        assert!(figures.of("x", Name::Floor).is_none());
    }

    #[test]
    fn a_hundredth_of_the_samples_is_above_p99() {
        let sorted: Vec<u32> = (0..1000).collect();
        assert_eq!(quantile(&sorted, 0.99), 990);
        assert_eq!(quantile(&sorted, 1.0), 999);
        assert_eq!(quantile(&[], 0.5), 0);
    }

    #[test]
    fn a_peer_that_fails_is_told_the_gateway_that_fails_is_a_failure_and_neither_has_a_figure() {
        let mut figures = Figures::default();
        figures.add("x", Name::Nchan, 1.0);
        figures.told("memory", Name::Nchan, Err(anyhow::anyhow!("lost")));
        assert!(figures.failures.is_empty() && figures.peers.len() == 1);
        assert!(figures.of("x", Name::Nchan).is_none());
        figures.told("memory", Name::Ours, Err(anyhow::anyhow!("lost")));
        assert_eq!(figures.failures.len(), 1);
    }
}
