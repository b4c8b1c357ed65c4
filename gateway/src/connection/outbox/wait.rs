//! What the task of a stream waits for: something to do, room, the client's leave, the end.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::{Outbox, State};
use crate::connection::End;
use crate::connection::line::Gone;

/// What a wait for room came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    There,
    /// The pod wants something: look, and wait again.
    Nudged,
    Gone,
    /// There is none, and the stream is to end.
    Ended(End),
}

impl State {
    fn wait(&mut self, context: &Context<'_>) {
        match &mut self.task {
            Some(task) => task.clone_from(context.waker()),
            task => *task = Some(context.waker().clone()),
        }
    }
}

impl Outbox {
    /// Returns when there may be something to do. In the meantime the hub writes.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub async fn woken(&self) -> Result<(), Gone> {
        poll_fn(|context| {
            let mut state = self.state();
            state.idle = false;
            if state.has_work() {
                return Poll::Ready(Ok(()));
            }
            if state.writer.poll_gone(context).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            state.idle = true;
            state.wait(context);
            Poll::Pending
        })
        .await
    }

    /// Returns when there is something to do beside fetching events.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub async fn called(&self) -> Result<(), Gone> {
        poll_fn(|context| {
            let mut state = self.state();
            if state.writer.poll_gone(context).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            if state.is_called() {
                return Poll::Ready(Ok(()));
            }
            state.wait(context);
            Poll::Pending
        })
        .await
    }

    /// Returns when the client has gone.
    pub async fn gone(&self) -> Gone {
        poll_fn(|context| {
            let mut state = self.state();
            state.wait(context);
            state.writer.poll_gone(context)
        })
        .await;
        Gone
    }

    /// Returns when there is room for the next write, or when there is no sense in waiting for it.
    pub async fn room(&self) -> Room {
        poll_fn(|context| {
            let mut state = self.state();
            match state.writer.poll_room(context) {
                Poll::Ready(Ok(())) => return Poll::Ready(Room::There),
                Poll::Ready(Err(Gone)) => return Poll::Ready(Room::Gone),
                Poll::Pending => {}
            }
            if let Some(end) = state.ended {
                return Poll::Ready(Room::Ended(end));
            }
            if std::mem::take(&mut state.nudged) {
                return Poll::Ready(Room::Nudged);
            }
            if state.writer.poll_gone(context).is_ready() {
                return Poll::Ready(Room::Gone);
            }
            state.wait(context);
            Poll::Pending
        })
        .await
    }

    /// Returns when the end of the stream has gone out.
    pub async fn ending(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            let ended = state.writer.poll_end(context);
            if ended.is_pending() {
                state.wait(context);
            }
            ended.map(drop)
        })
        .await;
    }
}
