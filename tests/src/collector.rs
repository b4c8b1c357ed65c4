//! A real OpenTelemetry collector, and what came out of it: it takes OTLP over gRPC and HTTP, passes it on as JSON
//! to this process, and shows metrics as Prometheus would see them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Client;
use crate::eventually;
use crate::process::{Process, START, free_port, toolbox};

/// What is sent by OTLP over HTTP, as JSON: by the collector, or by anyone. Ends when dropped.
pub struct Sink {
    pub address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    _server: AbortOnDropHandle<()>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Taken {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A span, as it came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// As OTLP numbers them: 1 internal, 2 server, 5 consumer.
    pub kind: i64,
    pub start: u64,
    pub end: u64,
    pub attributes: Map<String, Value>,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
    pub resource: Map<String, Value>,
}

impl Sink {
    /// # Errors
    ///
    /// When it can not listen.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let taken = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(serve(listener, taken.clone()));
        Ok(Self { address, taken, _server: AbortOnDropHandle::new(server) })
    }

    /// Everything so far.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().expect("no panic").clone()
    }

    /// The spans so far, in the order in which they began.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let bodies = self.taken().into_iter().filter(|taken| taken.path == "/v1/traces");
        let mut spans: Vec<Span> = bodies.flat_map(|taken| spans(&taken.body)).collect();
        spans.sort_by_key(|span| span.start);
        spans
    }
}

async fn serve(listener: TcpListener, taken: Arc<Mutex<Vec<Taken>>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let taken = taken.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| take(request, taken.clone()));
            let http = hyper::server::conn::http1::Builder::new();
            // Who ends a connection is no concern of this.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn take(
    request: Request<Incoming>,
    taken: Arc<Mutex<Vec<Taken>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if let Ok(body) = body.collect().await {
        let (path, headers, body) = (head.uri.path().to_owned(), head.headers, body.to_bytes());
        taken.lock().expect("no panic").push(Taken { path, headers, body });
    }
    Ok(Response::new(Full::default()))
}

fn spans(body: &[u8]) -> Vec<Span> {
    let body: Value = serde_json::from_slice(body).expect("OTLP as JSON");
    let mut spans = Vec::new();
    for resource in list(&body["resourceSpans"]) {
        let about = attributes(&resource["resource"]["attributes"]);
        for scope in list(&resource["scopeSpans"]) {
            spans.extend(list(&scope["spans"]).iter().map(|span| one(span, &about)));
        }
    }
    spans
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn one(span: &Value, resource: &Map<String, Value>) -> Span {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = |name: &str| text(&span[name]).parse().expect("a time");
    let links = list(&span["links"]).iter().map(|link| (text(&link["traceId"]), text(&link["spanId"])));
    Span {
        name: text(&span["name"]),
        trace: text(&span["traceId"]),
        id: text(&span["spanId"]),
        parent: text(&span["parentSpanId"]),
        kind: span["kind"].as_i64().unwrap_or_default(),
        start: time("startTimeUnixNano"),
        end: time("endTimeUnixNano"),
        attributes: attributes(&span["attributes"]),
        links: links.collect(),
        resource: resource.clone(),
    }
}

/// Names and plain values.
fn attributes(pairs: &Value) -> Map<String, Value> {
    let plain = |value: &Value| match value.as_object().and_then(|value| value.iter().next()) {
        // 64-bit numbers are text in OTLP's JSON.
        Some((kind, Value::String(number))) if kind == "intValue" => {
            json!(number.parse::<i64>().expect("a number"))
        }
        Some((_, value)) => value.clone(),
        None => Value::Null,
    };
    let pair = |pair: &Value| (pair["key"].as_str().expect("a key").to_owned(), plain(&pair["value"]));
    list(pairs).iter().map(pair).collect()
}

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
            },
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "exporters": ["otlphttp"]},
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
        self.process = Some(Process::start(&toolbox("otelcol"), &[&config], log.clone())?);
        let listens = eventually("a collector that listens", START, || async {
            for port in [self.grpc, self.http, self.prometheus] {
                tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            }
            Ok(())
        });
        listens.await.with_context(|| std::fs::read_to_string(log).unwrap_or_default())
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
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    std::fs::write(dir.path().join("cert"), certificate.pem())?;
    std::fs::write(dir.path().join("key"), key.serialize_pem())?;
    Ok(authority.pem())
}
