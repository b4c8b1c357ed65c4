//! The writing side of one stream: its line, what was written to it, and when.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::line::{Gone, Line, Slot, Write};
use crate::cursor::{Cursor, Epoch};
use crate::event::Delivery;
use crate::telemetry::Observer;
use crate::wire::{self, Frame};

/// Whoever holds it writes: the stream's task, or, while that one waits for something to do, the hub.
pub struct Writer {
    /// `None` until the head of the response is on its way.
    line: Option<Line>,
    observer: Observer,
    /// Everything up to here was written, or is not for this client.
    position: Cursor,
    /// The place that the client knows, and since when.
    told: Cursor,
    told_at: Instant,
    written_at: Instant,
}

/// When a stream did what.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub written: Instant,
    pub told: Instant,
    pub accepted: Instant,
}

impl Writer {
    pub fn new(observer: Observer) -> Self {
        let (nowhere, now) = (Cursor::new(Epoch(0), 0), Instant::now());
        Self { line: None, observer, position: nowhere, told: nowhere, told_at: now, written_at: now }
    }

    /// Begins at a position, which the client is told with the first bytes.
    pub fn open(&mut self, line: Line, position: Cursor) {
        let now = Instant::now();
        (self.line, self.position, self.told) = (Some(line), position, position);
        (self.told_at, self.written_at) = (now, now);
    }

    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    pub fn has_room(&self) -> bool {
        self.line.as_ref().is_some_and(Line::has_room)
    }

    /// Whether something was written that only the stream's task can bring on its way.
    pub fn is_held_up(&self) -> bool {
        matches!(&self.line, Some(line @ Line::Socket(_)) if !line.has_room())
    }

    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.line.as_mut().map_or(Poll::Ready(Err(Gone)), |line| line.poll_room(context))
    }

    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.line.as_mut().map_or(Poll::Ready(()), |line| line.poll_gone(context))
    }

    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.line.as_mut().map_or(Poll::Ready(Err(Gone)), |line| line.poll_end(context))
    }

    pub fn cut(&mut self) {
        self.line.take().into_iter().for_each(|line| line.cut());
    }

    pub fn times(&self) -> Times {
        let accepted = self.line.as_ref().map_or(self.written_at, Line::accepted);
        Times { written: self.written_at, told: self.told_at, accepted }
    }

    pub fn position(&self) -> Cursor {
        self.position
    }

    /// Goes on to a place up to which nothing is for this client.
    pub fn pass(&mut self, sequence: u64) {
        self.position.sequence = self.position.sequence.max(sequence);
    }

    /// Writes events, for which there must be room.
    pub fn events(&mut self, events: &[Arc<Delivery>], replayed: bool) -> Result<(), Gone> {
        let (Some(line), Some(last)) = (&mut self.line, events.last()) else { return Err(Gone) };
        let went = line.events(events, replayed)?;
        if let Some(at) = went {
            self.observer.written(events, replayed, at);
        }
        self.position.sequence = last.sequence;
        self.wrote(went.unwrap_or_else(Instant::now), true);
        Ok(())
    }

    /// Writes events that are older than the log, for which there must be room. Their ids lead to a place of
    /// their own, which may be in an earlier life of the log.
    pub fn past(&mut self, events: &[Arc<Delivery>], place: Cursor) -> Result<(), Gone> {
        self.events(events, true)?;
        self.go_to(place);
        self.told();
        Ok(())
    }

    /// Goes on from another place, back or in another life of the log.
    pub fn go_to(&mut self, place: Cursor) {
        self.position = Cursor { end: false, ..place };
    }

    /// Writes something else, for which there must be room.
    pub fn frames(&mut self, frames: &[Frame]) -> Result<(), Gone> {
        self.line.as_mut().ok_or(Gone)?.frames(frames)?;
        self.wrote(Instant::now(), false);
        Ok(())
    }

    /// Tells the client that there is a gap, and where it goes on; the gap first: who reads only the first
    /// half keeps the old cursor.
    pub fn reset(&mut self, reason: wire::Reset, position: Cursor, ids: bool) -> Result<(), Gone> {
        let frames = [wire::reset(reason), wire::position(position)];
        self.frames(&frames[..if ids { 2 } else { 1 }])?;
        self.position = position;
        self.told();
        Ok(())
    }

    /// Takes note of a write, and whether it told the position.
    fn wrote(&mut self, at: Instant, position: bool) {
        self.written_at = at;
        if position {
            self.told();
        }
    }

    /// Notes that the last write told the position.
    pub fn told(&mut self) {
        (self.told, self.told_at) = (self.position, self.written_at);
    }

    /// The position, if the client does not know it; it is told now.
    pub fn untold(&mut self) -> Option<Cursor> {
        self.told_at = Instant::now();
        let told = std::mem::replace(&mut self.told, self.position);
        (told != self.position).then_some(self.position)
    }

    fn slot(&mut self) -> Option<&mut Slot> {
        if let Some(Line::Slot(slot)) = &mut self.line { Some(slot) } else { None }
    }

    /// What a body writes next; `None` at its end.
    pub fn poll_take(&mut self, context: &Context<'_>) -> Poll<Option<Write>> {
        let taken = self.slot().map_or(Poll::Ready(None), |slot| slot.poll_take(context));
        if let Poll::Ready(Some(Write { events, replayed, .. })) = &taken {
            self.observer.written(events.as_slice(), *replayed, Instant::now());
        }
        taken
    }

    /// Whoever carries the stream takes no more of them: one that comes back finds another pod.
    pub fn say_goodbye(&mut self) {
        self.slot().into_iter().for_each(|slot| slot.say_goodbye());
    }

    /// Notes that the body was dropped.
    pub fn leave(&mut self) {
        self.slot().into_iter().for_each(Slot::leave);
    }
}
