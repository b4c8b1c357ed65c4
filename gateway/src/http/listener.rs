//! Accepts connections: HTTP/1.1 and HTTP/2 on one port, over TLS or without.
//!
//! A stream is the last answer of an HTTP/1.1 connection, which then leaves its parser and the parser's
//! buffers behind: the stream has the socket for itself. On HTTP/2 a stream ends alone, and within TLS hyper keeps
//! it: what a connection holds is mostly TLS then.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{Request, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::answer::Answer;
use super::lobby::{self, Lobby, Visit};
use super::problem::Problem;
use super::protocol::{self, Builders, Exchange, Exchanges};
use super::socket::Transport;
use super::stream::{Admitted, Handover};
use super::tls::Certificate;
use crate::seldom::Seldom;

/// A request of HTTP/1 has this long for its body, and its handler with it. What handlers wait for has deadlines of
/// its own, far below.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a connection has to say goodbye when its time is over.
const FAREWELL: Duration = Duration::from_millis(100);
/// A client has this long for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Of those that wait without a stream, so many are cut when the system has no file left for another.
const ROOM: usize = 16;

/// Where a request came from.
#[derive(Clone)]
pub struct Socket {
    pub peer: SocketAddr,
}

/// What connections come through.
pub struct Door {
    pub lobby: Arc<Lobby>,
    /// With it, nothing is served but TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// When connections are told to end after their present answers: who comes back finds another pod. Those that
    /// come later are answered, and are told at the end.
    pub goodbye: CancellationToken,
    /// How long a client may acknowledge nothing of what it was sent.
    pub silence: Duration,
}

/// Serves `router` until `stop` is cancelled; each connection ends after its present answers when it was told,
/// and `connections` says when the last one has.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    door: Door,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    let (builders, refused, lobby) = (Arc::new(Builders::new()), Seldom::default(), &door.lobby);
    let mut looks = interval(lobby::LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = looks.tick() => {
                lobby.look();
                continue;
            }
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let goodbye = if door.goodbye.is_cancelled() { &stop } else { &door.goodbye }.child_token();
                let (visit, router) = (lobby.enter(), router.clone());
                let guest = Guest { peer, visit, router, goodbye, silence: door.silence };
                let certificate = door.certificate.clone();
                connections.spawn(connection(builders.clone(), stream, certificate, guest));
            }
            Err(error) => {
                // Out of file descriptors, for instance: others must end before more can come.
                if let Some(others) = refused.turn() {
                    warn!(%error, others, "A connection could not be accepted.");
                }
                lobby.make_room(ROOM);
                sleep(FAREWELL).await;
            }
        }
    }
}

/// Whose connection it is, and what answers it.
#[derive(Clone)]
struct Guest {
    peer: SocketAddr,
    visit: Arc<Visit>,
    router: Router,
    silence: Duration,
    /// When the connection is told to end after its present answers.
    goodbye: CancellationToken,
}

/// The answer to a request of HTTP/1 that opens a stream, and the stream.
type Opened = (Parts, Version, Box<Admitted>);

/// The way of a stream out of its parser.
type Opening = Arc<Mutex<Option<oneshot::Sender<Opened>>>>;

async fn connection(
    builders: Arc<Builders>,
    stream: TcpStream,
    certificate: Option<Arc<Certificate>>,
    guest: Guest,
) {
    let stream = Arc::new(stream);
    let transport = Transport::new(stream.clone(), guest.visit.clone(), guest.silence);
    if let Some(certificate) = certificate {
        drop(stream);
        // Elsewhere, or connections without TLS would have room for it.
        return Box::pin(within_tls(&builders, transport, &certificate, guest)).await;
    }
    let opened = serve_http(builders.agreed(None), transport, true, guest).await;
    if let (Some((parts, version, admitted)), Some(stream)) = (opened, Arc::into_inner(stream)) {
        let chunked = version != Version::HTTP_10;
        admitted.on_socket(stream, chunked, &head(&parts, chunked));
    }
}

async fn within_tls(builders: &Builders, transport: Transport, certificate: &Certificate, guest: Guest) {
    // Whoever comes before there is a good one is sent away.
    let Some(tls) = certificate.acceptor() else { return };
    let handshake = tls.accept_with(transport, |tls| tls.set_buffer_limit(Some(protocol::BUFFER)));
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE, handshake) => accepted,
        () = guest.visit.cut.cancelled() => return,
        () = guest.goodbye.cancelled() => return,
    };
    match accepted {
        // A stream of events stays within.
        Ok(Ok(stream)) => {
            let agreed = builders.agreed(stream.get_ref().1.alpn_protocol());
            drop(serve_http(agreed, stream, false, guest).await);
        }
        Ok(Err(error)) => debug!(%error, "A client and TLS do not agree."),
        Err(_) => debug!("A client did not begin TLS in time."),
    }
}

/// Serves requests until the connection ends, or one of HTTP/1 opens a stream which `leaves` its parser.
async fn serve_http(
    builder: &auto::Builder<Exchanges>,
    transport: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    leaves: bool,
    guest: Guest,
) -> Option<Opened> {
    let (visit, goodbye) = (guest.visit.clone(), guest.goodbye.clone());
    let (sender, mut opened) = oneshot::channel();
    let opening = leaves.then(|| Arc::new(Mutex::new(Some(sender))));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Socket { peer: guest.peer });
        // On the heap while it lasts: an open stream of HTTP/2 keeps room for what its answer came from.
        Box::pin(answer(guest.clone(), request, opening.clone()))
    });
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(transport), service));
    let mut last = false;
    loop {
        tokio::select! {
            biased;
            opened = &mut opened, if leaves => {
                visit.leave();
                // With the parser goes what the client sent after its request: there is nothing more to ask for.
                drop(connection);
                return opened.ok();
            }
            () = visit.cut.cancelled() => {
                // Whoever took nothing of a stream for so long takes no goodbye.
                if !visit.is_busy() {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(FAREWELL, connection).await;
                }
                return None;
            }
            result = connection.as_mut() => {
                // A client that goes away is no error of ours.
                if let Err(error) = result {
                    debug!(%error, "A connection ended early.");
                }
                return None;
            }
            () = goodbye.cancelled(), if !last => {
                last = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    guest: Guest,
    request: Request<Incoming>,
    opening: Option<Opening>,
) -> Result<Response<Answer>, Infallible> {
    let version = request.version();
    let busy = guest.visit.begin(version);
    let Ok(response) = timeout(ANSWER, guest.router.oneshot(request.map(Body::new))).await else {
        let late = Problem::new(StatusCode::REQUEST_TIMEOUT, "The request did not come whole in time.");
        return Ok(late.into_response().map(Answer::short));
    };
    let mut response = response?;
    let handover = response.extensions_mut().remove::<Handover>();
    let Some(admitted) = handover.and_then(|handover| handover.take()) else {
        return Ok(response.map(Answer::short));
    };
    let cut = match (version, opening) {
        (Version::HTTP_2, _) => Exchange::lasts(),
        (_, None) => guest.visit.cut.clone(),
        (_, Some(opening)) => {
            let sender = opening.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(sender) = sender {
                let _ = sender.send((response.into_parts().0, version, admitted));
            }
            // The connection ends here, as far as its parser is concerned.
            return std::future::pending().await;
        }
    };
    admitted.in_body(cut, guest.goodbye);
    Ok(response.map(|body| Answer::stream(body, busy)))
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::post;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::super::lobby::Patience;
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    /// The time passes by itself whenever everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_whole_is_answered_for_and_its_connection_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/", post(async |_: Bytes| "whole"));
        let lobby = Lobby::new(Patience { head: LONG, idle: LONG }, || 10);
        let stop = CancellationToken::new();
        let door = Door { lobby, certificate: None, goodbye: stop.clone(), silence: LONG };
        let server = tokio::spawn(serve(listener, router, door, stop.clone(), TaskTracker::new()));

        let mut client = TcpStream::connect(address).await.expect("a server");
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
        client.write_all(head).await.expect("a connection");
        let (begun, mut answer) = (Instant::now(), Vec::new());
        let (mut from, mut to) = client.split();
        let drips = async {
            // Byte by byte is not faster.
            while to.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            ended = from.read_to_end(&mut answer) => drop(ended),
            () = drips => {}
        }
        let (answer, took) = (String::from_utf8_lossy(&answer), begun.elapsed());
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("application/problem+json"),
            "{answer}"
        );
        assert!(took >= ANSWER && took < ANSWER + Duration::from_secs(5), "{took:?}");
        stop.cancel();
        server.await.expect("no panic");
    }
}
