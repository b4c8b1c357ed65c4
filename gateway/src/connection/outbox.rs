//! What waits to be written to one connection: bounded, filled by the hub, emptied by the stream's task.
//!
//! While nothing waits and the task has nothing to do, the hub writes by itself: to wake a task for each
//! event and receiver would cost more than the write.

mod wait;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sse_crds::delivery::OverflowPolicy;

use super::line::{Gone, Line, Write};
use super::writer::Writer;
use super::{End, WRITE};
use crate::cursor::Cursor;
use crate::event::Delivery;
use crate::telemetry::Observer;
use crate::wire::Reset;
pub use wait::Room;

/// Bytes that may wait for one connection, beside the event that comes over it.
const MAX_BYTES: usize = 256 * 1024;

/// The bounded queue of one connection, and its writer.
pub struct Outbox {
    state: Mutex<State>,
    capacity: usize,
    policy: OverflowPolicy,
}

#[expect(clippy::struct_excessive_bools, reason = "each is true or not whatever the others are")]
struct State {
    queue: VecDeque<Item>,
    /// Bytes of the events in the queue.
    bytes: usize,
    mode: Mode,
    /// Sequence that was offered last: one event may reach a connection in several ways.
    offered: u64,
    ping: bool,
    /// Whether the task is to look at the clock and the pod.
    nudged: bool,
    ended: Option<End>,
    /// Of the task, while it waits.
    task: Option<Waker>,
    /// Whether the task waits for something to do: then the hub may write.
    idle: bool,
    /// Whether the hub has something for it that it did not tell the task of.
    corked: bool,
    writer: Writer,
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Event(Arc<Delivery>),
    /// The log is not what it was: tell the client, and go on from the position.
    Reset(Reset, Cursor),
    /// The log lost something in between: tell the client. Its position stays.
    Gap(Reset),
}

/// How a connection gets its events. What is in the queue comes first in either mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The hub offers them.
    Live,
    /// It fetches those after this sequence itself.
    Behind(u64),
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Write(Vec<Item>),
    /// Fetch what comes after this sequence.
    Fetch(u64),
    /// Write a heartbeat now.
    Ping,
    /// Nothing until [`Outbox::woken`].
    Wait,
    /// The stream ends: its buffer was full, or a back end wants it.
    End(End),
}

impl State {
    fn push(&mut self, delivery: &Arc<Delivery>) {
        self.bytes += delivery.frame.as_bytes().len();
        self.queue.push_back(Item::Event(delivery.clone()));
    }

    /// Lets go of the oldest event, and has its client told of the gap, once for all that were in one place. What it
    /// must be told besides stays.
    fn drop_oldest(&mut self) {
        let Some(at) = self.queue.iter().position(|item| matches!(item, Item::Event(_))) else { return };
        let gap = Item::Gap(Reset::Expired);
        let is_told = at.checked_sub(1).is_some_and(|before| self.queue.get(before) == Some(&gap));
        let dropped = if is_told {
            self.queue.remove(at)
        } else {
            self.queue.get_mut(at).map(|item| std::mem::replace(item, gap))
        };
        if let Some(Item::Event(delivery)) = dropped {
            self.bytes -= delivery.frame.as_bytes().len();
        }
    }

    fn is_full(&self, capacity: usize) -> bool {
        self.queue.len() >= capacity || self.bytes >= MAX_BYTES
    }

    /// Whether the hub may write.
    fn is_at_rest(&self) -> bool {
        self.idle && self.ended.is_none() && self.writer.has_room()
    }

    /// Writes the events that wait before anything else, up to the size of one write.
    fn write_waiting(&mut self) {
        let (mut events, mut size) = (Vec::new(), 0);
        let plain = |item: &mut Item| matches!(item, Item::Event(delivery) if !delivery.complete);
        while size < WRITE
            && let Some(Item::Event(delivery)) = self.queue.pop_front_if(plain)
        {
            size += delivery.frame.as_bytes().len();
            events.push(delivery);
        }
        self.bytes -= size;
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if !events.is_empty() && self.writer.events(&events, false).is_err() {
            self.ended = Some(End::Client);
        }
    }

    /// Whether there is something to do for the task.
    fn has_work(&self) -> bool {
        self.is_called() || self.mode != Mode::Live || self.writer.is_held_up()
    }

    /// The same, beside what it does by itself.
    fn is_called(&self) -> bool {
        !self.queue.is_empty() || self.ping || self.nudged || self.ended.is_some()
    }
}

/// Wakes the task after the lock is given back.
fn wake(mut state: MutexGuard<'_, State>) {
    let task = state.task.take();
    drop(state);
    task.into_iter().for_each(Waker::wake);
}

impl Outbox {
    #[must_use]
    pub fn new(capacity: usize, policy: OverflowPolicy, observer: Observer) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            mode: Mode::Live,
            offered: 0,
            ping: false,
            nudged: false,
            ended: None,
            task: None,
            idle: false,
            corked: false,
            writer: Writer::new(observer),
        };
        Arc::new(Self { state: Mutex::new(state), capacity, policy })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that may wait.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes an event: writes it, keeps it, or lets the connection fall behind. The hub never waits. The same
    /// event again changes nothing. With `corked` it is kept for [`flush`](Self::flush); whether that has to come
    /// for this connection is answered once.
    pub fn offer(&self, delivery: &Arc<Delivery>, corked: bool) -> bool {
        let mut state = self.state();
        if state.mode != Mode::Live || delivery.sequence <= state.offered {
            return false;
        }
        state.offered = delivery.sequence;
        // What completes a stream is the task's: it ends after it.
        if !corked && !delivery.complete && state.queue.is_empty() && state.is_at_rest() {
            match state.writer.events(std::slice::from_ref(delivery), false) {
                Ok(()) if !state.writer.is_held_up() => return false,
                Ok(()) => {}
                Err(Gone) => state.ended = Some(End::Client),
            }
            wake(state);
            return false;
        }
        if state.is_full(self.capacity) && state.is_at_rest() {
            // A burst is no reason to fall behind.
            state.write_waiting();
        }
        if state.is_full(self.capacity) {
            match self.policy {
                OverflowPolicy::CatchUp => state.mode = Mode::Behind(delivery.sequence - 1),
                OverflowPolicy::Disconnect => {
                    state.ended.get_or_insert(End::Overflow);
                }
                OverflowPolicy::DropOldest => {
                    state.drop_oldest();
                    state.writer.observer().dropped();
                    state.push(delivery);
                }
            }
        } else {
            state.push(delivery);
        }
        if corked {
            return !std::mem::replace(&mut state.corked, true);
        }
        wake(state);
        false
    }

    /// Writes what was kept, as far as it goes out in one write, and leaves the rest to the task.
    pub fn flush(&self) {
        let mut state = self.state();
        state.corked = false;
        if state.is_at_rest() {
            state.write_waiting();
        }
        if state.has_work() {
            wake(state);
        }
    }

    /// The log is another one, or lost its beginning: tells the client and goes live.
    pub fn reset(&self, reason: Reset, position: Cursor) {
        let mut state = self.state();
        state.mode = Mode::Live;
        state.offered = position.sequence;
        state.queue.push_back(Item::Reset(reason, position));
        wake(state);
    }

    /// Something between two events is lost: tells the client. One that waits with this need not be told
    /// again.
    pub fn gap(&self, reason: Reset) {
        let mut state = self.state();
        if state.queue.back() != Some(&Item::Gap(reason)) {
            state.queue.push_back(Item::Gap(reason));
        }
        wake(state);
    }

    /// Ends the stream, between frames.
    pub fn end(&self, end: End) {
        let mut state = self.state();
        state.ended.get_or_insert(end);
        wake(state);
    }

    /// Ends the stream, whose client is to come back to another pod, if that interrupts nothing; answers whether it does.
    pub fn let_go(&self) -> bool {
        let mut state = self.state();
        let goes = state.is_at_rest() && !state.has_work();
        if goes {
            state.ended = Some(End::Rebalance);
            state.writer.say_goodbye();
            wake(state);
        }
        goes
    }

    /// Asks for a heartbeat now.
    pub fn ping(&self) {
        let mut state = self.state();
        state.ping = true;
        wake(state);
    }

    /// Makes the task look at what the pod wants.
    pub fn nudge(&self) {
        let mut state = self.state();
        state.nudged = true;
        wake(state);
    }

    /// Begins behind, after a sequence.
    pub fn fall_behind(&self, after: u64) {
        self.state().mode = Mode::Behind(after);
    }

    /// Whether the connection still is behind exactly there: a reset may have come between.
    #[must_use]
    pub fn is_behind(&self, after: u64) -> bool {
        self.state().mode == Mode::Behind(after)
    }

    /// Moves on from `after`; `false` when a reset came between, and what was fetched is void.
    pub fn progress(&self, after: u64, position: u64) -> bool {
        let mut state = self.state();
        let same = state.mode == Mode::Behind(after);
        if same {
            state.mode = Mode::Behind(position);
        }
        same
    }

    /// Becomes live, with everything up to `head`: the hub may be about to offer the last of it. `false` when
    /// a reset came between.
    pub fn go_live(&self, after: u64, head: u64) -> bool {
        let mut state = self.state();
        let same = state.mode == Mode::Behind(after);
        if same {
            (state.mode, state.offered) = (Mode::Live, head);
        }
        same
    }

    /// Gives the stream its line: what waits can be written.
    pub fn open(&self, line: Line, position: Cursor) {
        self.state().writer.open(line, position);
    }

    /// What to do now; takes what waits. `head` was read before: what is up to there and neither here nor
    /// written is not for this client.
    #[must_use]
    pub fn next(&self, head: u64) -> Next {
        let mut state = self.state();
        state.nudged = false;
        if let Some(end) = state.ended {
            return Next::End(end);
        }
        if std::mem::take(&mut state.ping) {
            return Next::Ping;
        }
        if !state.queue.is_empty() {
            state.bytes = 0;
            // With its memory: a burst is no reason to keep room for the next one.
            return Next::Write(std::mem::take(&mut state.queue).into());
        }
        match state.mode {
            Mode::Live => {
                state.writer.pass(head);
                Next::Wait
            }
            Mode::Behind(after) => Next::Fetch(after),
        }
    }

    /// Ends the wait for something to do: from now on only the task writes.
    pub fn claim(&self) {
        self.state().idle = false;
    }

    /// What the task does with the writer.
    pub fn writer<T>(&self, act: impl FnOnce(&mut Writer) -> T) -> T {
        act(&mut self.state().writer)
    }

    /// What the body of the stream writes next; `None` at its end.
    pub fn poll_take(&self, context: &Context<'_>) -> Poll<Option<Write>> {
        let mut state = self.state();
        let taken = state.writer.poll_take(context);
        // One that waits for something to do has nothing to do with room.
        if taken.is_ready() && !state.idle {
            wake(state);
        }
        taken
    }

    /// Notes that the body of the stream was dropped.
    pub fn leave(&self) {
        let mut state = self.state();
        state.writer.leave();
        wake(state);
    }
}

#[cfg(test)]
mod tests;
