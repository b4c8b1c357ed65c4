//! The same metrics by OTLP. Counters and gauges are read when it is time to push; histograms can only be
//! written, and are, while there is a collector.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use sse_otlp::MetricExporter;

use super::metrics::{Counter, LATENCY, LIFE, Labelled, Metrics, Named};
use crate::connection::End;

/// How often they are pushed.
const INTERVAL: Duration = Duration::from_secs(15);

/// The histograms.
pub(super) struct Pushed {
    latency: Histogram<f64>,
    life: Histogram<f64>,
}

impl Pushed {
    pub fn ended(&self, end: End, seconds: f64) {
        self.life.record(seconds, &[KeyValue::new("reason", end.as_str())]);
    }

    pub fn late(&self, seconds: f64) {
        self.latency.record(seconds, &[]);
    }
}

/// Pushes the metrics until the provider is shut down.
pub(super) fn start(
    metrics: &Arc<Metrics>,
    exporter: MetricExporter,
    resource: Resource,
) -> SdkMeterProvider {
    let reader = PeriodicReader::builder(exporter).with_interval(INTERVAL).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
    let meter = provider.meter("sse-gateway");
    observe(&meter, metrics);
    let histogram = |name, bounds: &[f64]| {
        meter.f64_histogram(name).with_unit("s").with_boundaries(bounds.to_vec()).build()
    };
    let pushed = Pushed {
        latency: histogram("sse.server.delivery_latency", &LATENCY),
        life: histogram("sse.server.connection_duration", &LIFE),
    };
    // Once: there is one collector.
    let _ = metrics.pushed.set(pushed);
    provider
}

fn observe(meter: &Meter, metrics: &Arc<Metrics>) {
    let labelled: [Named<Metrics, Labelled>; 7] = [
        ("sse.server.connects", |m| &m.connects),
        ("sse.server.tokens", |m| &m.tokens),
        ("sse.server.publishes", |m| &m.publishes),
        ("sse.server.events_dropped", |m| &m.dropped),
        ("sse.server.resets", |m| &m.resets),
        ("sse.server.history", |m| &m.history),
        ("sse.server.history_skipped", |m| &m.history_skipped),
    ];
    for (name, of) in labelled {
        let metrics = metrics.clone();
        let build = meter.u64_observable_counter(name).with_callback(move |observer| {
            let Labelled { label, counters } = of(&metrics);
            for (value, counter) in counters {
                observer.observe(counter.get(), &[KeyValue::new(*label, *value)]);
            }
        });
        build.build();
    }
    let counters: [Named<Metrics, Counter>; 6] = [
        ("sse.server.events_delivered", |m| &m.delivered),
        ("sse.server.events_replayed", |m| &m.replayed),
        ("sse.server.gaps_repaired", |m| &m.gaps_repaired),
        ("sse.server.nats_reconnects", |m| &m.nats_reconnects),
        ("sse.server.nats_slow_consumer", |m| &m.slow_consumer),
        ("sse.server.spans_dropped", |m| &m.spans_dropped),
    ];
    for (name, of) in counters {
        let metrics = metrics.clone();
        let build = meter.u64_observable_counter(name);
        build.with_callback(move |observer| observer.observe(of(&metrics).get(), &[])).build();
    }
    for (name, of) in super::metrics::GAUGES {
        let metrics = metrics.clone();
        let build = meter.i64_observable_gauge(format!("sse.server.{name}")).with_callback(move |observer| {
            metrics.refresh();
            observer.observe(of(&metrics.gauges).get(), &[]);
        });
        build.build();
    }
}
