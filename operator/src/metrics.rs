//! The operator's own numbers, in the Prometheus text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::requests::Verb;

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts of reconciliations and of requests, and whether this operator leads.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Reconciliations per bucket, not cumulated; the last are beyond all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    errors: AtomicU64,
    /// Requests to the API server, by verb.
    requests: [AtomicU64; Verb::ALL.len()],
    leads: AtomicBool,
}

impl Metrics {
    /// Counts one reconciliation.
    pub fn reconciled(&self, took: Duration, ok: bool) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        if !ok {
            self.errors.fetch_add(1, Relaxed);
        }
    }

    /// Counts one request to the API server.
    pub fn requested(&self, verb: Verb) {
        self.requests[verb as usize].fetch_add(1, Relaxed);
    }

    /// Notes that this operator is the one that works.
    pub fn leads(&self) {
        self.leads.store(true, Relaxed);
    }

    /// The exposition that `/metrics` answers with.
    #[must_use]
    pub fn exposition(&self) -> String {
        const DURATION: &str = "sse_operator_reconcile_duration_seconds";
        const ERRORS: &str = "sse_operator_reconcile_errors_total";
        const REQUESTS: &str = "sse_operator_api_requests_total";
        const LEADER: &str = "sse_operator_leader";
        let mut text = format!(
            "# HELP {DURATION} Duration of the reconciliations of SseGateways.\n# TYPE {DURATION} histogram\n"
        );
        let mut count = 0;
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Relaxed);
            line(&mut text, format_args!("{DURATION}_bucket{{le=\"{bound}\"}} {count}"));
        }
        let seconds = Duration::from_micros(self.micros.load(Relaxed)).as_secs_f64();
        line(&mut text, format_args!("{DURATION}_sum {seconds}"));
        line(&mut text, format_args!("{DURATION}_count {count}"));
        line(&mut text, format_args!("# HELP {ERRORS} Reconciliations of SseGateways that failed."));
        line(&mut text, format_args!("# TYPE {ERRORS} counter"));
        line(&mut text, format_args!("{ERRORS} {}", self.errors.load(Relaxed)));
        line(&mut text, format_args!("# HELP {REQUESTS} Requests to the API server."));
        line(&mut text, format_args!("# TYPE {REQUESTS} counter"));
        for ((_, verb), count) in Verb::ALL.iter().zip(&self.requests) {
            line(&mut text, format_args!("{REQUESTS}{{verb=\"{verb}\"}} {}", count.load(Relaxed)));
        }
        line(&mut text, format_args!("# HELP {LEADER} Whether this operator holds the Lease and works."));
        line(&mut text, format_args!("# TYPE {LEADER} gauge"));
        line(&mut text, format_args!("{LEADER} {}", u8::from(self.leads.load(Relaxed))));
        text
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciliations_are_counted_by_duration_and_outcome() {
        let metrics = Metrics::default();
        metrics.reconciled(Duration::from_millis(5), true);
        metrics.reconciled(Duration::from_millis(300), false);
        metrics.reconciled(Duration::from_mins(1), true);
        assert!(metrics.exposition().ends_with("sse_operator_leader 0\n"));
        metrics.leads();
        let text = metrics.exposition();
        for line in [
            "# TYPE sse_operator_reconcile_duration_seconds histogram",
            "sse_operator_reconcile_duration_seconds_bucket{le=\"0.005\"} 1",
            "sse_operator_reconcile_duration_seconds_bucket{le=\"0.25\"} 1",
            "sse_operator_reconcile_duration_seconds_bucket{le=\"0.5\"} 2",
            "sse_operator_reconcile_duration_seconds_bucket{le=\"1\"} 2",
            "sse_operator_reconcile_duration_seconds_bucket{le=\"+Inf\"} 3",
            "sse_operator_reconcile_duration_seconds_sum 60.305",
            "sse_operator_reconcile_duration_seconds_count 3",
            "sse_operator_reconcile_errors_total 1",
            "sse_operator_api_requests_total{verb=\"read\"} 0",
            "sse_operator_leader 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in:\n{text}");
        }
    }
}
