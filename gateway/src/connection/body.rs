//! The body of a response that somebody else's protocol carries: it takes from its stream one write at a
//! time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::outbox::Outbox;

/// Unknown length, whole frames in each part.
pub struct StreamBody(pub Arc<Outbox>);

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_take(context).map(|write| write.map(|write| Ok(Frame::data(write.bytes))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.0.leave();
    }
}
