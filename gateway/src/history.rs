//! What a history service is asked, and what is believed of its answer.
//!
//! A history service knows events that are older than the log. It is asked for one client, page by page, for
//! what comes after a cursor and [`before`](Question::before) the oldest event that the log keeps. Its ids are
//! the log's own cursors, so what it has and what the log has can be put in one order.
//!
//! The service is not trusted with the order. A [`Seam`] takes an event only after the last one that was taken,
//! and below the log, so whatever the answer says, nothing is written twice or out of order. An entry that can
//! have no place is left out, and then the client is told that there is a gap. Events of an earlier life of the
//! log may come first: their numbers say nothing beside those of another, so such a life is taken as a whole, in
//! its own order, before the next, and none comes back once it was left.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cursor::{Cursor, Epoch};
use crate::event::{Delivery, Rules};
use crate::hub::Membership;
use crate::wire::{Block, Field};

/// Earlier lives of the log that one client is told of.
const LIVES: usize = 16;

/// What the service is asked. Tenant, user and topics are spelled as in subjects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question<'a> {
    pub tenant: &'a str,
    pub user: &'a str,
    /// Topics that the stream is subscribed to; patterns may be among them.
    pub topics: Vec<String>,
    /// First what the client brought, verbatim, and empty when that was nothing; then the last id of each page.
    pub last_event_id: &'a str,
    /// Cursor of the oldest message that the log keeps.
    pub before: String,
}

impl<'a> Question<'a> {
    /// Asks for what a stream listens to. Who that is, its credential said.
    #[must_use]
    pub fn new(of: &'a Membership, last_event_id: &'a str, before: Cursor) -> Self {
        let topics = of.topics.iter().map(ToString::to_string).collect();
        let (tenant, user) = (of.tenant.as_str(), of.user.as_str());
        Self { tenant, user, topics, last_event_id, before: before.to_string() }
    }
}

/// What a service answers that has no page.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: Value,
}

/// Events after the id that was asked for, oldest first.
#[derive(Debug, Default, Deserialize)]
pub struct Reply {
    pub events: Vec<Entry>,
    /// Whether there are others after the last of them.
    #[serde(default)]
    pub more: bool,
}

/// An event as the service has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
}

/// Why an answer is no page of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("the service can not honour the cursor")]
    Refused,
    /// What stands there is not repeated: it is somebody's event.
    #[error("the answer is no page of history: see column {0}")]
    NotUnderstood(usize),
}

impl Reply {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// When it is an error of the service's, or none of its answers.
    pub fn read(payload: &[u8]) -> Result<Self, Unusable> {
        match serde_json::from_slice(payload) {
            Ok(Refusal { error }) if !error.is_null() => Err(Unusable::Refused),
            _ => serde_json::from_slice(payload).map_err(|error| Unusable::NotUnderstood(error.column())),
        }
    }
}

/// Why an entry was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Without an id or data.
    Blank,
    /// The id is no cursor.
    Id,
    /// It is not after the one before it.
    Order,
    /// The same again, or one that the log still has.
    Known,
    /// It could not be an event of the log either: too large, or a type that is no line.
    Event,
}

impl Skip {
    pub const ALL: [Self; 5] = [Self::Blank, Self::Id, Self::Order, Self::Known, Self::Event];

    /// The reason in metrics and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Id => "id",
            Self::Order => "order",
            Self::Known => "known",
            Self::Event => "event",
        }
    }

    /// Whether the client may miss an event by it.
    const fn leaves_gap(self) -> bool {
        matches!(self, Self::Id | Self::Order)
    }
}

/// How a client's way through history ended: what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has everything up to the log.
    Served,
    /// It has some, and is told of a gap.
    Partial,
    /// The service can not honour the cursor.
    Refused,
    Late,
    Absent,
    Failed,
    Busy,
}

impl Outcome {
    pub const ALL: [Self; 7] =
        [Self::Served, Self::Partial, Self::Refused, Self::Late, Self::Absent, Self::Failed, Self::Busy];

    /// The result in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Absent => "absent",
            Self::Failed => "failed",
            Self::Busy => "busy",
        }
    }
}

/// The place between history and the log, and what came up to it.
#[derive(Debug)]
pub struct Seam {
    /// Oldest that the log keeps.
    before: Cursor,
    /// What was taken last, or what the client has.
    last: Option<Cursor>,
    /// Lives of the log that have passed.
    left: Vec<Epoch>,
}

/// A page, checked.
#[derive(Debug, Default)]
pub struct Page {
    /// In order.
    pub events: Vec<(Cursor, Arc<Delivery>)>,
    pub skipped: Vec<Skip>,
    /// The last id that has a place: where the next page begins.
    pub last: Option<Cursor>,
    /// Whether there is another page to ask for.
    pub more: bool,
    /// Whether the client may miss something, of this page or after it.
    pub gap: bool,
}

impl Seam {
    /// Of a client that has everything up to `cursor`; `None`: its id was none of ours, or there is none.
    #[must_use]
    pub const fn new(cursor: Option<Cursor>, before: Cursor) -> Self {
        Self { before, last: cursor, left: Vec::new() }
    }

    /// Takes the next id, if it has a place after all others.
    fn place(&mut self, id: Cursor) -> Result<(), Skip> {
        let Some(last) = self.last.replace(id) else { return Ok(()) };
        let order = if last.epoch == id.epoch {
            last.sequence.cmp(&id.sequence)
        } else if last.epoch == self.before.epoch || self.left.contains(&id.epoch) || self.left.len() >= LIVES
        {
            std::cmp::Ordering::Greater
        } else {
            self.left.push(last.epoch);
            std::cmp::Ordering::Less
        };
        if order.is_lt() {
            return Ok(());
        }
        self.last = Some(last);
        Err(if order.is_eq() { Skip::Known } else { Skip::Order })
    }

    /// Takes from a reply what has a place and fits a stream, at most `most` events.
    #[must_use]
    pub fn take(&mut self, reply: &Reply, most: usize, rules: &Rules) -> Page {
        let mut page = Page { more: reply.more, ..Page::default() };
        for entry in &reply.events {
            if page.events.len() >= most {
                page.gap = true;
                break;
            }
            match self.take_one(entry, &mut page, rules) {
                Ok(()) => {}
                Err(skip) => {
                    page.gap |= skip.leaves_gap();
                    page.skipped.push(skip);
                }
            }
        }
        // More of what can not be asked for.
        let stuck = page.more && page.last.is_none();
        let full = page.more && page.events.len() >= most;
        page.gap |= stuck || full;
        page.more &= !page.gap;
        page
    }

    fn take_one(&mut self, entry: &Entry, page: &mut Page, rules: &Rules) -> Result<(), Skip> {
        let id = entry.id.as_deref().filter(|id| !id.trim().is_empty()).ok_or(Skip::Blank)?;
        let data = entry.data.as_deref().ok_or(Skip::Blank)?;
        let id: Cursor = id.parse().ok().filter(|id: &Cursor| id.sequence > 0).ok_or(Skip::Id)?;
        if id.epoch == self.before.epoch && id.sequence >= self.before.sequence {
            // From here on the log has it all.
            page.more = false;
            return Err(Skip::Known);
        }
        self.place(id)?;
        page.last = Some(id);
        let named = entry.event.as_deref().filter(|name| !name.trim().is_empty());
        let default = Some(rules.default_event_type.as_str()).filter(|name| *name != "message");
        let event = named.or(default).map(|name| Field::new(name).ok_or(Skip::Event)).transpose()?;
        if data.len() > rules.max_payload {
            return Err(Skip::Event);
        }
        let frame = Block { id: Some(id), event, retry: None, data }.encode();
        let Cursor { sequence, end: complete, .. } = id;
        let delivery = Delivery { sequence, frame, complete, stored: None, origin: None };
        page.events.push((id, Arc::new(delivery)));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
