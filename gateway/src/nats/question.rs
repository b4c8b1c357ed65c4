//! A question to whoever answers on a subject.
//!
//! Each has an inbox of its own, which goes with it: the client library remembers what it asks through the
//! inbox of all until there is an answer, and to some questions there is none.

use std::time::Duration;

use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::{Message, Request};
use tokio::time::timeout;

use super::Link;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("there is no connection to NATS")]
    Away,
    #[error("there was no answer in time")]
    Late,
    #[error("nobody answers on the subject")]
    Absent,
    #[error(transparent)]
    Failed(RequestError),
}

impl Link {
    /// Asks, and waits for the answer. What was asked over a connection that is lost may have arrived.
    ///
    /// # Errors
    ///
    /// When there is no answer in time, or can not be one.
    pub async fn ask(
        &self,
        subject: &str,
        request: Request,
        within: Duration,
    ) -> Result<Message, Unanswered> {
        let state = self.state.borrow().clone();
        if !state.connected {
            return Err(Unanswered::Away);
        }
        let client = self.client();
        let request = request.timeout(None).inbox(client.new_inbox());
        let answer = tokio::select! {
            biased;
            answer = timeout(within, client.send_request(subject.to_owned(), request)) => answer,
            () = self.lost(state.generation) => return Err(Unanswered::Away),
        };
        answer.map_err(|_| Unanswered::Late)?.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Unanswered::Absent,
            _ => Unanswered::Failed(error),
        })
    }
}
