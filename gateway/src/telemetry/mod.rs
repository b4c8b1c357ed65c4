//! What a pod tells of itself: [`metrics`], traces and log lines, by the contract in docs/telemetry.md.
//!
//! A stream has an [`Observer`], which its writer tells of each event that goes to the socket, and which tells of
//! its end. With no collector there are no spans, and what is left is a few counters.

pub mod metrics;
mod push;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use sse_crds::SecretKeyRef;
use sse_otlp::{Collector, MetricExporter, Queue, Secret, Settings};
use tokio::time::Instant;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::config::Config;
use crate::connection::End;
use crate::event::Delivery;
use crate::secret::SecretFile;
use crate::seldom::Pace;
use metrics::Metrics;
use trace::{Ids, Share, Totals, Tracer};
pub use trace::{Origin, StreamTrace};

/// Target of the spans that go to the collector.
pub const TARGET: &str = "sse_gateway::trace";

/// What all of the pod shares.
pub struct Telemetry {
    pub metrics: Arc<Metrics>,
    /// Of the log lines about streams.
    pace: Pace,
    tracer: Option<Tracer>,
    providers: Option<(SdkTracerProvider, SdkMeterProvider)>,
}

impl Telemetry {
    /// Counts, and exports if the configuration names a collector. Inside the runtime.
    #[must_use]
    pub fn start(config: &Config, pod: &str) -> Arc<Self> {
        let Some(collector) = Collector::new(settings(config)) else { return Self::counting() };
        let metrics = Arc::new(Metrics::new());
        let resource = resource(config, pod);
        let spec = &config.spec.telemetry;
        let spans = SdkTracerProvider::builder()
            .with_sampler(Share::of(spec.trace_sample_percent.0))
            .with_id_generator(Ids::default())
            .with_resource(resource.clone())
            .with_span_processor(Queue::new(collector.clone(), metrics.spans_dropped.clone()))
            .build();
        let meters = push::start(&metrics, MetricExporter::new(collector), resource);
        let tracer = spans.tracer("sse-gateway");
        let tracer = Tracer { tracer, deliveries: Share::of(spec.delivery_sample_percent.0) };
        Arc::new(Self {
            metrics,
            pace: Pace::default(),
            tracer: Some(tracer),
            providers: Some((spans, meters)),
        })
    }

    /// Counts, and exports nothing.
    #[must_use]
    pub fn counting() -> Arc<Self> {
        let (metrics, pace) = (Arc::new(Metrics::new()), Pace::default());
        Arc::new(Self { metrics, pace, tracer: None, providers: None })
    }

    /// What makes spans of `tracing` spans of OpenTelemetry; `None` without a collector.
    #[must_use]
    pub fn tracer(&self) -> Option<SdkTracer> {
        self.tracer.as_ref().map(|tracer| tracer.tracer.clone())
    }

    /// Exports what waits, as far as there is time.
    pub async fn stop(&self) {
        if let Some((spans, meters)) = self.providers.clone() {
            sse_otlp::stop(spans, meters).await;
        }
    }

    /// Notes what opened in the span of its handshake, and answers what accompanies it.
    #[must_use]
    pub fn observe(self: &Arc<Self>, stream: &Opened) -> Observer {
        let trace = self.tracer.as_ref().and_then(|_| {
            let connect = Span::current();
            let context = connect.context().span().span_context().clone();
            let Opened { tenant, connection, tags, resumed, version } = stream;
            connect.set_attribute("sse.tenant", tenant.clone());
            connect.set_attribute("sse.connection.id", connection.clone());
            connect.set_attribute("sse.resumed", *resumed);
            tags.iter().for_each(|(name, value)| connect.set_attribute(trace::tag(name), value.clone()));
            let (tenant, connection) = (tenant.clone(), connection.clone());
            let traced = context.is_sampled();
            let trace = traced.then(|| StreamTrace::new(context, tenant, connection, *resumed, version))?;
            connect.add_link(trace.connection().clone());
            Some(Box::new(trace))
        });
        Observer { trace, ..self.observer() }
    }

    /// What accompanies a stream that is not traced.
    #[must_use]
    pub fn observer(self: &Arc<Self>) -> Observer {
        Observer {
            telemetry: self.clone(),
            opened: Instant::now(),
            trace: None,
            delivered: 0,
            replayed: 0,
            bytes: 0,
        }
    }
}

/// What the configuration says of a collector.
fn settings(config: &Config) -> Settings {
    let spec = &config.spec.telemetry;
    let secret = |field: &str, secret: &Option<SecretKeyRef>| {
        let file = SecretFile::new(&config.secrets_dir, format!("telemetry.{field}"), secret.clone()?);
        Some(Box::new(move || file.load().map_err(|missing| missing.to_string())) as Secret)
    };
    Settings {
        endpoint: spec.otlp_endpoint.clone(),
        protocol: spec.otlp_protocol,
        headers: secret("otlpHeadersSecretRef", &spec.otlp_headers_secret_ref),
        ca: secret("caSecretRef", &spec.ca_secret_ref),
    }
}

fn resource(config: &Config, pod: &str) -> Resource {
    let attributes = [
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", pod),
        ("k8s.pod.name", pod),
        ("k8s.namespace.name", &config.name.namespace),
        ("sse.gateway.name", &config.name.name),
    ];
    let attributes = attributes.map(|(key, value)| KeyValue::new(key, value.to_owned()));
    Resource::builder_empty().with_service_name("sse-gateway").with_attributes(attributes).build()
}

/// The span of a handshake, below what the request's `traceparent` names.
#[must_use]
pub fn connect(headers: &axum::http::HeaderMap) -> Span {
    let span = tracing::info_span!(target: TARGET, "sse.connect", otel.kind = "server");
    let text = headers.get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(origin) = text.and_then(Origin::parse) {
        // An error says that there is no collector, or that the span is not for it.
        let _ = span.set_parent(Context::new().with_remote_span_context(origin.context()));
    }
    span
}

/// A stream that was just opened.
pub struct Opened {
    pub tenant: String,
    pub connection: String,
    pub tags: BTreeMap<String, String>,
    pub resumed: bool,
    /// Of HTTP.
    pub version: &'static str,
}

/// Accompanies one stream.
pub struct Observer {
    telemetry: Arc<Telemetry>,
    opened: Instant,
    trace: Option<Box<StreamTrace>>,
    delivered: u64,
    replayed: u64,
    bytes: u64,
}

impl Observer {
    /// Notes events that went to the socket. `replayed`: the client had missed them.
    pub fn written(&mut self, events: &[Arc<Delivery>], replayed: bool, at: Instant) {
        let metrics = &self.telemetry.metrics;
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        metrics.delivered.inc_by(count);
        self.delivered += count;
        if replayed {
            metrics.replayed.inc_by(count);
            self.replayed += count;
        }
        let bytes: usize = events.iter().map(|event| event.frame.as_bytes().len()).sum();
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        for event in events {
            let traced = self.telemetry.tracer.as_ref().zip(self.trace.as_ref());
            let trace = traced.and_then(|(tracer, stream)| tracer.deliver(stream, event, replayed));
            if let Some(stored) = event.stored.filter(|_| !replayed) {
                metrics.late(at.saturating_duration_since(stored.at).as_secs_f64(), trace);
            }
        }
    }

    /// Notes an event that the client does not get.
    pub fn dropped(&self) {
        self.telemetry.metrics.dropped.inc("overflow");
    }

    /// Notes the end of a stream that had these tags, and answers how it went.
    #[must_use]
    pub fn ended(&self, end: End, tags: &BTreeMap<String, String>) -> Counts {
        self.telemetry.metrics.ended(end, self.opened.elapsed().as_secs_f64());
        let Self { delivered, replayed, bytes, .. } = *self;
        if let Some((tracer, stream)) = self.telemetry.tracer.as_ref().zip(self.trace.as_ref()) {
            tracer.ended(stream, &Totals { reason: end.as_str(), delivered, replayed, bytes }, tags);
        }
        Counts { delivered, replayed }
    }

    /// Whether there is time for a log line about this stream.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.telemetry.pace.is_calm()
    }

    /// Trace of the handshake, if there is one.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.trace.as_ref().map(|trace| trace.id())
    }
}

/// What went through a stream.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub delivered: u64,
    pub replayed: u64,
}
