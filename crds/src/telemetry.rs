//! `spec.telemetry` and `spec.logging`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;
use crate::schema::bounded_map;

/// Traces and metrics.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Telemetry {
    /// OpenTelemetry collector: `http://collector:4317`. Empty: nothing is exported.
    #[schemars(length(max = 2048), regex(pattern = r"^(https?://[^\s@]+)?$"))]
    pub otlp_endpoint: String,
    /// Protocol spoken with it.
    pub otlp_protocol: OtlpProtocol,
    /// Headers sent with each export: one `name=value` a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_headers_secret_ref: Option<SecretKeyRef>,
    /// Certificate authority (PEM) of the collector, instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Percent of connections that are traced.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub trace_sample_percent: Percent,
    /// Percent of deliveries that are traced.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub delivery_sample_percent: Percent,
    /// A PodMonitor of the Prometheus operator.
    pub pod_monitor: PodMonitor,
}

/// A share in percent; fractions are for busy gateways.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(pub f64);

// Read from JSON or YAML, where NaN does not occur.
impl Eq for Percent {}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            otlp_protocol: OtlpProtocol::Grpc,
            otlp_headers_secret_ref: None,
            ca_secret_ref: None,
            trace_sample_percent: Percent(100.0),
            delivery_sample_percent: Percent(1.0),
            pod_monitor: PodMonitor::default(),
        }
    }
}

/// Protocol spoken with the collector.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    #[default]
    Grpc,
    Http,
}

/// A PodMonitor of the Prometheus operator.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMonitor {
    /// Whether there is one. Its CRD has to be installed, and Prometheus to be let in by
    /// `networkPolicy.metricsFrom`.
    pub enabled: bool,
    /// Labels by which a Prometheus selects it.
    #[schemars(schema_with = "bounded_map")]
    pub labels: BTreeMap<String, String>,
}

/// Logs of the gateway pods.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// Least severity that is written.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The name as a tracing filter directive.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Form of a log line.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}
