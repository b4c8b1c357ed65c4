//! A message of the log: understood as an event, or refused with a reason.

mod cloud;
mod headers;
mod moment;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use async_nats::{HeaderMap, HeaderValue, Subject};
use bytes::Bytes;

use crate::cursor::{Cursor, Epoch};
use crate::subject::{self, SubjectError, Target};
use crate::telemetry::Origin;
use crate::wire::{Block, Field, Frame};
use cloud::Form;
use headers::Headers;
pub use moment::Stored;

/// Longest list of receivers in a header, in bytes.
const MAX_LIST: usize = 4096;

/// A message as the log holds it, with the headers that matter, not yet checked.
#[derive(Clone, Debug)]
pub struct Message {
    pub sequence: u64,
    pub subject: Subject,
    pub payload: Bytes,
    event: Option<Box<str>>,
    retry: Option<Box<str>>,
    complete: Option<Box<str>>,
    /// `Sse-Users` or `Sse-Topics`: whichever the subject asks for.
    listed: Option<Box<str>>,
    form: Form,
    flaw: Option<Refusal>,
    /// When it was stored, in microseconds since 1970, if that is known.
    stored: Option<u64>,
    /// The trace that its publisher made it in.
    origin: Option<Origin>,
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
        Self::read(sequence, subject, &Headers::of(headers), payload, source)
    }

    /// A message to which the server added its headers: its place, and its subject where that is not known
    /// otherwise. `None` when they are not there: then it is a word of the server's own. The payload is copied: it
    /// lies in what was read from the connection at once, all of which would be kept with it.
    #[must_use]
    pub fn annotated(subject: Option<Subject>, headers: &HeaderMap, payload: &[u8]) -> Option<Self> {
        let headers = Headers::of(headers);
        let sequence = headers.sequence?.parse().ok()?;
        let subject = subject.or_else(|| headers.subject.map(Into::into))?;
        let payload = Bytes::copy_from_slice(payload);
        Some(Self::read(sequence, subject, &headers, payload, Source::Annotated))
    }

    fn read(sequence: u64, subject: Subject, headers: &Headers<'_>, payload: Bytes, source: Source) -> Self {
        let flaw = if headers.marker {
            Some(Refusal::Marker)
        } else if headers.servers > usize::from(source == Source::Annotated) {
            // An event that brings one of its own.
            Some(Refusal::Forged)
        } else {
            None
        };
        let event = headers.event.map(Into::into).or_else(|| headers.ce_type.map(cloud::event_type));
        let (retry, complete) = (headers.retry.map(Into::into), headers.complete.map(Into::into));
        let listed = if subject.ends_with(".users") {
            one(headers.users)
        } else if subject.ends_with(".topics") {
            one(headers.topics)
        } else {
            None
        };
        let form = headers.content_type().map_or(Form::Verbatim, Form::of);
        let stored = headers.stored.filter(|_| source == Source::Annotated).and_then(micros);
        let origin = headers.traceparent().and_then(Origin::parse);
        Self { sequence, subject, payload, event, retry, complete, listed, form, flaw, stored, origin }
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.content()
    }

    /// Bytes of what it says, which are in its frame, too.
    #[must_use]
    pub fn content(&self) -> usize {
        let headers = [&self.event, &self.retry, &self.complete, &self.listed];
        let headers: usize = headers.into_iter().flatten().map(|value| value.len()).sum();
        self.subject.len() + self.payload.len() + headers
    }
}

/// A time stamp, in microseconds since 1970.
fn micros(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    time.as_microsecond().try_into().ok()
}

/// Every value of a header, as the one list that they are.
fn one(values: &[HeaderValue]) -> Option<Box<str>> {
    let (first, rest) = values.split_first()?;
    let list = rest.iter().fold(first.as_str().to_owned(), |list, value| list + "," + value.as_str());
    Some(list.into())
}

/// Who receives a message: its subject, and the list in its header where the subject asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience<'a> {
    pub target: Target<'a>,
    listed: &'a str,
}

impl<'a> Audience<'a> {
    /// The users or topics that the header names.
    pub fn listed(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        subject::listed(self.listed)
    }
}

/// An event, ready to be written to any number of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub sequence: u64,
    pub frame: Frame,
    /// Whether the stream ends after it.
    pub complete: bool,
    /// When it was stored, if that is known.
    pub stored: Option<Stored>,
    /// The trace that its publisher made it in.
    pub origin: Option<Origin>,
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

    /// The event that the message is; `None` when it is refused.
    pub fn delivery(&self, rules: &Rules, epoch: Epoch) -> Option<&Arc<Delivery>> {
        self.understood(|| rules.read(epoch, &self.message).ok())
    }

    /// The same, of a message that was checked a moment ago.
    pub fn delivery_of(&self, checked: &Checked<'_>, epoch: Epoch) -> Option<&Arc<Delivery>> {
        self.understood(|| Some(checked.delivery(epoch)))
    }

    fn understood(&self, read: impl FnOnce() -> Option<Delivery>) -> Option<&Arc<Delivery>> {
        self.delivery.get_or_init(|| read().map(Arc::new)).as_ref()
    }
}

/// Why a message is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error("events for everyone are refused unless platformBroadcast.enabled is true")]
    PlatformOff,
    #[error("the header {0} is missing")]
    NoList(&'static str),
    #[error("the header {0} is longer than {MAX_LIST} bytes")]
    LongList(&'static str),
    #[error("the header {0}: {1}")]
    List(&'static str, SubjectError),
    #[error("the payload is larger than limits.maxPayloadBytes")]
    TooLarge,
    #[error("the payload is not UTF-8")]
    NotUtf8,
    #[error("the header {0} holds CR, LF or NUL, or can not be read")]
    Header(&'static str),
    #[error("the CloudEvent {0}")]
    CloudEvent(&'static str),
    #[error("the message brings a header that only the server may set")]
    Forged,
    #[error("the headers or the subject can not be read")]
    Unreadable,
    /// Not an event, and no mistake of its publisher: the server marks a deletion.
    #[error("the message marks a deletion")]
    Marker,
}

/// What a gateway's configuration says about events.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `nats.subjectPrefix`
    pub prefix: String,
    pub default_event_type: String,
    /// In bytes.
    pub max_payload: usize,
    /// Whether events for everyone are delivered.
    pub platform: bool,
    /// Whether events carry their place in the log: without a log there is none.
    pub ids: bool,
}

/// A message that is an event: who gets it, and what its frame is made of.
pub struct Checked<'a> {
    pub audience: Audience<'a>,
    parts: Parts<'a>,
    message: &'a Message,
    ids: bool,
}

impl Checked<'_> {
    /// Whether the stream ends after it.
    #[must_use]
    pub const fn completes(&self) -> bool {
        self.parts.complete
    }

    /// Makes the frame.
    #[must_use]
    pub fn delivery(&self, epoch: Epoch) -> Delivery {
        let Parts { event, retry, complete, data } = &self.parts;
        let Message { sequence, stored, origin, .. } = *self.message;
        let stored = stored.map(Stored::new);
        let id = Cursor { epoch, sequence, end: *complete };
        let event = event.as_deref().and_then(Field::new);
        let frame = Block { id: self.ids.then_some(id), event, retry: *retry, data }.encode();
        Delivery { sequence, frame, complete: *complete, stored, origin }
    }
}

struct Parts<'a> {
    /// A [`Field`].
    event: Option<Cow<'a, str>>,
    retry: Option<u32>,
    complete: bool,
    data: Cow<'a, str>,
}

impl Rules {
    /// Who receives a message, wherever they are.
    ///
    /// # Errors
    ///
    /// When it can not be delivered to anybody.
    pub fn audience<'a>(&self, message: &'a Message) -> Result<Audience<'a>, Refusal> {
        if let Some(flaw) = message.flaw {
            return Err(flaw);
        }
        let target = subject::target(&self.prefix, &message.subject)?;
        let listed = match target {
            Target::Platform if !self.platform => return Err(Refusal::PlatformOff),
            Target::Users { .. } => message.list("Sse-Users", subject::check_users)?,
            Target::Topics { .. } => message.list("Sse-Topics", subject::check_topics)?,
            _ => "",
        };
        Ok(Audience { target, listed })
    }

    /// Checks a message whole, without making its frame: what is refused is refused for everybody.
    ///
    /// # Errors
    ///
    /// When the message can not be an event.
    pub fn check<'a>(&'a self, message: &'a Message) -> Result<Checked<'a>, Refusal> {
        let (audience, parts) = (self.audience(message)?, self.parts(message)?);
        Ok(Checked { audience, parts, message, ids: self.ids })
    }

    /// Makes the frame of a message.
    ///
    /// # Errors
    ///
    /// When the message can not be an event.
    pub fn read(&self, epoch: Epoch, message: &Message) -> Result<Delivery, Refusal> {
        Ok(self.check(message)?.delivery(epoch))
    }

    fn parts<'a>(&'a self, message: &'a Message) -> Result<Parts<'a>, Refusal> {
        if message.payload.len() > self.max_payload {
            return Err(Refusal::TooLarge);
        }
        let payload = std::str::from_utf8(&message.payload).map_err(|_| Refusal::NotUtf8)?;
        let (kind, data) = match message.form {
            Form::Verbatim => (None, Cow::Borrowed(payload)),
            Form::Structured => cloud::structured(payload)?,
            Form::Batch => return Err(Refusal::CloudEvent("is a batch; publish each event by itself")),
        };
        let (event, refusal) = match (message.event.as_deref(), kind) {
            (Some(name), _) => (Some(Cow::Borrowed(name)), Refusal::Header("Sse-Event")),
            (None, Some(kind)) => (Some(kind), Refusal::CloudEvent("has no usable type")),
            (None, None) if self.default_event_type == "message" => (None, Refusal::Header("Sse-Event")),
            (None, None) => (Some(self.default_event_type.as_str().into()), Refusal::Header("Sse-Event")),
        };
        if event.as_deref().is_some_and(|name| name.is_empty() || Field::new(name).is_none()) {
            return Err(refusal);
        }
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
        Ok(Parts { event, retry, complete, data })
    }
}

impl Message {
    fn list(&self, name: &'static str, check: fn(&str) -> Result<(), SubjectError>) -> Result<&str, Refusal> {
        let list = self.listed.as_deref().ok_or(Refusal::NoList(name))?;
        if list.len() > MAX_LIST {
            return Err(Refusal::LongList(name));
        }
        check(list).map_err(|error| Refusal::List(name, error))?;
        Ok(list)
    }
}

#[cfg(test)]
mod tests;
