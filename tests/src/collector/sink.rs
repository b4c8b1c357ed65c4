//! Where OTLP ends: a server that keeps what it is sent, and reads spans. Nothing of it may have a
//! [secret](crate::secrets) in it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::secrets;

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
    /// As OTLP numbers them: 1 internal, 2 server, 4 producer, 5 consumer.
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
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets go of everything so far, unread: there may be very much of it.
    pub fn forget(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clear();
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

impl Drop for Sink {
    fn drop(&mut self) {
        let taken = self.taken();
        secrets::assert_none(taken.iter().map(|taken| (&*taken.path, &*taken.body)));
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
