//! What was measured: samples of each figure of each party.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::party::Name;

/// Samples, and what went wrong.
#[derive(Default)]
pub struct Figures {
    samples: BTreeMap<(&'static str, Name), Vec<f64>>,
    pub failures: Vec<String>,
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
    /// Adds a sample, and tells it.
    pub fn add(&mut self, figure: &'static str, party: Name, value: f64) {
        eprintln!("  {figure} {party:?}: {value:.2}");
        self.samples.entry((figure, party)).or_default().push(value);
    }

    /// Adds the half, 99 and 99.9 percent of what so many microseconds tell, in milliseconds.
    pub fn add_delays(&mut self, names: [&'static str; 3], party: Name, mut delays: Vec<u32>) {
        delays.sort_unstable();
        for (name, part) in names.into_iter().zip([0.5, 0.99, 0.999]) {
            self.add(name, party, f64::from(quantile(&delays, part)) / 1000.0);
        }
    }

    #[must_use]
    pub fn of(&self, figure: &str, party: Name) -> Option<Summary> {
        let found = self.samples.iter().find(|((name, of), _)| *name == figure && *of == party);
        let mut samples = found?.1.clone();
        samples.sort_by(f64::total_cmp);
        let (least, most) = (*samples.first()?, *samples.last()?);
        let middle = samples.len() / 2;
        let median = match samples.len() % 2 {
            0 => f64::midpoint(samples[middle - 1], samples[middle]),
            _ => samples[middle],
        };
        Some(Summary { median, least, most, count: samples.len() })
    }

    #[must_use]
    pub fn to_json(&self) -> Value {
        let figures = self
            .samples
            .iter()
            .map(|((figure, party), samples)| json!({"figure": figure, "party": party, "samples": samples}));
        json!({"figures": figures.collect::<Vec<_>>(), "failures": self.failures})
    }
}

/// The share `part` (of 1) of the samples is at most this.
#[must_use]
fn quantile(sorted: &[u32], part: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the slice")]
    let at = (part * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
