//! Publishes into the log what came over HTTP, and waits until the log has it.
//!
//! An acknowledgement that does not come leaves open whether the event was stored. So a publisher names
//! its event (`Nats-Msg-Id`) and tries again: of one name the log takes one.

use std::sync::OnceLock;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, Request, Subject};
use bytes::Bytes;
use tracing::warn;

use super::Link;
use super::question::Unanswered;
use crate::seldom::Seldom;

/// How long the log may take for its acknowledgement, before the request is answered with 503.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why an event is not known to be in the log. The text is safe to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("NATS can not be reached at the moment.")]
    Away,
    #[error("NATS did not acknowledge the event in time.")]
    Late,
    /// The server's own limit is below the gateway's.
    #[error("The event is larger than NATS takes.")]
    TooLarge,
    #[error("The log takes no event with this Nats-TTL: a time such as 1h, or 'never'.")]
    Ttl,
    /// Why is for who runs the gateway, in its log.
    #[error("NATS did not store the event.")]
    Refused,
}

/// The way of single events into the log.
#[derive(Default)]
pub struct Publisher {
    link: OnceLock<Link>,
    lines: Seldom,
}

impl Publisher {
    /// Takes the connection to publish through.
    pub fn attach(&self, link: Link) {
        // There is one connection for the life of the process.
        let _ = self.link.set(link);
    }

    /// Publishes an event, and waits for the log's acknowledgement.
    ///
    /// # Errors
    ///
    /// When there is none in time, or the log does not take the event.
    pub async fn publish(
        &self,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, PublishError> {
        let link = self.link.get().ok_or(PublishError::Away)?;
        let request = Request::new().headers(headers).payload(payload);
        let answer = link.ask(&subject, request, DEADLINE).await.map_err(|error| match &error {
            Unanswered::Away => PublishError::Away,
            Unanswered::Late => self.failed(PublishError::Late, &error),
            Unanswered::Failed(failed) if failed.kind() == RequestErrorKind::MaxPayloadExceeded => {
                PublishError::TooLarge
            }
            Unanswered::Absent | Unanswered::Failed(_) => self.failed(PublishError::Refused, &error),
        })?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok(ack)) => Ok(ack),
            Ok(Response::Err { error }) => match error.error_code() {
                ErrorCode::MESSAGE_TTL_INVALID | ErrorCode::MESSAGE_TTL_DISABLED => Err(PublishError::Ttl),
                _ => Err(self.failed(PublishError::Refused, &error)),
            },
            Err(error) => Err(self.failed(PublishError::Refused, &error)),
        }
    }

    fn failed(&self, kind: PublishError, error: &dyn std::fmt::Display) -> PublishError {
        if let Some(others) = self.lines.turn() {
            warn!(%error, others, "An event that came over HTTP was not stored.");
        }
        kind
    }
}
