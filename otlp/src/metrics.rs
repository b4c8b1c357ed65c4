//! Takes metrics to the collector.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use tokio::time::timeout;

use super::{Collector, Current, DEADLINE, ExportError, inside};

/// Pushes what a reader of metrics has read.
pub struct MetricExporter {
    collector: Arc<Collector>,
    current: Current<opentelemetry_otlp::MetricExporter>,
}

impl MetricExporter {
    #[must_use]
    pub fn new(collector: Arc<Collector>) -> Self {
        Self { collector, current: Current::new() }
    }
}

impl PushMetricExporter for MetricExporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let export = async {
            let exporter = self.current.get(&self.collector, |made| self.collector.metrics(made)).await?;
            Ok(timeout(DEADLINE, exporter.export(metrics)).await.map_err(|_| ExportError::TooLate)??)
        };
        self.collector.tell(inside(&self.collector.runtime, export).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
