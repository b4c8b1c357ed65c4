//! How much of either protocol a client may use before anybody knows who it is.
//!
//! What hyper and h2 bound by themselves stays as it is: the head of HTTP/1 (100 headers, and the buffer),
//! and the CONTINUATION frames of HTTP/2 by the size of the list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Bytes that are held back for one connection, by hyper and by TLS, or for one stream of HTTP/2, before it asks a body for less. The
/// head of a request of HTTP/1 has to fit, too.
pub const BUFFER: usize = 16 * 1024;
/// Bytes of all headers of a request of HTTP/2, as for HTTP/1.
const HEADERS: u32 = 16 * 1024;
/// Bytes of bodies that a client may send before anybody reads them: the least that HTTP/2 can say. By default it
/// is a megabyte for each connection.
const WINDOW: u32 = 65_535;
/// Streams of a connection at one time. Proxies carry many users over one connection.
const STREAMS: u32 = 1000;
/// Streams that a client may have reset before they were looked at, and those that were reset for its errors: beyond
/// it the connection ends. Rapid reset costs the attacker a connection for every few.
const RESETS: usize = 20;
const ERRORS: usize = 100;
/// A client that is gone without a word is noticed after these two together.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// An exchange of HTTP/2 that is no stream of events: from the end of its head until its answer was taken.
const EXCHANGE: Duration = Duration::from_mins(1);

/// What serves connections.
pub struct Builders {
    /// Of the protocol that their first bytes are of.
    either: auto::Builder<Exchanges>,
    http1: auto::Builder<Exchanges>,
    http2: auto::Builder<Exchanges>,
}

impl Builders {
    #[must_use]
    pub fn new() -> Self {
        Self { either: builder(), http1: builder().http1_only(), http2: builder().http2_only() }
    }

    /// The one for what client and server agreed upon within TLS, if they did: then nothing else is spoken.
    #[must_use]
    pub fn agreed(&self, protocol: Option<&[u8]>) -> &auto::Builder<Exchanges> {
        match protocol {
            Some(b"h2") => &self.http2,
            Some(b"http/1.1") => &self.http1,
            _ => &self.either,
        }
    }
}

fn builder() -> auto::Builder<Exchanges> {
    let mut builder = auto::Builder::new(Exchanges);
    // The time that a head may take is seen to by the lobby, for both, TLS and the preface included.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(BUFFER).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_send_buf_size(BUFFER)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(ERRORS)
        .max_concurrent_streams(STREAMS);
    builder
}

tokio::task_local! {
    /// The exchange of HTTP/2 that is served.
    static PRESENT: Arc<Exchange>;
}

/// One request of HTTP/2 and its answer.
pub struct Exchange {
    /// Ends it, whatever its client's window: the stream is reset.
    cut: CancellationToken,
    lasts: AtomicBool,
}

impl Exchange {
    /// Says that the one that is served is a stream, which lasts; answers what ends it.
    pub fn lasts() -> CancellationToken {
        let lasts = |exchange: &Arc<Self>| {
            exchange.lasts.store(true, Ordering::Relaxed);
            exchange.cut.clone()
        };
        PRESENT.try_with(lasts).unwrap_or_default()
    }
}

/// Runs each exchange of HTTP/2 until it is cut, or, if it does not last, has taken too long: dropped, it is reset.
#[derive(Clone)]
pub struct Exchanges;

impl<F> Executor<F> for Exchanges
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, work: F) {
        let exchange = Arc::new(Exchange { cut: CancellationToken::new(), lasts: AtomicBool::new(false) });
        let mut work = Box::pin(PRESENT.scope(exchange.clone(), work));
        tokio::spawn(async move {
            tokio::select! {
                _ = &mut work => return,
                () = exchange.cut.cancelled() => return,
                () = sleep(EXCHANGE) => {}
            }
            if exchange.lasts.load(Ordering::Relaxed) {
                exchange.cut.run_until_cancelled(work).await;
            }
        });
    }
}
