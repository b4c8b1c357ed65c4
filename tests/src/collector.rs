//! A real OpenTelemetry collector, and what came out of it: it takes OTLP over gRPC and HTTP, passes it on as JSON
//! to this process, logs its spans, and shows metrics, and those that it makes of spans, as Prometheus would see them.

mod sink;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use sink::{Sink, Span, Taken};

use crate::client::Client;
use crate::eventually;
use crate::process::{Process, START, free_port, toolbox};

/// A collector as a process.
pub struct Collector {
    process: Option<Process>,
    dir: TempDir,
    grpc: u16,
    http: u16,
    prometheus: u16,
    /// Authority (PEM) of its certificate; empty without TLS.
    pub authority: String,
    pub sink: Sink,
}

impl Collector {
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(false).await
    }

    /// The same, over TLS with an authority of its own.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start_tls() -> Result<Self> {
        Self::start_with(true).await
    }

    async fn start_with(tls: bool) -> Result<Self> {
        let (dir, sink) = (TempDir::new()?, Sink::start().await?);
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let authority = if tls { certificate(&dir)? } else { String::new() };
        let (grpc, http, prometheus) = (free_port()?, free_port()?, free_port()?);
        let receiver = |port: u16| {
            let mut receiver = json!({"endpoint": format!("127.0.0.1:{port}")});
            if tls {
                receiver["tls"] = json!({"cert_file": path("cert"), "key_file": path("key")});
            }
            receiver
        };
        let config = json!({
            "receivers": {"otlp": {"protocols": {"grpc": receiver(grpc), "http": receiver(http)}}},
            "exporters": {
                "otlphttp": {
                    "endpoint": format!("http://{}", sink.address), "encoding": "json", "compression": "none",
                    // Each comes on as it is.
                    "sending_queue": {"enabled": false},
                },
                "prometheus": {"endpoint": format!("127.0.0.1:{prometheus}")},
                "debug": {"verbosity": "normal"},
            },
            "connectors": {"spanmetrics": {
                "dimensions": [{"name": "sse.result"}], "metrics_flush_interval": "1s",
            }},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "exporters": ["otlphttp", "debug", "spanmetrics"]},
                    "metrics/spans": {"receivers": ["spanmetrics"], "exporters": ["prometheus"]},
                    "metrics": {"receivers": ["otlp"], "exporters": ["prometheus", "otlphttp"]},
                },
            },
        });
        std::fs::write(dir.path().join("config.yaml"), config.to_string())?;
        let mut collector = Self { process: None, dir, grpc, http, prometheus, authority, sink };
        collector.restart().await?;
        Ok(collector)
    }

    /// Starts it again, on the same ports.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        let config = format!("--config={}", self.dir.path().join("config.yaml").display());
        let log = self.dir.path().join("log");
        self.process = Some(Process::start(&toolbox("otelcol"), &[&config], log)?);
        let listens = eventually("a collector that listens", START, || async {
            for port in [self.grpc, self.http, self.prometheus] {
                tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            }
            Ok(())
        });
        listens.await.with_context(|| self.log())
    }

    /// Everything that the process has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it at once.
    ///
    /// # Errors
    ///
    /// When it can not be killed.
    pub async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// What a gateway's `telemetry` says to reach it: `grpc` or `http`.
    #[must_use]
    pub fn telemetry(&self, protocol: &str) -> Value {
        let port = if protocol == "grpc" { self.grpc } else { self.http };
        let scheme = if self.authority.is_empty() { "http" } else { "https" };
        json!({"otlpEndpoint": format!("{scheme}://127.0.0.1:{port}"), "otlpProtocol": protocol})
    }

    /// Waits for spans: the first answer of `wanted`.
    ///
    /// # Errors
    ///
    /// When it has none in time.
    pub async fn spans<T>(&self, wanted: impl Fn(&[Span]) -> Option<T>) -> Result<T> {
        eventually("the spans", Duration::from_secs(20), || async {
            let spans = self.sink.spans();
            wanted(&spans).with_context(|| format!("{spans:#?}"))
        })
        .await
    }

    /// The metrics that it has, as Prometheus would scrape them.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.prometheus));
        let client = Client { gateway: address.into(), base: String::new(), jwt: String::new() };
        let answer = client.request(Method::GET, "/metrics", &[]).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(answer.body)
    }
}

/// Writes a certificate for loopback and its key; answers its authority.
fn certificate(dir: &TempDir) -> Result<String> {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    // Who has the same name as its issuer counts as self-signed.
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority)?;
    std::fs::write(dir.path().join("cert"), certificate.pem())?;
    std::fs::write(dir.path().join("key"), key.serialize_pem())?;
    Ok(authority.pem())
}
