//! What waits to be written to one connection: bounded, filled by the hub, emptied by whatever
//! writes the connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sse_crds::delivery::OverflowPolicy;
use tokio::sync::Notify;

use super::End;
use crate::cursor::Cursor;
use crate::event::Delivery;
use crate::telemetry::metrics::Counter;
use crate::wire::Reset;

/// Bytes that may wait for one connection, beside the event that comes over it.
const MAX_BYTES: usize = 256 * 1024;

/// The bounded queue of one connection.
pub struct Outbox {
    state: Mutex<State>,
    wake: Notify,
    capacity: usize,
    policy: OverflowPolicy,
    dropped: Counter,
}

struct State {
    queue: VecDeque<Item>,
    /// Bytes of the events in the queue.
    bytes: usize,
    mode: Mode,
    /// Sequence that was offered last: one event may reach a connection in several ways.
    offered: u64,
    ping: bool,
    ended: Option<End>,
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

    /// Lets go of the oldest event. What the client must be told besides stays.
    fn drop_oldest(&mut self) {
        let oldest = self.queue.iter().position(|item| matches!(item, Item::Event(_)));
        if let Some(Item::Event(delivery)) = oldest.and_then(|at| self.queue.remove(at)) {
            self.bytes -= delivery.frame.as_bytes().len();
        }
    }
}

impl Outbox {
    #[must_use]
    pub fn new(capacity: usize, policy: OverflowPolicy, dropped: Counter) -> Arc<Self> {
        let (queue, mode) = (VecDeque::new(), Mode::Live);
        let state = State { queue, bytes: 0, mode, offered: 0, ping: false, ended: None };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new(), capacity, policy, dropped })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that may wait.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes an event, or lets the connection fall behind: the hub never waits. The same event again
    /// changes nothing.
    pub fn offer(&self, delivery: &Arc<Delivery>) {
        let mut state = self.state();
        if state.mode != Mode::Live || delivery.sequence <= state.offered {
            return;
        }
        state.offered = delivery.sequence;
        if state.queue.len() >= self.capacity || state.bytes >= MAX_BYTES {
            match self.policy {
                OverflowPolicy::CatchUp => state.mode = Mode::Behind(delivery.sequence - 1),
                OverflowPolicy::Disconnect => {
                    state.ended.get_or_insert(End::Overflow);
                }
                OverflowPolicy::DropOldest => {
                    state.drop_oldest();
                    self.dropped.inc();
                    state.push(delivery);
                }
            }
        } else {
            state.push(delivery);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The log is another one, or lost its beginning: tells the client and goes live.
    pub fn reset(&self, reason: Reset, position: Cursor) {
        let mut state = self.state();
        state.mode = Mode::Live;
        state.offered = position.sequence;
        state.queue.push_back(Item::Reset(reason, position));
        drop(state);
        self.wake.notify_one();
    }

    /// Something between two events is lost: tells the client. One that waits with this need not be told
    /// again.
    pub fn gap(&self, reason: Reset) {
        let mut state = self.state();
        if state.queue.back() != Some(&Item::Gap(reason)) {
            state.queue.push_back(Item::Gap(reason));
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Ends the stream, between frames.
    pub fn end(&self, end: End) {
        self.state().ended.get_or_insert(end);
        self.wake.notify_one();
    }

    /// Asks for a heartbeat now.
    pub fn ping(&self) {
        self.state().ping = true;
        self.wake.notify_one();
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
        self.change(after, Mode::Behind(position))
    }

    /// Becomes live; `false` when a reset came between.
    pub fn go_live(&self, after: u64) -> bool {
        self.change(after, Mode::Live)
    }

    fn change(&self, after: u64, mode: Mode) -> bool {
        let mut state = self.state();
        let same = state.mode == Mode::Behind(after);
        if same {
            state.mode = mode;
        }
        same
    }

    /// What to do now. Takes what waits.
    #[must_use]
    pub fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(end) = state.ended {
            return Next::End(end);
        }
        if std::mem::take(&mut state.ping) {
            return Next::Ping;
        }
        if !state.queue.is_empty() {
            state.bytes = 0;
            return Next::Write(state.queue.drain(..).collect());
        }
        match state.mode {
            Mode::Live => Next::Wait,
            Mode::Behind(after) => Next::Fetch(after),
        }
    }

    /// Why the stream is to end, if it is.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.state().ended
    }

    /// Returns when there may be something to do.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Epoch;
    use crate::wire;

    fn event(sequence: u64) -> Arc<Delivery> {
        Arc::new(Delivery { sequence, frame: wire::heartbeat(), complete: false, stored: None, origin: None })
    }

    fn sequences(next: &Next) -> Vec<u64> {
        let Next::Write(items) = next else { panic!("{next:?}") };
        let sequence = |item: &Item| match item {
            Item::Event(delivery) => Some(delivery.sequence),
            Item::Reset(..) | Item::Gap(_) => None,
        };
        items.iter().filter_map(sequence).collect()
    }

    fn filled(policy: OverflowPolicy) -> Arc<Outbox> {
        let outbox = Outbox::new(3, policy, Counter::default());
        [10, 20, 30, 40, 50].into_iter().for_each(|sequence| outbox.offer(&event(sequence)));
        outbox
    }

    #[test]
    fn a_full_buffer_catches_up_from_right_after_what_it_holds() {
        let outbox = filled(OverflowPolicy::CatchUp);
        assert_eq!(sequences(&outbox.next()), [10, 20, 30]);
        assert_eq!(outbox.next(), Next::Fetch(39));
        assert!(outbox.go_live(39));
        assert_eq!(outbox.next(), Next::Wait);
    }

    #[test]
    fn large_events_fill_a_buffer_before_their_number_does() {
        let outbox = Outbox::new(100, OverflowPolicy::CatchUp, Counter::default());
        let data = "x".repeat(100 * 1024);
        let frame = wire::Block { id: None, event: None, retry: None, data: &data }.encode();
        for sequence in 1..=5 {
            outbox.offer(&Arc::new(Delivery {
                sequence,
                frame: frame.clone(),
                complete: false,
                stored: None,
                origin: None,
            }));
        }
        assert_eq!(sequences(&outbox.next()), [1, 2, 3]);
        assert_eq!(outbox.next(), Next::Fetch(3));
    }

    #[test]
    fn the_other_policies() {
        assert_eq!(sequences(&filled(OverflowPolicy::DropOldest).next()), [30, 40, 50]);
        assert_eq!(filled(OverflowPolicy::Disconnect).next(), Next::End(End::Overflow));
    }

    #[test]
    fn an_event_that_comes_in_two_ways_is_taken_once() {
        let outbox = Outbox::new(3, OverflowPolicy::CatchUp, Counter::default());
        [10, 10, 20, 10, 20].into_iter().for_each(|sequence| outbox.offer(&event(sequence)));
        assert_eq!(sequences(&outbox.next()), [10, 20]);
    }

    #[test]
    fn the_first_reason_to_end_counts_and_comes_before_all_else() {
        let outbox = filled(OverflowPolicy::CatchUp);
        outbox.ping();
        outbox.end(End::Control);
        outbox.end(End::Overflow);
        assert_eq!(outbox.next(), Next::End(End::Control));
    }

    #[test]
    fn a_gap_is_told_in_its_place_and_changes_nothing_else() {
        let outbox = filled(OverflowPolicy::CatchUp);
        (0..5).for_each(|_| outbox.gap(Reset::Expired));
        let Next::Write(items) = outbox.next() else { panic!("nothing to write") };
        assert_eq!((items.len(), items.last()), (4, Some(&Item::Gap(Reset::Expired))));
        assert_eq!(outbox.next(), Next::Fetch(39));
    }

    #[test]
    fn a_reset_voids_what_is_being_fetched() {
        let outbox = Outbox::new(3, OverflowPolicy::CatchUp, Counter::default());
        outbox.fall_behind(7);
        let position = Cursor::new(Epoch(2), 0);
        outbox.reset(Reset::Epoch, position);
        assert!(!outbox.progress(7, 9));
        assert!(!outbox.go_live(7));
        assert_eq!(outbox.next(), Next::Write(vec![Item::Reset(Reset::Epoch, position)]));
        assert_eq!(outbox.next(), Next::Wait);
    }
}
