//! Where a stream's bytes go. The stream knows this, not what is behind it: an HTTP/1.1 body or an
//! HTTP/2 stream.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::event::Delivery;
use crate::telemetry::Observer;

/// What carries one stream: a socket, or a part of an HTTP/2 connection. Whoever serves it tells what
/// the client accepts; the stream cuts it under a client that accepts nothing, which a body can not
/// do: it is not asked for more.
#[derive(Clone)]
pub struct Carrier(Arc<State>);

struct State {
    since: Instant,
    /// When the client accepted something last, in milliseconds after `since`.
    accepted: AtomicU64,
    cut_at: watch::Sender<Option<Instant>>,
}

impl Default for Carrier {
    fn default() -> Self {
        let (cut_at, _) = watch::channel(None);
        Self(Arc::new(State { since: Instant::now(), accepted: AtomicU64::new(0), cut_at }))
    }
}

impl Carrier {
    /// Notes that the client accepted something.
    pub fn accepted(&self) {
        let now = u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.accepted.store(now, Ordering::Relaxed);
    }

    fn last_accepted(&self) -> Instant {
        self.0.since + Duration::from_millis(self.0.accepted.load(Ordering::Relaxed))
    }

    /// Cuts the carrier at that time, unless it has come to its end before.
    pub fn cut_at(&self, at: Instant) {
        self.0.cut_at.send_modify(|cut| *cut = Some(cut.map_or(at, |cut| cut.min(at))));
    }

    /// Returns when it is time to cut.
    pub async fn cut(&self) {
        let mut cut_at = self.0.cut_at.subscribe();
        loop {
            let at = *cut_at.borrow_and_update();
            tokio::select! {
                () = async { match at { Some(at) => sleep_until(at).await, None => pending().await } } => return,
                _ = cut_at.changed() => {}
            }
        }
    }
}

/// Bytes of one write.
pub struct Chunk {
    pub bytes: Bytes,
    /// Events among them.
    pub events: Option<Events>,
}

/// Events of one write.
pub struct Events {
    pub events: Box<[Arc<Delivery>]>,
    /// Whether the client had missed them.
    pub replayed: bool,
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, events: None }
    }
}

/// The writing end. What was handed over has one more deadline to go out after this is dropped.
pub struct Sink {
    sender: mpsc::Sender<Chunk>,
    deadline: Duration,
    carrier: Carrier,
}

/// Why bytes were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    Closed,
    TimedOut,
}

/// A sink, and the response body that it fills. The body ends when the sink is dropped.
#[must_use]
pub fn sink(deadline: Duration, carrier: Carrier, observer: Arc<Observer>) -> (Sink, StreamBody) {
    // One chunk waits here; hyper's buffer and the socket's hold what comes before.
    let (sender, receiver) = mpsc::channel(1);
    (Sink { sender, deadline, carrier: carrier.clone() }, StreamBody { receiver, carrier, observer })
}

impl Sink {
    /// Hands bytes over, as soon as the client accepts them.
    ///
    /// # Errors
    ///
    /// When the client has gone, or accepts no byte for as long as it may.
    pub async fn write(&self, bytes: Bytes) -> Result<(), WriteError> {
        self.ready().await?;
        self.put(bytes.into())
    }

    /// Waits until the client has taken enough of what came before. One that takes little at a time is
    /// slow, one that takes nothing is stalled.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub async fn ready(&self) -> Result<(), WriteError> {
        let begun = Instant::now();
        loop {
            let stalled = self.carrier.last_accepted().max(begun) + self.deadline;
            tokio::select! {
                biased;
                room = self.sender.reserve() => return room.map(drop).map_err(|_| WriteError::Closed),
                () = sleep_until(stalled) => {}
            }
            if self.carrier.last_accepted() + self.deadline <= Instant::now() {
                self.cut();
                return Err(WriteError::TimedOut);
            }
        }
    }

    /// Hands bytes over for which there is room.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub fn put(&self, chunk: Chunk) -> Result<(), WriteError> {
        self.sender.try_send(chunk).map_err(|_| WriteError::Closed)
    }

    /// Ends the carrier at once, whatever waits to be written.
    pub fn cut(&self) {
        self.carrier.cut_at(Instant::now());
    }

    /// Lets the last bytes have no more than this to go out.
    pub fn hurry(&mut self, within: Duration) {
        self.deadline = self.deadline.min(within);
    }

    /// Returns when the client has gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A client that does not take the end of its stream would keep the socket for ever.
        self.carrier.cut_at(Instant::now() + self.deadline);
    }
}

/// The body of a stream's response: unknown length, whole frames in each chunk.
pub struct StreamBody {
    receiver: mpsc::Receiver<Chunk>,
    carrier: Carrier,
    observer: Arc<Observer>,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.receiver.poll_recv(context).map(|chunk| {
            self.carrier.accepted();
            chunk.map(|Chunk { bytes, events }| {
                if let Some(Events { events, replayed }) = events {
                    self.observer.written(&events, replayed);
                }
                Ok(Frame::data(bytes))
            })
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Telemetry;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_accepts_nothing_is_cut_and_a_slow_one_is_not() {
        let carrier = Carrier::default();
        let (sink, body) = sink(DEADLINE, carrier.clone(), Telemetry::counting().observer());
        assert_eq!(sink.write(Bytes::from_static(b"a")).await, Ok(()));
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                carrier.accepted();
            }
        };
        let (begun, (written, ())) = (Instant::now(), tokio::join!(sink.ready(), slow));
        assert_eq!(written, Err(WriteError::TimedOut));
        let took = begun.elapsed().as_secs();
        assert!((319..=321).contains(&took), "{took}");
        carrier.cut().await;
        drop(body);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_ended_has_one_deadline_to_go_out() {
        let carrier = Carrier::default();
        let (mut sink, _body) = sink(DEADLINE, carrier.clone(), Telemetry::counting().observer());
        sink.hurry(Duration::from_secs(2));
        let ended = Instant::now();
        drop(sink);
        carrier.cut().await;
        assert_eq!(ended.elapsed().as_secs(), 2);
    }
}
