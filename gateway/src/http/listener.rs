//! Accepts connections: HTTP/1.1 and HTTP/2 (h2c) on one port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

/// A client has this long for the head of its first request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes that hyper holds back for one connection before it asks a body for less.
const WRITE_BUFFER: usize = 16 * 1024;

/// The transport of a request.
#[derive(Clone)]
pub struct Socket {
    pub peer: SocketAddr,
    /// Cancelled to cut the connection.
    pub abort: CancellationToken,
}

/// Serves `router` until `stop` is cancelled; then each connection ends after its present answers,
/// and `connections` says when the last one has.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, connections: TaskTracker) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
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
    builder: Arc<auto::Builder<TokioExecutor>>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    // Events are small and each is waited for.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set.");
    }
    let abort = CancellationToken::new();
    let socket = Socket { peer, abort: abort.clone() };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(socket.clone());
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = abort.cancelled() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A client that goes away is no error of ours.
        debug!(%error, "A connection ended early.");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> axum::response::Response {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
