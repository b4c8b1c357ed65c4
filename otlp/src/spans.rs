//! Takes spans to the collector.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter as Exporter, SpanProcessor,
};
use tokio::time::timeout;

use super::{Collector, Current, DEADLINE, ExportError, Made, inside};

/// A counter; clones count together.
pub type Counter = prometheus_client::metrics::counter::Counter<u64, AtomicU64>;

/// Spans that may wait for the collector.
const QUEUE: usize = 4096;
/// Spans of one export.
const BATCH: usize = 512;
/// How long a span waits for others to go with it.
const DELAY: Duration = Duration::from_secs(1);

struct SpanExporter {
    collector: Arc<Collector>,
    current: Current<opentelemetry_otlp::SpanExporter>,
    resource: Resource,
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
}

impl fmt::Debug for SpanExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpanExporter")
    }
}

impl Exporter for SpanExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let export = async {
            let make = |made: &Made| self.collector.spans(made, &self.resource);
            let exporter = self.current.get(&self.collector, make).await?;
            Ok(timeout(DEADLINE, exporter.export(batch)).await.map_err(|_| ExportError::TooLate)??)
        };
        let result = self.collector.tell(inside(&self.collector.runtime, export).await);
        if result.is_err() {
            self.dropped.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.clone();
    }
}

/// Queues spans for the collector. What does not fit is counted here: the library would only drop it.
#[derive(Debug)]
pub struct Queue {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
}

impl Queue {
    #[must_use]
    pub fn new(collector: Arc<Collector>, dropped: Counter) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let resource = Resource::builder_empty().build();
        let exporter = SpanExporter {
            collector,
            current: Current::new(),
            resource,
            waiting: waiting.clone(),
            dropped: dropped.clone(),
        };
        let config = BatchConfigBuilder::default()
            // Never full: what waits is bounded before it.
            .with_max_queue_size(QUEUE + BATCH)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY);
        let inner = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
        Self { inner, waiting, dropped }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
