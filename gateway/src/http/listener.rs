//! Accepts connections: HTTP/1.1 and HTTP/2 (h2c) on one port.
//!
//! A stream is the last answer of an HTTP/1.1 connection: nothing that the client sends after its
//! request is parsed, its close is seen at once, and the socket ends with the stream. On HTTP/2 a
//! stream ends alone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Version, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::socket::{self, Transport};
use crate::connection::sink::Carrier;

/// A client has this long for the head of its first request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes that hyper holds back for one connection before it asks a body for less.
const WRITE_BUFFER: usize = 16 * 1024;

/// Where a request came from, and its answer goes.
#[derive(Clone)]
pub struct Socket {
    pub peer: SocketAddr,
    /// What carries the answer: a socket of HTTP/1.1, a stream of HTTP/2.
    pub carrier: Carrier,
}

tokio::task_local! {
    /// The carrier of a stream of HTTP/2.
    static CARRIER: Carrier;
}

/// Runs each stream of HTTP/2 until its carrier is cut: dropped, it is reset, whatever its client's
/// window.
#[derive(Clone)]
struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let carrier = Carrier::default();
        let stream = CARRIER.scope(carrier.clone(), stream);
        tokio::spawn(async move {
            tokio::select! {
                _ = stream => {}
                () = carrier.cut() => {}
            }
        });
    }
}

/// Serves `router` until `stop` is cancelled; then each connection ends after its present answers,
/// and `connections` says when the last one has.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, connections: TaskTracker) {
    let mut builder = auto::Builder::new(Streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(WRITE_BUFFER)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_send_buf_size(WRITE_BUFFER)
        .max_concurrent_streams(1000);
    let builder = Arc::new(builder);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(connection(builder.clone(), stream, peer, router.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of file descriptors, for instance: others must end before more can come.
                warn!(%error, "A connection could not be accepted.");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    builder: Arc<auto::Builder<Streams>>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    let stream = Arc::new(stream);
    let carrier = Carrier::default();
    let taken_over = CancellationToken::new();
    let transport = Transport::new(stream.clone(), carrier.clone());
    let service = service_fn(|mut request: Request<Incoming>| {
        let (router, carrier, taken_over) = (router.clone(), carrier.clone(), taken_over.clone());
        async move {
            let carrier = CARRIER.try_with(Clone::clone).unwrap_or(carrier);
            request.extensions_mut().insert(Socket { peer, carrier });
            let version = request.version();
            let response = answer(router, request).await;
            if version != Version::HTTP_2 && is_stream(&response) {
                taken_over.cancel();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(transport), service);
    tokio::pin!(connection);
    let gone = async {
        taken_over.cancelled().await;
        socket::closed(&stream).await;
    };
    tokio::pin!(gone);
    let mut last = false;
    let result = loop {
        tokio::select! {
            // First, so that the head of a stream is written before it is made the last answer.
            biased;
            result = connection.as_mut() => break result,
            () = carrier.cut() => return,
            () = gone.as_mut() => return,
            () = async { tokio::select! { () = stop.cancelled() => {}, () = taken_over.cancelled() => {} } }, if !last => {
                last = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = result {
        // A client that goes away is no error of ours.
        debug!(%error, "A connection ended early.");
    }
}

fn is_stream(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE) == Some(&HeaderValue::from_static("text/event-stream"))
}

async fn answer(router: Router, request: Request<Incoming>) -> Response {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
