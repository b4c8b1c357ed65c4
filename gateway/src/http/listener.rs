//! Accepts connections: HTTP/1.1 and HTTP/2 (h2c) on one port.
//!
//! A stream is the last answer of an HTTP/1.1 connection, which then leaves its parser and the parser's
//! buffers behind: the stream has the socket for itself. On HTTP/2 a stream ends alone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{Request, Version};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::socket::Transport;
use super::stream::{Admitted, Handover};
use crate::seldom::Seldom;

/// A client has this long for the head of its first request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes that hyper holds back for one connection before it asks a body for less.
const WRITE_BUFFER: usize = 16 * 1024;

/// Where a request came from.
#[derive(Clone)]
pub struct Socket {
    pub peer: SocketAddr,
}

tokio::task_local! {
    /// Ends the stream of HTTP/2 that is served.
    static CUT: CancellationToken;
}

/// Runs each stream of HTTP/2 until it is cut: dropped, it is reset, whatever its client's window.
#[derive(Clone)]
struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut = CancellationToken::new();
        let stream = CUT.scope(cut.clone(), stream);
        tokio::spawn(async move { cut.run_until_cancelled_owned(stream).await.map(drop) });
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
    let (builder, refused) = (Arc::new(builder), Seldom::default());
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
                if let Some(others) = refused.turn() {
                    warn!(%error, others, "A connection could not be accepted.");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The answer to a request of HTTP/1 that opens a stream, and the stream.
type Opened = (Parts, Version, Box<Admitted>);

async fn connection(
    builder: Arc<auto::Builder<Streams>>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    let stream = Arc::new(stream);
    let (sender, mut opened) = oneshot::channel();
    let opening = Arc::new(Mutex::new(Some(sender)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Socket { peer });
        // On the heap while it lasts: an open stream of HTTP/2 keeps room for what its answer came from.
        Box::pin(answer(router.clone(), request, opening.clone()))
    });
    let connection = builder.serve_connection(TokioIo::new(Transport::new(stream.clone())), service);
    let mut connection = Box::pin(connection);
    let mut last = false;
    let opened = loop {
        tokio::select! {
            biased;
            opened = &mut opened => break opened.ok(),
            result = connection.as_mut() => {
                // A client that goes away is no error of ours.
                if let Err(error) = result {
                    debug!(%error, "A connection ended early.");
                }
                return;
            }
            () = stop.cancelled(), if !last => {
                last = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    // With the parser goes what the client sent after its request: there is nothing more to ask for.
    drop(connection);
    if let (Some((parts, version, admitted)), Some(stream)) = (opened, Arc::into_inner(stream)) {
        let chunked = version != Version::HTTP_10;
        admitted.on_socket(stream, chunked, &head(&parts, chunked));
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    opening: Arc<Mutex<Option<oneshot::Sender<Opened>>>>,
) -> Result<Response, Infallible> {
    let version = request.version();
    let mut response = router.oneshot(request.map(Body::new)).await?;
    let handover = response.extensions_mut().remove::<Handover>();
    let Some(admitted) = handover.and_then(|handover| handover.take()) else { return Ok(response) };
    if version == Version::HTTP_2 {
        let cut = CUT.try_with(Clone::clone).unwrap_or_default();
        admitted.in_body(cut);
        return Ok(response);
    }
    let sender = opening.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(sender) = sender {
        let _ = sender.send((response.into_parts().0, version, admitted));
    }
    // The connection ends here, as far as its parser is concerned.
    std::future::pending().await
}

/// The head of a stream's response, on a connection that ends with it.
fn head(parts: &Parts, chunked: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    if chunked {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()) {
        head.extend_from_slice(format!("date: {date}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}
