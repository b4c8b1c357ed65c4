//! The way to an OpenTelemetry collector, for gateway and operator: OTLP over gRPC or HTTP, with the headers and the
//! authority of today. And the [HTTPS](https) beneath it, which the gateway also asks issuers by.
//!
//! A collector that is away costs nothing but what would have gone to it: a bounded [queue](spans), a deadline for
//! each export, a count of what was dropped, one line in the log when it goes and one when it is back.

mod http;
pub mod https;
mod layer;
mod metrics;
mod spans;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter as _};
use sse_crds::telemetry::OtlpProtocol;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tracing::{info, warn};

use http::Client;
use https::HttpsError;
pub use layer::layer;
pub use metrics::MetricExporter;
pub use spans::{Counter, Queue};

/// How long the collector has for one export.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the last spans may take to go out, and the last metrics.
const LAST_EXPORT: Duration = Duration::from_millis(1500);

/// Reads a secret as it is now. The error names what is missing, and nothing that it holds.
pub type Secret = Box<dyn Fn() -> Result<Arc<[u8]>, String> + Send + Sync>;

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("missing secret: {0}")]
    Secret(String),
    #[error("{0}")]
    Tls(#[from] HttpsError),
    #[error("telemetry.otlpHeadersSecretRef: line {0} is not 'name=value'")]
    Header(usize),
    #[error("telemetry.otlpEndpoint: {0}")]
    Build(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("no answer within {} s", DEADLINE.as_secs())]
    TooLate,
    #[error("{0}")]
    Refused(#[from] OTelSdkError),
}

/// What a user says of a collector.
pub struct Settings {
    /// `http://` or `https://`. Nothing is exported where it is empty.
    pub endpoint: String,
    pub protocol: OtlpProtocol,
    /// Headers of each export: one `name=value` a line.
    pub headers: Option<Secret>,
    /// Authority (PEM) of the collector, instead of the public ones.
    pub ca: Option<Secret>,
}

/// A collector, and whether it takes what it is sent.
pub struct Collector {
    settings: Settings,
    runtime: Handle,
    /// Whether the last export succeeded: each change is told once.
    well: AtomicBool,
}

/// What an exporter is made with.
#[derive(Clone, PartialEq, Eq)]
struct Made {
    headers: Vec<(String, String)>,
    ca: Option<Arc<[u8]>>,
}

impl Collector {
    /// The collector of the settings, if they name one. Inside the runtime.
    #[must_use]
    pub fn new(settings: Settings) -> Option<Arc<Self>> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let settings = Settings { endpoint, ..settings };
        let is_named = !settings.endpoint.is_empty();
        is_named.then(|| Arc::new(Self { settings, runtime: Handle::current(), well: AtomicBool::new(true) }))
    }

    fn made(&self) -> Result<Made, ExportError> {
        let read = |secret: &Option<Secret>| secret.as_ref().map(|read| read()).transpose();
        let headers = read(&self.settings.headers).map_err(ExportError::Secret)?;
        let ca = read(&self.settings.ca).map_err(ExportError::Secret)?;
        Ok(Made { headers: headers.map_or(Ok(Vec::new()), |lines| self::headers(&lines))?, ca })
    }

    fn tls(made: &Made) -> ClientTlsConfig {
        match &made.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_webpki_roots(),
        }
    }

    fn metadata(made: &Made) -> MetadataMap {
        let pairs = made.headers.iter().filter_map(|(name, value)| {
            Some((name.parse::<reqwest::header::HeaderName>().ok()?, value.parse().ok()?))
        });
        MetadataMap::from_headers(pairs.collect())
    }

    fn grpc<B: WithExportConfig + WithTonicConfig>(&self, builder: B, made: &Made) -> B {
        let builder = builder.with_endpoint(&self.settings.endpoint).with_timeout(DEADLINE);
        let builder = builder.with_metadata(Self::metadata(made));
        if self.is_tls() { builder.with_tls_config(Self::tls(made)) } else { builder }
    }

    fn http<B>(&self, builder: B, path: &str, made: &Made) -> Result<B, ExportError>
    where
        B: WithExportConfig + WithHttpConfig,
    {
        let builder =
            builder.with_endpoint(format!("{}{path}", self.settings.endpoint)).with_timeout(DEADLINE);
        let builder = builder.with_protocol(Protocol::HttpBinary).with_http_client(Client::new(made)?);
        Ok(builder.with_headers(made.headers.iter().cloned().collect()))
    }

    fn spans(&self, made: &Made, resource: &Resource) -> Result<SpanExporter, ExportError> {
        let builder = SpanExporter::builder();
        let mut exporter = match self.settings.protocol {
            OtlpProtocol::Grpc => self.grpc(builder.with_tonic(), made).build()?,
            OtlpProtocol::Http => self.http(builder.with_http(), "/v1/traces", made)?.build()?,
        };
        exporter.set_resource(resource);
        Ok(exporter)
    }

    fn metrics(&self, made: &Made) -> Result<opentelemetry_otlp::MetricExporter, ExportError> {
        let builder = opentelemetry_otlp::MetricExporter::builder();
        Ok(match self.settings.protocol {
            OtlpProtocol::Grpc => self.grpc(builder.with_tonic(), made).build()?,
            OtlpProtocol::Http => self.http(builder.with_http(), "/v1/metrics", made)?.build()?,
        })
    }

    fn is_tls(&self) -> bool {
        self.settings.endpoint.starts_with("https://")
    }

    /// Tells when the collector goes, and when it is back.
    fn tell(&self, result: Result<(), ExportError>) -> OTelSdkResult {
        let well = result.is_ok();
        let changed = self.well.swap(well, Ordering::Relaxed) != well;
        match result {
            Ok(()) if changed => {
                info!(endpoint = self.settings.endpoint, "The collector takes telemetry again.");
            }
            Err(error) if changed => {
                warn!(endpoint = self.settings.endpoint, %error, "The collector takes no telemetry; it is dropped.");
            }
            _ => {}
        }
        if well { Ok(()) } else { Err(OTelSdkError::InternalFailure("not exported".into())) }
    }
}

/// Exports what waits, as far as there is time.
pub async fn stop(spans: SdkTracerProvider, meters: SdkMeterProvider) {
    // The library blocks; what it waits for runs in the runtime.
    let ended = tokio::task::spawn_blocking(move || {
        let _ = spans.shutdown_with_timeout(LAST_EXPORT);
        let _ = meters.shutdown_with_timeout(LAST_EXPORT);
    });
    let _ = tokio::time::timeout(LAST_EXPORT * 2, ended).await;
}

/// One `name=value` a line.
fn headers(content: &[u8]) -> Result<Vec<(String, String)>, ExportError> {
    let text = String::from_utf8_lossy(content);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let pair = |(at, line): (usize, &str)| {
        let (name, value) = line.split_once('=').ok_or(ExportError::Header(at + 1))?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    lines.map(pair).collect()
}

/// The exporter of today, made anew when its secrets change.
struct Current<E>(Mutex<Option<(Made, Arc<E>)>>);

impl<E> Current<E> {
    fn new() -> Self {
        Self(Mutex::new(None))
    }

    async fn get(
        &self,
        collector: &Collector,
        make: impl FnOnce(&Made) -> Result<E, ExportError>,
    ) -> Result<Arc<E>, ExportError> {
        let made = collector.made()?;
        let mut current = self.0.lock().await;
        if let Some((with, exporter)) = current.as_ref()
            && *with == made
        {
            return Ok(exporter.clone());
        }
        let exporter = Arc::new(make(&made)?);
        *current = Some((made, exporter.clone()));
        Ok(exporter)
    }
}

/// Runs a future on a thread of the library's own, inside our runtime: timers and sockets need one.
fn inside<F: Future>(runtime: &Handle, future: F) -> Inside<F> {
    Inside { runtime: runtime.clone(), future: Box::pin(future) }
}

struct Inside<F> {
    runtime: Handle,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Inside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let _inside = this.runtime.enter();
        this.future.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lines_and_errors_do_not_show_them() {
        let read = headers(b"Authorization=Basic a=b\n\nx-scope: tenant").map_err(|error| error.to_string());
        assert_eq!(read, Err("telemetry.otlpHeadersSecretRef: line 3 is not 'name=value'".into()));
        let read = headers(b"Authorization = Basic a=b\n").expect("headers");
        assert_eq!(read, [("authorization".into(), "Basic a=b".into())]);
    }
}
