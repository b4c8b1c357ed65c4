//! Where a stream's bytes go. The stream knows this, not what is behind it: an HTTP/1.1 body or an
//! HTTP/2 stream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The writing end.
pub struct Sink {
    sender: mpsc::Sender<Bytes>,
    deadline: Duration,
    /// Ends the socket under a client that accepts nothing: a body can not, it is not asked for more.
    abort: CancellationToken,
}

/// Why bytes were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    Closed,
    TimedOut,
}

/// A sink, and the response body that it fills. The body ends when the sink is dropped.
#[must_use]
pub fn sink(deadline: Duration, abort: CancellationToken) -> (Sink, StreamBody) {
    // One chunk waits here; hyper's buffer and the socket's hold what comes before.
    let (sender, receiver) = mpsc::channel(1);
    (Sink { sender, deadline, abort }, StreamBody { receiver })
}

impl Sink {
    /// Hands bytes over, as soon as the client accepts them.
    ///
    /// # Errors
    ///
    /// When the client has gone, or accepts no byte for as long as it may.
    pub async fn write(&self, bytes: Bytes) -> Result<(), WriteError> {
        match timeout(self.deadline, self.sender.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(WriteError::Closed),
            Err(_) => {
                self.abort.cancel();
                Err(WriteError::TimedOut)
            }
        }
    }

    /// Returns when the client has gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// The body of a stream's response: unknown length, whole frames in each chunk.
pub struct StreamBody {
    receiver: mpsc::Receiver<Bytes>,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.receiver.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
