//! A message of the log: understood as an event, or refused with a reason.

use std::sync::{Arc, OnceLock};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tracing::warn;

use crate::cursor::{Cursor, Epoch};
use crate::wire::{Block, Field, Frame};

/// Headers that only the server may set: an event that brings one of its own is a forgery.
const SERVER_HEADERS: [&str; 5] =
    ["Nats-Sequence", "Nats-Last-Sequence", "Nats-Subject", "Nats-Stream", "Nats-Time-Stamp"];

/// A message as the log holds it, with the headers that matter, not yet checked.
#[derive(Clone, Debug)]
pub struct Message {
    pub sequence: u64,
    pub subject: Subject,
    pub payload: Bytes,
    event: Option<Box<str>>,
    retry: Option<Box<str>>,
    complete: Option<Box<str>>,
    flaw: Option<Refusal>,
}

/// Where a message was read: the server adds its headers to what it republishes and to direct
/// gets, but not to a message that the leader was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The live feed or a direct get: one value of each server header is the server's.
    Annotated,
    /// The leader's store: any server header is the publisher's.
    Stored,
}

impl Message {
    #[must_use]
    pub fn new(sequence: u64, subject: Subject, headers: &HeaderMap, payload: Bytes, source: Source) -> Self {
        let theirs = usize::from(source == Source::Annotated);
        let flaw = if headers.get("Nats-Marker-Reason").is_some() {
            Some(Refusal::Marker)
        } else if SERVER_HEADERS.iter().any(|name| headers.get_all(*name).count() > theirs) {
            Some(Refusal::Forged)
        } else {
            None
        };
        let header = |name: &'static str| headers.get(name).map(|value| value.as_str().into());
        let (event, retry, complete) = (header("Sse-Event"), header("Sse-Retry"), header("Sse-Complete"));
        Self { sequence, subject, payload, event, retry, complete, flaw }
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let header = |value: &Option<Box<str>>| value.as_ref().map_or(0, |value| value.len());
        size_of::<Self>()
            + self.subject.len()
            + self.payload.len()
            + header(&self.event)
            + header(&self.retry)
    }
}

/// An event, ready to be written to any number of connections.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    pub sequence: u64,
    pub frame: Frame,
    /// Whether the stream ends after it.
    pub complete: bool,
}

/// A message in the ring or in a page of the log, understood at most once, for its first receiver.
#[derive(Debug)]
pub struct Entry {
    pub message: Message,
    delivery: OnceLock<Option<Arc<Delivery>>>,
}

impl Entry {
    #[must_use]
    pub fn new(message: Message) -> Arc<Self> {
        Arc::new(Self { message, delivery: OnceLock::new() })
    }

    /// The event that the message is; `None` when it was refused, which is logged once.
    pub fn delivery(&self, rules: &Rules, epoch: Epoch) -> Option<&Arc<Delivery>> {
        let read = || match rules.read(epoch, &self.message) {
            Ok(delivery) => Some(Arc::new(delivery)),
            Err(Refusal::Marker) => None,
            Err(refusal) => {
                warn!(sequence = self.message.sequence, reason = %refusal, "Refused an event.");
                None
            }
        };
        self.delivery.get_or_init(read).as_ref()
    }
}

/// Why a message is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the payload is larger than limits.maxPayloadBytes")]
    TooLarge,
    #[error("the payload is not UTF-8")]
    NotUtf8,
    #[error("the header {0} holds CR, LF or NUL, or can not be read")]
    Header(&'static str),
    #[error("the message brings a header that only the server may set")]
    Forged,
    #[error("the message marks a deletion")]
    Marker,
}

/// What a gateway's configuration says about events.
#[derive(Clone, Debug)]
pub struct Rules {
    pub default_event_type: String,
    /// In bytes.
    pub max_payload: usize,
}

impl Rules {
    /// Makes the frame of a message.
    ///
    /// # Errors
    ///
    /// When the message can not be an event.
    pub fn read(&self, epoch: Epoch, message: &Message) -> Result<Delivery, Refusal> {
        if let Some(flaw) = message.flaw {
            return Err(flaw);
        }
        if message.payload.len() > self.max_payload {
            return Err(Refusal::TooLarge);
        }
        let data = std::str::from_utf8(&message.payload).map_err(|_| Refusal::NotUtf8)?;
        let event = match message.event.as_deref() {
            None if self.default_event_type == "message" => None,
            None => Field::new(&self.default_event_type),
            Some("") => return Err(Refusal::Header("Sse-Event")),
            Some(name) => Some(Field::new(name).ok_or(Refusal::Header("Sse-Event"))?),
        };
        let retry = match message.retry.as_deref() {
            None => None,
            Some(ms) if ms.bytes().all(|b| b.is_ascii_digit()) => {
                Some(ms.parse().map_err(|_| Refusal::Header("Sse-Retry"))?)
            }
            Some(_) => return Err(Refusal::Header("Sse-Retry")),
        };
        let complete = match message.complete.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Refusal::Header("Sse-Complete")),
        };
        let id = Cursor { epoch, sequence: message.sequence, end: complete };
        let frame = Block { id: Some(id), event, retry, data }.encode();
        Ok(Delivery { sequence: message.sequence, frame, complete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { default_event_type: "message".into(), max_payload: 16 }
    }

    fn message(headers: &[(&'static str, &str)], payload: &[u8]) -> Message {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let payload = Bytes::copy_from_slice(payload);
        Message::new(7, "sse.t.user.u".into(), &map, payload, Source::Annotated)
    }

    fn text(delivery: &Delivery) -> &str {
        std::str::from_utf8(delivery.frame.as_bytes()).expect("UTF-8")
    }

    #[test]
    fn headers_become_fields() {
        let plain = rules().read(Epoch(1), &message(&[], b"hi")).expect("an event");
        assert_eq!(text(&plain), "id: 00000001-7\ndata: hi\n\n");
        let headers = [("Sse-Event", "tick"), ("Sse-Retry", "500"), ("Sse-Complete", "true")];
        let full = rules().read(Epoch(1), &message(&headers, b"hi")).expect("an event");
        assert_eq!(text(&full), "id: 00000001-7-end\nevent: tick\nretry: 500\ndata: hi\n\n");
        assert!(full.complete);
    }

    #[test]
    fn a_named_message_type_is_written_and_a_configured_default_too() {
        let named = rules().read(Epoch(1), &message(&[("Sse-Event", "message")], b"x")).expect("an event");
        assert!(text(&named).contains("event: message\n"));
        let rules = Rules { default_event_type: "note".into(), max_payload: 16 };
        assert!(
            text(&rules.read(Epoch(1), &message(&[], b"x")).expect("an event")).contains("event: note\n")
        );
    }

    #[test]
    fn the_payload_limit_is_exact() {
        assert!(rules().read(Epoch(1), &message(&[], &[b'a'; 16])).is_ok());
        assert_eq!(rules().read(Epoch(1), &message(&[], &[b'a'; 17])), Err(Refusal::TooLarge));
    }

    #[test]
    fn one_server_header_is_the_servers_own_but_not_in_the_store() {
        let mut headers = HeaderMap::new();
        headers.append("Nats-Sequence", "7");
        let read =
            |source| rules().read(Epoch(1), &Message::new(7, "s".into(), &headers, Bytes::new(), source));
        assert!(read(Source::Annotated).is_ok());
        assert_eq!(read(Source::Stored), Err(Refusal::Forged));
    }

    /// Headers, payload, and why it is refused.
    type Case = (&'static [(&'static str, &'static str)], &'static [u8], Refusal);

    #[test]
    fn what_can_not_be_an_event_is_refused() {
        let cases: [Case; 6] = [
            (&[("Sse-Event", "")], b"", Refusal::Header("Sse-Event")),
            (&[("Sse-Retry", "+5")], b"", Refusal::Header("Sse-Retry")),
            (&[("Sse-Retry", "99999999999")], b"", Refusal::Header("Sse-Retry")),
            (&[("Nats-Sequence", "9"), ("Nats-Sequence", "7")], b"", Refusal::Forged),
            (&[("Nats-Marker-Reason", "MaxAge")], b"", Refusal::Marker),
            (&[], b"\xff", Refusal::NotUtf8),
        ];
        for (headers, payload, refusal) in cases {
            assert_eq!(rules().read(Epoch(1), &message(headers, payload)), Err(refusal));
        }
    }
}
