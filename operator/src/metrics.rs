//! What an operator counts, as `OpenMetrics` text.
//!
//! Labels come from closed sets, all of whose series are there from the start. The names are a contract,
//! in docs/telemetry.md. Only the leader has gateways to tell of: for all others, and for one that has
//! lost the Lease, every gauge is 0, so that a sum over all operators is right.

pub mod push;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use sse_otlp::Counter;

use crate::fleet::Fleet;
use crate::lease::Tenure;
use crate::requests::Verb;

/// Upper bounds of the buckets, in seconds. The last is the deadline of a reconciliation.
const BOUNDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

type Label = [(&'static str, &'static str); 1];

/// Why a reconciliation did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    InvalidSpec,
    ObjectNotOurs,
    MissingApi,
    Apply,
    Observe,
    Status,
    Deadline,
}

impl Failing {
    pub const ALL: [(Self, &str); 7] = [
        (Self::InvalidSpec, "invalid_spec"),
        (Self::ObjectNotOurs, "object_not_ours"),
        (Self::MissingApi, "missing_api"),
        (Self::Apply, "apply_failed"),
        (Self::Observe, "observe_failed"),
        (Self::Status, "status_failed"),
        (Self::Deadline, "deadline"),
    ];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Set when someone looks.
#[derive(Default)]
struct Gauges {
    leader: Gauge,
    ready: Gauge,
    unready: Gauge,
    rollouts: Gauge,
    waiting: Gauge,
}

/// Everything that an operator counts.
pub struct Metrics {
    registry: Registry,
    tenure: Arc<Tenure>,
    fleet: OnceLock<Box<dyn Fn() -> Fleet + Send + Sync>>,
    gauges: Gauges,
    duration: Histogram,
    errors: [Counter; Failing::ALL.len()],
    requests: [Counter; Verb::ALL.len()],
    pub spans_dropped: Counter,
    /// The duration again, for a collector.
    pushed: OnceLock<opentelemetry::metrics::Histogram<f64>>,
}

impl Metrics {
    /// Of an operator that leads while it has the tenure.
    #[must_use]
    pub fn new(tenure: Arc<Tenure>) -> Self {
        let mut registry = Registry::with_prefix("sse_operator");
        let r = &mut registry;
        let duration = Histogram::new(BOUNDS);
        let help = "Duration of the reconciliations of SseGateways";
        r.register_with_unit("reconcile_duration", help, Unit::Seconds, duration.clone());
        let errors = Family::<Label, Counter>::default();
        r.register("reconcile_errors", "Reconciliations that did not succeed", errors.clone());
        let requests = Family::<Label, Counter>::default();
        r.register("api_requests", "Requests to the API server", requests.clone());
        let spans_dropped = Counter::default();
        r.register("spans_dropped", "Spans that were not exported", spans_dropped.clone());
        r.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self {
            gauges: Gauges::registered(r),
            errors: Failing::ALL.map(|(_, reason)| errors.get_or_create_owned(&[("reason", reason)])),
            requests: Verb::ALL.map(|(_, verb)| requests.get_or_create_owned(&[("verb", verb)])),
            fleet: OnceLock::new(),
            pushed: OnceLock::new(),
            registry,
            tenure,
            duration,
            spans_dropped,
        }
    }

    /// Counts one reconciliation.
    pub fn reconciled(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
        if let Some(pushed) = self.pushed.get() {
            pushed.record(took.as_secs_f64(), &[]);
        }
    }

    /// Counts one that did not succeed.
    pub fn failed(&self, why: Failing) {
        self.errors[why as usize].inc();
    }

    /// Counts one request to the API server.
    pub fn requested(&self, verb: Verb) {
        self.requests[verb as usize].inc();
    }

    /// Says where the gateways are known. Once.
    pub fn look_at(&self, fleet: impl Fn() -> Fleet + Send + Sync + 'static) {
        let _ = self.fleet.set(Box::new(fleet));
    }

    /// Whether it leads, and the gateways that it then has to tell of.
    fn present(&self) -> (bool, Fleet) {
        let leads = self.tenure.holds();
        (leads, self.fleet.get().filter(|_| leads).map(|fleet| fleet()).unwrap_or_default())
    }

    /// What `/metrics` answers with.
    #[must_use]
    pub fn exposition(&self) -> String {
        let (leads, fleet) = self.present();
        self.gauges.set(leads, fleet);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Gauges {
    fn registered(r: &mut Registry) -> Self {
        let gateways = Family::<Label, Gauge>::default();
        r.register("gateways", "SseGateways, by their condition Ready", gateways.clone());
        let ready = gateways.get_or_create_owned(&[("ready", "true")]);
        let unready = gateways.get_or_create_owned(&[("ready", "false")]);
        let gauges = Self { ready, unready, ..Self::default() };
        r.register("leader", "Whether this operator holds the Lease and works", gauges.leader.clone());
        r.register("rollouts", "SseGateways whose pods are replaced", gauges.rollouts.clone());
        let help = "SseGateways whose pods are to be replaced after those of others";
        r.register("rollouts_waiting", help, gauges.waiting.clone());
        gauges
    }

    fn set(&self, leads: bool, fleet: Fleet) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.leader.set(leads.into());
        self.ready.set(count(fleet.ready));
        self.unready.set(count(fleet.unready));
        self.rollouts.set(count(fleet.rolling));
        self.waiting.set(count(fleet.waiting));
    }
}

#[cfg(test)]
impl Default for Metrics {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

#[cfg(test)]
pub mod tests;
