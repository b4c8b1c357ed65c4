//! The way to the collector: OTLP over gRPC or HTTP, with the headers and the authority of today.
//!
//! A collector that is away costs nothing but what would have gone to it: a bounded [queue](spans), a deadline for
//! each export, a count of what was dropped, one line in the log when it goes and one when it is back.

mod http;
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
use opentelemetry_sdk::trace::SpanExporter as _;
use sse_crds::telemetry::{OtlpProtocol, Telemetry as Spec};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::config::Config;
use crate::https::HttpsError;
use crate::secret::{Missing, SecretFile};
use http::Client;
pub(super) use metrics::MetricExporter;
pub(super) use spans::Queue;

/// How long the collector has for one export.
const DEADLINE: Duration = Duration::from_secs(5);
/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("missing secret: {0}")]
    Secret(#[from] Missing),
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

/// Where the collector is, and what it wants to see.
pub(super) struct Collector {
    endpoint: String,
    protocol: OtlpProtocol,
    headers: Option<SecretFile>,
    ca: Option<SecretFile>,
    runtime: Handle,
    /// Whether the last export succeeded: each change is told once.
    well: AtomicBool,
}

/// What an exporter is made with.
#[derive(Clone, PartialEq, Eq)]
struct Made {
    headers: Vec<(String, String)>,
    ca: Option<crate::secret::Bytes>,
}

impl Collector {
    /// The collector of the configuration, if there is one. Inside the runtime.
    pub fn new(config: &Config) -> Option<Arc<Self>> {
        let Spec { otlp_endpoint, otlp_protocol, otlp_headers_secret_ref, ca_secret_ref, .. } =
            &config.spec.telemetry;
        let file = |field: &str, secret: &Option<_>| {
            let secret: Option<sse_crds::SecretKeyRef> = secret.clone();
            secret.map(|secret| SecretFile::new(&config.secrets_dir, field.into(), secret))
        };
        (!otlp_endpoint.is_empty()).then(|| {
            Arc::new(Self {
                endpoint: otlp_endpoint.trim_end_matches('/').to_owned(),
                protocol: *otlp_protocol,
                headers: file("telemetry.otlpHeadersSecretRef", otlp_headers_secret_ref),
                ca: file("telemetry.caSecretRef", ca_secret_ref),
                runtime: Handle::current(),
                well: AtomicBool::new(true),
            })
        })
    }

    fn made(&self) -> Result<Made, ExportError> {
        let headers = match &self.headers {
            Some(file) => headers(&file.load()?)?,
            None => Vec::new(),
        };
        Ok(Made { headers, ca: self.ca.as_ref().map(SecretFile::load).transpose()? })
    }

    fn tls(made: &Made) -> ClientTlsConfig {
        match &made.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_webpki_roots(),
        }
    }

    fn metadata(made: &Made) -> MetadataMap {
        let pairs = made.headers.iter().filter_map(|(name, value)| {
            Some((name.parse::<axum::http::HeaderName>().ok()?, value.parse().ok()?))
        });
        MetadataMap::from_headers(pairs.collect())
    }

    fn grpc<B: WithExportConfig + WithTonicConfig>(&self, builder: B, made: &Made) -> B {
        let builder = builder.with_endpoint(&self.endpoint).with_timeout(DEADLINE);
        let builder = builder.with_metadata(Self::metadata(made));
        if self.is_tls() { builder.with_tls_config(Self::tls(made)) } else { builder }
    }

    fn http<B>(&self, builder: B, path: &str, made: &Made) -> Result<B, ExportError>
    where
        B: WithExportConfig + WithHttpConfig,
    {
        let builder = builder.with_endpoint(format!("{}{path}", self.endpoint)).with_timeout(DEADLINE);
        let builder = builder.with_protocol(Protocol::HttpBinary).with_http_client(Client::new(made)?);
        Ok(builder.with_headers(made.headers.iter().cloned().collect()))
    }

    fn spans(&self, made: &Made, resource: &Resource) -> Result<SpanExporter, ExportError> {
        let builder = SpanExporter::builder();
        let mut exporter = match self.protocol {
            OtlpProtocol::Grpc => self.grpc(builder.with_tonic(), made).build()?,
            OtlpProtocol::Http => self.http(builder.with_http(), "/v1/traces", made)?.build()?,
        };
        exporter.set_resource(resource);
        Ok(exporter)
    }

    fn metrics(&self, made: &Made) -> Result<opentelemetry_otlp::MetricExporter, ExportError> {
        let builder = opentelemetry_otlp::MetricExporter::builder();
        Ok(match self.protocol {
            OtlpProtocol::Grpc => self.grpc(builder.with_tonic(), made).build()?,
            OtlpProtocol::Http => self.http(builder.with_http(), "/v1/metrics", made)?.build()?,
        })
    }

    fn is_tls(&self) -> bool {
        self.endpoint.starts_with("https://")
    }

    /// Tells when the collector goes, and when it is back.
    fn tell(&self, result: Result<(), ExportError>) -> OTelSdkResult {
        let well = result.is_ok();
        let changed = self.well.swap(well, Ordering::Relaxed) != well;
        match result {
            Ok(()) if changed => info!(endpoint = self.endpoint, "The collector takes telemetry again."),
            Err(error) if changed => {
                warn!(endpoint = self.endpoint, %error, "The collector takes no telemetry; it is dropped.");
            }
            _ => {}
        }
        if well { Ok(()) } else { Err(OTelSdkError::InternalFailure("not exported".into())) }
    }
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
