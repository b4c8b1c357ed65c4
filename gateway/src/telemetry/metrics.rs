//! What a pod counts. Scraped as `OpenMetrics` text from the admin port, and read by the OTLP exporter.
//!
//! Labels come from closed sets, all of whose series are there from the start: a rate over a series that appears
//! with its first count misses that count. The names are a contract, in docs/telemetry.md.

use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::push::Pushed;
use crate::connection::End;
use crate::history::{Outcome, Skip};
use crate::wire::Reset;

/// A counter; clones count together.
pub use sse_otlp::Counter;

/// Bounds of the latency's buckets, in seconds.
pub(super) const LATENCY: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of the buckets for the life of a stream, in seconds.
pub(super) const LIFE: [f64; 9] = [1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 21_600.0, 86_400.0];

/// The trace of an observation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Exemplar {
    trace_id: String,
}

/// What is known elsewhere, and asked for when someone looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present {
    pub connections: u32,
    pub limit: u32,
    pub nats_connected: bool,
    pub nats_lag: u64,
    pub draining: bool,
}

/// Counters, one for each value of a label.
pub struct Labelled {
    pub(super) label: &'static str,
    pub(super) counters: Vec<(&'static str, Counter)>,
}

impl Labelled {
    /// Counts one. A value outside the closed set counts nowhere: there is none.
    pub fn inc(&self, value: &'static str) {
        if let Some(counter) = self.get(value) {
            counter.inc();
        }
    }

    /// The counter of one value.
    #[must_use]
    pub fn get(&self, value: &'static str) -> Option<&Counter> {
        self.counters.iter().find(|(known, _)| *known == value).map(|(_, counter)| counter)
    }
}

/// Everything that a pod counts.
pub struct Metrics {
    registry: Registry,
    present: OnceLock<Box<dyn Fn() -> Present + Send + Sync>>,
    pub(super) gauges: Gauges,
    /// By [`Outcome`](crate::http::Outcome).
    pub connects: Labelled,
    pub tokens: Labelled,
    pub publishes: Labelled,
    pub dropped: Labelled,
    pub resets: Labelled,
    pub history: Labelled,
    pub history_skipped: Labelled,
    pub delivered: Counter,
    pub replayed: Counter,
    pub gaps_repaired: Counter,
    pub nats_reconnects: Counter,
    pub slow_consumer: Counter,
    pub spans_dropped: Counter,
    latency: HistogramWithExemplars<Exemplar>,
    life: Vec<(End, Histogram)>,
    /// The same for OTLP, where histograms are not read but written.
    pub(super) pushed: OnceLock<Pushed>,
}

/// Set when someone looks.
#[derive(Default)]
pub(super) struct Gauges {
    pub connections: Gauge,
    pub limit: Gauge,
    pub nats_connected: Gauge,
    pub nats_lag: Gauge,
    pub draining: Gauge,
}

/// A part of a whole, and its name.
pub(super) type Named<W, P> = (&'static str, fn(&W) -> &P);

/// Their names, after the prefix.
pub(super) const GAUGES: [Named<Gauges, Gauge>; 5] = [
    ("active_connections", |gauges| &gauges.connections),
    ("connections_limit", |gauges| &gauges.limit),
    ("nats_connected", |gauges| &gauges.nats_connected),
    ("nats_lag_events", |gauges| &gauges.nats_lag),
    ("draining", |gauges| &gauges.draining),
];
const HELP: [&str; 5] = [
    "Open streams",
    "Streams that the pod may have",
    "Whether NATS can be used",
    "Events between the end of the log and the pod",
    "Whether the pod is about to end",
];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sse_server");
        let r = &mut registry;
        let gauges = Gauges::default();
        for ((name, of), help) in GAUGES.into_iter().zip(HELP) {
            r.register(name, help, of(&gauges).clone());
        }
        r.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let life = Family::<[(&'static str, &'static str); 1], Histogram>::new_with_constructor(|| {
            Histogram::new(LIFE)
        });
        r.register_with_unit("connection_duration", "Life of a stream", Unit::Seconds, life.clone());
        let life = End::ALL.map(|end| (end, life.get_or_create_owned(&[("reason", end.as_str())])));
        let latency = HistogramWithExemplars::new(LATENCY.into_iter());
        let help = "From the storage of an event in JetStream until it goes to a socket";
        r.register_with_unit("delivery_latency", help, Unit::Seconds, latency.clone());
        Self {
            connects: labelled(r, "connects", "Answers to handshakes", "result", &CONNECTS),
            tokens: labelled(r, "tokens", "Tokens minted and presented", "result", &TOKENS),
            publishes: labelled(r, "publishes", "Events that came over HTTP", "result", &PUBLISHES),
            dropped: labelled(r, "events_dropped", "Events that were not delivered", "reason", &DROPS),
            resets: labelled(
                r,
                "resets",
                "Gaps that clients were told of",
                "reason",
                &Reset::ALL.map(Reset::as_str),
            ),
            history: labelled(
                r,
                "history",
                "Ways of clients through the history service",
                "result",
                &Outcome::ALL.map(Outcome::as_str),
            ),
            history_skipped: labelled(
                r,
                "history_skipped",
                "Entries of the history service that were left out",
                "reason",
                &Skip::ALL.map(Skip::as_str),
            ),
            delivered: counter(r, "events_delivered", "Events that went to a socket"),
            replayed: counter(r, "events_replayed", "Delivered events that a client had missed"),
            gaps_repaired: counter(r, "gaps_repaired", "Losses of the live feed, read from the log"),
            nats_reconnects: counter(r, "nats_reconnects", "Connections to NATS after the first"),
            slow_consumer: counter(r, "nats_slow_consumer", "Overflows of the live feed"),
            spans_dropped: counter(r, "spans_dropped", "Spans that were not exported"),
            present: OnceLock::new(),
            pushed: OnceLock::new(),
            life: life.into(),
            registry,
            gauges,
            latency,
        }
    }

    /// Says where the present is known. Once.
    pub fn look_at(&self, present: impl Fn() -> Present + Send + Sync + 'static) {
        let _ = self.present.set(Box::new(present));
    }

    /// Events that nobody may get.
    #[must_use]
    pub fn refused(&self) -> Counter {
        self.dropped.get("refused").cloned().unwrap_or_default()
    }

    /// Takes the present.
    pub(super) fn refresh(&self) {
        let Some(present) = self.present.get() else { return };
        let Present { connections, limit, nats_connected, nats_lag, draining } = present();
        self.gauges.connections.set(connections.into());
        self.gauges.limit.set(limit.into());
        self.gauges.nats_connected.set(nats_connected.into());
        self.gauges.nats_lag.set(nats_lag.try_into().unwrap_or(i64::MAX));
        self.gauges.draining.set(draining.into());
    }

    /// Notes the end of a stream.
    pub fn ended(&self, end: End, seconds: f64) {
        if let Some((_, histogram)) = self.life.iter().find(|(known, _)| *known == end) {
            histogram.observe(seconds);
        }
        if let Some(pushed) = self.pushed.get() {
            pushed.ended(end, seconds);
        }
    }

    /// Notes how late an event was; `trace`: of its delivery, when that is sampled.
    pub(super) fn late(&self, seconds: f64, trace: Option<String>) {
        self.latency.observe(seconds, trace.map(|trace_id| Exemplar { trace_id }), None);
        if let Some(pushed) = self.pushed.get() {
            pushed.late(seconds);
        }
    }

    /// All of it, as `OpenMetrics` text.
    #[must_use]
    pub fn text(&self) -> String {
        self.refresh();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Results of a handshake.
const CONNECTS: [&str; 9] = [
    "ok",
    "completed",
    "bad_request",
    "unauthorized",
    "forbidden",
    "user_limit",
    "pod_limit",
    "unavailable",
    "error",
];
/// What became of a token.
const TOKENS: [&str; 4] = ["minted", "redeemed", "refused", "unavailable"];
/// What became of an event that came over HTTP.
const PUBLISHES: [&str; 6] = ["accepted", "duplicate", "refused", "unauthorized", "forbidden", "unavailable"];
/// Why an event was not delivered.
const DROPS: [&str; 2] = ["overflow", "refused"];

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn labelled(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[&'static str],
) -> Labelled {
    let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
    registry.register(name, help, family.clone());
    let counters = values.iter().map(|value| (*value, family.get_or_create_owned(&[(label, *value)])));
    Labelled { label, counters: counters.collect() }
}
