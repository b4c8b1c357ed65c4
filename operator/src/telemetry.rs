//! The operator's own traces, by the contract in docs/telemetry.md: a span for each look at a gateway, and
//! below it one for each step that takes time. And their way to the collector, with that of the metrics.
//!
//! Without a collector no span is made.

use std::cell::Cell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use sse_crds::SseGatewayStatus;
use sse_otlp::{Collector, MetricExporter, Queue, Secret, Settings};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::arguments::Arguments;
use crate::memory::Key;
use crate::metrics::{Metrics, push};
use crate::notice;
use crate::status;

/// Target of the spans that go to the collector.
pub const TARGET: &str = "sse_operator::trace";

/// What exports, if there is a collector.
pub struct Telemetry(Option<(SdkTracerProvider, SdkMeterProvider)>);

impl Telemetry {
    /// Exports, if the arguments name a collector. Inside the runtime.
    #[must_use]
    pub fn start(arguments: &Arguments, metrics: &Arc<Metrics>) -> Self {
        let Some(collector) = Collector::new(settings(arguments)) else { return Self(None) };
        let resource = resource(arguments);
        let spans = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_span_processor(Queue::new(collector.clone(), metrics.spans_dropped.clone()))
            .build();
        Self(Some((spans, push::start(metrics, MetricExporter::new(collector), resource))))
    }

    /// What makes spans of `tracing` spans of OpenTelemetry.
    #[must_use]
    pub fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|(spans, _)| spans.tracer("sse-operator"))
    }

    /// Exports what waits, as far as there is time.
    pub async fn stop(self) {
        if let Some((spans, meters)) = self.0 {
            sse_otlp::stop(spans, meters).await;
        }
    }

    /// Leaves what waits: the library would export it when it is dropped, for as long as the collector takes.
    pub fn abandon(self) {
        std::mem::forget(self.0);
    }
}

fn settings(arguments: &Arguments) -> Settings {
    let secret = |value: &'static str, file: &Option<PathBuf>| {
        let file = file.clone()?;
        Some(Box::new(move || read(value, &file)) as Secret)
    };
    Settings {
        endpoint: arguments.otlp_endpoint.clone(),
        protocol: arguments.otlp_protocol.into(),
        headers: secret("telemetry.otlpHeadersSecretRef", &arguments.otlp_headers_file),
        ca: secret("telemetry.caSecretRef", &arguments.otlp_ca_file),
    }
}

/// Reads a file that a value of the chart asks for.
fn read(value: &str, file: &Path) -> Result<Arc<[u8]>, String> {
    let content = std::fs::read(file).ok().filter(|content| !content.is_empty());
    content.map(Into::into).ok_or_else(|| format!("{value}: {} is not there, or empty", file.display()))
}

fn resource(arguments: &Arguments) -> Resource {
    let pod = &arguments.pod_name;
    let namespace = arguments.pod_namespace.as_deref().unwrap_or_default();
    let attributes = [
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", pod),
        ("k8s.pod.name", pod),
        ("k8s.namespace.name", namespace),
    ];
    let attributes = attributes.map(|(key, value)| KeyValue::new(key, value.to_owned()));
    Resource::builder_empty().with_service_name("sse-operator").with_attributes(attributes).build()
}

tokio::task_local! {
    /// Whether this look has written anything.
    static WROTE: Cell<bool>;
}

/// A look at a gateway, with its span.
pub async fn look<T>((namespace, name): &Key, generation: Option<i64>, look: impl Future<Output = T>) -> T {
    let span = info_span!(
        target: TARGET, parent: None, "sse.reconcile",
        k8s.namespace.name = namespace, sse.gateway.name = name, sse.gateway.generation = generation,
        sse.result = Empty, sse.waiting = Empty, sse.changed = Empty,
        error.type = Empty, otel.status_code = Empty, otel.status_description = Empty,
    );
    let look = async {
        let answer = look.await;
        Span::current().record("sse.changed", WROTE.with(Cell::get));
        answer
    };
    WROTE.scope(Cell::new(false), look.instrument(span)).await
}

/// What a look found, and whether new pods have to wait.
pub fn found(status: &SseGatewayStatus, waiting: bool) {
    let ready = status::condition(status, status::READY);
    let reason = ready.map_or("", |ready| ready.reason.as_str());
    Span::current().record("sse.result", reason).record("sse.waiting", waiting);
}

/// That the present step failed.
pub fn failed(error: &(dyn Error + 'static)) {
    Span::current()
        .record("otel.status_code", "ERROR")
        .record("otel.status_description", notice::chain(error));
}

/// That the look failed, by the name under which it is counted.
pub fn failed_as(counted: &str, error: &(dyn Error + 'static)) {
    Span::current().record("error.type", counted);
    failed(error);
}

/// Whether the API server changed anything for the present step.
pub fn wrote(changed: bool) {
    Span::current().record("sse.changed", changed);
    if changed {
        // Outside of a look nobody wants to know.
        let _ = WROTE.try_with(|wrote| wrote.set(true));
    }
}

/// A step, in its span.
pub async fn step<T, E>(span: Span, step: impl Future<Output = Result<T, E>>) -> Result<T, E>
where
    E: Error + 'static,
{
    let step = async { step.await.inspect_err(|error| failed(error)) };
    step.instrument(span).await
}

/// The span of a child that is applied.
pub fn apply(kind: &str, name: &str) -> Span {
    info_span!(
        target: TARGET, "sse.apply", otel.kind = "client",
        k8s.object.kind = kind, k8s.object.name = name, sse.changed = Empty,
        otel.status_code = Empty, otel.status_description = Empty,
    )
}

/// The span of a child that is removed.
pub fn remove(kind: &str, name: &str) -> Span {
    info_span!(
        target: TARGET, "sse.remove", otel.kind = "client", k8s.object.kind = kind, k8s.object.name = name,
        otel.status_code = Empty, otel.status_description = Empty,
    )
}

/// The span of a status that is written.
pub fn status() -> Span {
    info_span!(
        target: TARGET, "sse.status", otel.kind = "client",
        otel.status_code = Empty, otel.status_description = Empty,
    )
}

/// The span of pods that are asked how they are.
pub fn probe(pods: usize) -> Span {
    info_span!(
        target: TARGET, "sse.probe", otel.kind = "client",
        sse.pods.asked = number(pods), sse.pods.answered = Empty, sse.pods.ready = Empty,
    )
}

/// How many pods answered, and how many of them are ready.
pub fn answered(pods: usize, ready: usize) {
    Span::current().record("sse.pods.answered", number(pods)).record("sse.pods.ready", number(ready));
}

/// As OpenTelemetry has numbers: without a sign they would come as text.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The trace of the present look, if there is one: log lines lead to it.
#[must_use]
pub fn trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| span.trace_id().to_string())
}

#[cfg(test)]
mod tests;
