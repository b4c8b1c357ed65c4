//! The body of an answer. That of a stream keeps its connection from being taken for one that waits.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Error;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::lobby::Busy;

pub struct Answer {
    body: Body,
    _busy: Option<Busy>,
}

impl Answer {
    /// One that is no stream: how long its client takes for it is the connection's own time.
    #[must_use]
    pub const fn short(body: Body) -> Self {
        Self { body, _busy: None }
    }

    /// That of a stream which its protocol carries.
    #[must_use]
    pub const fn stream(body: Body, busy: Busy) -> Self {
        Self { body, _busy: Some(busy) }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
