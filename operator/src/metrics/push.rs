//! The same metrics by OTLP. Counters and gauges are read when it is time to push; the histogram can only be
//! written, and is, while there is a collector.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use sse_otlp::MetricExporter;

use super::{BOUNDS, Counter, Metrics};
use crate::fleet::Fleet;
use crate::metrics::Failing;
use crate::requests::Verb;

/// How often they are pushed.
const INTERVAL: Duration = Duration::from_secs(15);

/// A gauge, and what is read for it.
type Read = fn(bool, Fleet) -> usize;

const GATEWAYS: [(Option<&str>, Read); 2] =
    [(Some("true"), |_, fleet| fleet.ready), (Some("false"), |_, fleet| fleet.unready)];

/// Pushes the metrics until the provider is shut down.
pub fn start(metrics: &Arc<Metrics>, exporter: MetricExporter, resource: Resource) -> SdkMeterProvider {
    let reader = PeriodicReader::builder(exporter).with_interval(INTERVAL).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
    let meter = provider.meter("sse-operator");
    let histogram = meter.f64_histogram("sse.operator.reconcile_duration").with_unit("s");
    // Once: there is one collector.
    let _ = metrics.pushed.set(histogram.with_boundaries(BOUNDS.to_vec()).build());
    counters(&meter, "sse.operator.reconcile_errors", "reason", metrics, |metrics| {
        Failing::ALL.iter().map(|(_, reason)| *reason).zip(&metrics.errors).collect()
    });
    counters(&meter, "sse.operator.api_requests", "verb", metrics, |metrics| {
        Verb::ALL.iter().map(|(_, verb)| *verb).zip(&metrics.requests).collect()
    });
    let dropped = metrics.spans_dropped.clone();
    let build = meter.u64_observable_counter("sse.operator.spans_dropped");
    build.with_callback(move |observer| observer.observe(dropped.get(), &[])).build();
    gauge(&meter, "sse.operator.leader", metrics, &[(None, |leads, _| leads.into())]);
    gauge(&meter, "sse.operator.rollouts", metrics, &[(None, |_, fleet| fleet.rolling)]);
    gauge(&meter, "sse.operator.rollouts_waiting", metrics, &[(None, |_, fleet| fleet.waiting)]);
    gauge(&meter, "sse.operator.gateways", metrics, &GATEWAYS);
    provider
}

/// A counter for each value of a label.
fn counters(
    meter: &Meter,
    name: &'static str,
    label: &'static str,
    metrics: &Arc<Metrics>,
    of: fn(&Metrics) -> Vec<(&'static str, &Counter)>,
) {
    let metrics = metrics.clone();
    let build = meter.u64_observable_counter(name).with_callback(move |observer| {
        for (value, counter) in of(&metrics) {
            observer.observe(counter.get(), &[KeyValue::new(label, value)]);
        }
    });
    build.build();
}

/// A gauge, for each value of the label `ready` if it has that.
fn gauge(
    meter: &Meter,
    name: &'static str,
    metrics: &Arc<Metrics>,
    values: &'static [(Option<&'static str>, Read)],
) {
    let metrics = metrics.clone();
    let build = meter.u64_observable_gauge(name).with_callback(move |observer| {
        let (leads, fleet) = metrics.present();
        for (ready, read) in values {
            let labels = ready.map(|ready| KeyValue::new("ready", ready));
            observer.observe(u64::try_from(read(leads, fleet)).unwrap_or(u64::MAX), labels.as_slice());
        }
    });
    build.build();
}
