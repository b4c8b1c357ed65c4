//! `/livez`, `/readyz` and `/metrics` of the operator.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::metrics::Metrics;

/// Whether the operator can care for the gateways, now or as soon as it leads: ready once every scope
/// that it watches could be listed, and as long as nothing that it needs is refused.
#[derive(Debug)]
pub struct Readiness {
    /// By what it is about.
    problems: Mutex<BTreeMap<String, Option<String>>>,
    leads: AtomicBool,
}

impl Readiness {
    /// Not ready, until each scope was said to have no problem.
    #[must_use]
    pub fn waiting_for(scopes: impl IntoIterator<Item = String>) -> Self {
        let waiting = |scope: String| {
            let why = format!("SseGateways in {scope} were not listed yet");
            (scope, Some(why))
        };
        let problems = Mutex::new(scopes.into_iter().map(waiting).collect());
        Self { problems, leads: AtomicBool::new(false) }
    }

    /// Tells a problem with what is called `about`, or that it has none.
    pub fn set(&self, about: &str, problem: Option<String>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.insert(about.to_owned(), problem);
    }

    /// This operator is the one that works.
    pub fn leads(&self) {
        self.leads.store(true, Relaxed);
    }

    /// What keeps the operator from being ready; nothing if it is.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.values().flatten().cloned().collect()
    }

    fn role(&self) -> &'static str {
        if self.leads.load(Relaxed) { "leader" } else { "follower, ready to take over" }
    }
}

/// Binds the address. `[::]` stands for IPv4 alone where the kernel has no IPv6.
///
/// # Errors
///
/// When the address is taken or not this machine's.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            warn!(%address, %error, "No IPv6 here; listening on IPv4 alone.");
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Serves until `stop`.
///
/// # Errors
///
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, router(readiness, metrics)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(async move || ready(&readiness)))
        .route("/metrics", get(async move || exposition(&metrics)))
}

fn ready(readiness: &Readiness) -> impl IntoResponse + use<> {
    let problems = readiness.problems();
    if problems.is_empty() {
        return (StatusCode::OK, format!("ok: {}\n", readiness.role()));
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", problems.join("\n")))
}

fn exposition(metrics: &Metrics) -> impl IntoResponse + use<> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.exposition())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn it_is_ready_when_every_scope_was_listed() {
        let readiness = Readiness::waiting_for(["a".to_owned(), "b".to_owned()]);
        assert_eq!(readiness.problems().len(), 2);
        readiness.set("a", None);
        readiness.set("b", Some("the CustomResourceDefinition is missing".into()));
        assert_eq!(readiness.problems(), ["the CustomResourceDefinition is missing"]);
        readiness.set("b", None);
        assert!(readiness.problems().is_empty());
    }

    #[tokio::test]
    async fn the_endpoints_answer_over_a_socket() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let readiness = Arc::new(Readiness::waiting_for(["all namespaces".to_owned()]));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, readiness.clone(), Arc::default(), stop.clone()));
        let ask = async |path: &str| {
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            let request = format!("GET {path} HTTP/1.1\r\nhost: o\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.expect("written");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        assert!(ask("/livez").await.starts_with("HTTP/1.1 200"));
        let waiting = ask("/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("were not listed yet"), "{waiting}");
        readiness.set("all namespaces", None);
        let follower = ask("/readyz").await;
        assert!(follower.starts_with("HTTP/1.1 200") && follower.contains("ok: follower"), "{follower}");
        readiness.leads();
        assert!(ask("/readyz").await.contains("ok: leader"));
        let metrics = ask("/metrics").await;
        assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
        stop.cancel();
        server.await.expect("served").expect("to the end");
    }
}
