//! The way of a stream through history: what a client missed and the log has no more, before the log.
//!
//! A client whose cursor is older than the log, of another log, or none at all would be told of a gap. With a
//! history service (`replay.history`) that one is asked first. Meanwhile the stream stays behind, where it
//! stands, and does everything else that a stream does: it beats, drains, and is ended.
//!
//! 1. A question, for one page after what the client has and before what the log has. Where the log begins
//!    was told by the reader that missed something, or is asked of the leader.
//! 2. What has a place among the answer's events ([`Seam`]) is written, as fast as the client takes it, and the
//!    next page is asked for.
//! 3. At the end of history the stream goes on in the log, at its oldest event. Was the log trimmed meanwhile,
//!    the way begins again from there, a few times.
//!
//! Without an answer the client is served as if there were no history. Once a part was written it is told
//! `expired` for the rest, and goes on with the oldest event of the log: a gap is never silent. Until the first
//! event the client keeps the place that it came with, and one that brought none is told none: should it leave,
//! it comes back to ask again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Connection, End, portion};
use crate::cursor::Cursor;
use crate::event::Delivery;
use crate::history::{Outcome, Seam};
use crate::nats::history::{Answer, Edge, HistoryError};
use crate::wire::{self, Reset};

/// How often the log may be trimmed under a client that is on its way to it.
const WALKS: u8 = 3;
/// Longest id that is handed on, in bytes.
const LONGEST_ID: usize = 1024;

type Question = Pin<Box<dyn Future<Output = Result<Answer, HistoryError>> + Send>>;

/// What a stream has to do with history, since it was live.
#[derive(Default)]
pub(super) struct Past {
    walk: Option<Box<Walk>>,
    walks: u8,
    /// Events that came of it.
    taken: usize,
}

/// A way through history.
pub(super) struct Walk {
    /// Where the outbox waits behind.
    after: u64,
    /// What the client brought.
    cursor: Option<Cursor>,
    /// What the next question asks after.
    last_event_id: String,
    edge: Edge,
    /// What the client is told when there is no history. One that brought nothing missed nothing.
    reason: Option<Reset>,
    /// Whether the client was told no place of this log yet.
    comes_first: bool,
    seam: Option<Seam>,
    written: bool,
    /// How long the service may still take.
    patience: Duration,
    question: Option<Question>,
    asked: Instant,
}

impl Past {
    /// The way that a stream is on which is behind there. Any other was overtaken by a reset.
    pub fn take(&mut self, after: u64) -> Option<Box<Walk>> {
        self.walk.take().filter(|walk| walk.after == after)
    }

    /// Whether the client was told no place yet.
    pub fn comes_first(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.comes_first)
    }
}

/// Whether an id can be handed on to a history service.
#[must_use]
pub const fn is_askable(id: &str) -> bool {
    id.len() <= LONGEST_ID
}

impl Connection {
    /// Begins with history: what the client brought is not of this log. `place` is where it would begin
    /// otherwise, after `reason`.
    pub fn begin_with_history(&mut self, brought: &str, place: Cursor, reason: Option<Reset>) {
        let cursor = brought.parse().ok().filter(|cursor: &Cursor| cursor.epoch != place.epoch);
        self.set_out(cursor, brought.to_owned(), place.sequence, Edge::Unknown(place.epoch), reason);
    }

    /// The log begins at `first`, after what the client has. Whether history is asked for what is between.
    pub(super) fn look_back(&mut self, after: u64, first: u64) -> bool {
        let epoch = self.outbox().writer(|writer| writer.position()).epoch;
        let cursor = Cursor::new(epoch, after);
        let edge = Edge::At(Cursor::new(epoch, first));
        self.set_out(Some(cursor), cursor.to_string(), after, edge, Some(Reset::Expired))
    }

    /// The cursor is of this log, which has never been there. Whether history is asked what it means.
    pub(super) fn look_back_from_nowhere(&mut self, after: u64) -> bool {
        if !self.may_set_out() {
            return false;
        }
        let Some(place) = self.registration.restart(after) else { return false };
        let brought = Cursor::new(place.epoch, after).to_string();
        self.set_out(None, brought, place.sequence, Edge::Unknown(place.epoch), Some(Reset::Invalid))
    }

    fn may_set_out(&self) -> bool {
        let most = self.context.history.as_ref().map_or(0, |history| history.most);
        self.past.walks < WALKS && self.past.taken < most
    }

    fn set_out(
        &mut self,
        cursor: Option<Cursor>,
        last_event_id: String,
        after: u64,
        edge: Edge,
        reason: Option<Reset>,
    ) -> bool {
        let Some(history) = self.context.history.as_ref().filter(|_| self.may_set_out()) else {
            return false;
        };
        let walk = Walk {
            after,
            cursor,
            last_event_id,
            edge,
            reason,
            comes_first: matches!(edge, Edge::Unknown(_)),
            seam: None,
            written: false,
            patience: history.patience(),
            question: None,
            asked: Instant::now(),
        };
        self.past.walks += 1;
        self.past.walk = Some(Box::new(walk));
        true
    }

    /// Goes one step: asks, waits, or writes a page.
    pub(super) async fn go_back(&mut self, mut walk: Box<Walk>) -> Result<(), End> {
        let Some(mut question) = walk.question.take().or_else(|| self.question(&mut walk)) else {
            return Ok(());
        };
        let due = self.next_due();
        let answer = tokio::select! {
            biased;
            answer = &mut question => Some(answer),
            called = self.registration.outbox.called() => {
                called?;
                None
            }
            () = sleep_until(due) => None,
        };
        let Some(answer) = answer else {
            // It is waited for again when what else there is was done.
            walk.question = Some(question);
            self.past.walk = Some(walk);
            return Ok(());
        };
        walk.patience = walk.patience.saturating_sub(walk.asked.elapsed());
        match answer {
            Ok(answer) => self.write_page(walk, answer).await,
            Err(error) => self.give_up(walk, Outcome::from(&error), &error).await,
        }
    }

    /// Asks for the next page; `None` of a stream that has ended, or a gateway without history.
    fn question(&self, walk: &mut Walk) -> Option<Question> {
        let (history, member) = (self.context.history.clone()?, self.registration.membership()?);
        walk.asked = Instant::now();
        let (after, edge, patience) = (walk.last_event_id.clone(), walk.edge, walk.patience);
        Some(Box::pin(async move { history.ask(&member, &after, edge, patience).await }))
    }

    async fn write_page(&mut self, mut walk: Box<Walk>, answer: Answer) -> Result<(), End> {
        let Some(history) = self.context.history.clone() else { return Ok(()) };
        let Answer { reply, before, held } = answer;
        walk.edge = Edge::At(before);
        let cursor = walk.cursor;
        let seam = walk.seam.get_or_insert_with(|| Seam::new(cursor, before));
        let page = seam.take(&reply, history.most - self.past.taken, self.context.hub.rules());
        drop(reply);
        history.skipped(&page);
        self.past.taken += page.events.len();
        if !page.events.is_empty() {
            (walk.written, walk.comes_first) = (true, false);
        }
        let (places, events): (Vec<Cursor>, Vec<Arc<Delivery>>) = page.events.into_iter().unzip();
        self.write_past(&places, &events).await?;
        drop(held);
        if page.gap {
            let outcome = if walk.written { Outcome::Partial } else { Outcome::Failed };
            return self.give_up(walk, outcome, &HistoryError::Gap).await;
        }
        if let Some(last) = page.last.filter(|_| page.more) {
            walk.last_event_id = last.to_string();
            self.past.walk = Some(walk);
            return Ok(());
        }
        self.arrive(walk, before).await
    }

    async fn write_past(&mut self, places: &[Cursor], events: &[Arc<Delivery>]) -> Result<(), End> {
        let mut at = 0;
        while at < events.len() {
            let (count, complete) = portion(&events[at..]);
            let (now, next) = (&events[at..at + count], at + count);
            self.room().await?;
            self.outbox().writer(|writer| writer.past(now, places[next - 1]))?;
            if complete {
                return Err(End::Complete);
            }
            at = next;
        }
        Ok(())
    }

    /// The client has everything up to the log, and goes on there.
    async fn arrive(&mut self, walk: Box<Walk>, before: Cursor) -> Result<(), End> {
        self.count(Outcome::Served, None);
        let place = Cursor::new(before.epoch, before.sequence - 1);
        if !self.outbox().progress(walk.after, place.sequence) {
            // A reset came between.
            return Ok(());
        }
        self.outbox().writer(|writer| writer.go_to(place));
        if walk.comes_first { self.tell_place(place).await } else { Ok(()) }
    }

    /// Goes on as if there were no history, or where it ends.
    async fn give_up(&mut self, walk: Box<Walk>, outcome: Outcome, error: &HistoryError) -> Result<(), End> {
        let outcome = if walk.written { Outcome::Partial } else { outcome };
        self.count(outcome, Some(error));
        let missed_by_age = walk.written || walk.reason == Some(Reset::Expired);
        let (reason, place) = match walk.edge {
            Edge::At(before) if missed_by_age => {
                (Some(Reset::Expired), Cursor::new(before.epoch, before.sequence - 1))
            }
            Edge::At(Cursor { epoch, .. }) | Edge::Unknown(epoch) => {
                (walk.reason, Cursor::new(epoch, walk.after))
            }
        };
        if !self.outbox().progress(walk.after, place.sequence) {
            return Ok(());
        }
        match reason {
            Some(reason) => self.tell_reset(reason, place).await,
            None => self.tell_place(place).await,
        }
    }

    fn count(&self, outcome: Outcome, error: Option<&HistoryError>) {
        self.context.history.iter().for_each(|history| history.ended(outcome, error));
    }

    /// Tells a client its first place.
    async fn tell_place(&mut self, place: Cursor) -> Result<(), End> {
        self.write(&[wire::position(place)]).await?;
        self.outbox().writer(|writer| {
            writer.go_to(place);
            writer.told();
        });
        Ok(())
    }
}
