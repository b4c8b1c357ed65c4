//! The hub: takes each event of the feed once, in order, and hands it to whoever listens here.
//!
//! It keeps a [`Ring`] of recent events, so that most clients that come back are served without a
//! read at NATS, and an [`Index`] of who listens to what. A connection is either live (the hub
//! offers it each of its events) or behind (it fetches them at its own pace, from the ring or the
//! log); it becomes live again under the hub's lock, at a known sequence. Start, replay and catching
//! up of a slow client are this one mechanism, so there is one seam to get right.

mod index;
mod membership;
mod registration;
mod ring;
mod topics;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::End;
use crate::connection::outbox::Outbox;
use crate::control::Operation;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Entry, Refusal, Rules};
use crate::subject::{ConnectionId, Target};
use crate::wire::Reset;

use index::Index;
pub use membership::Membership;
pub use registration::{Listener, Registration, Resume};
use ring::Ring;

/// Receivers of one event for which memory is kept.
const MOST_KEPT: usize = 65_536;
/// Streams that are looked at for one that can go.
const LOOKED_AT: usize = 16;

/// Shared by the feed, which pushes, and all connections.
pub struct Hub {
    state: Mutex<State>,
    /// Sequence up to which everything was handed out. Read without the lock.
    head: AtomicU64,
    /// Sequence up to which everything was taken, and is handed out at the latest with [`Hub::uncork`].
    taken: AtomicU64,
    /// Held while an event is handed out, so that they are handed out in order.
    handing: Mutex<Handing>,
    rules: Rules,
    /// Topics that a connection may be subscribed to.
    most_topics: usize,
}

#[derive(Default)]
struct Handing {
    /// Who gets the present event.
    receivers: Vec<Arc<Outbox>>,
    /// Whether events wait for those that follow at once.
    corked: bool,
    /// Those for whom events wait.
    waiting: Vec<Arc<Outbox>>,
}

#[derive(Default)]
struct State {
    /// `None` until the log was reached for the first time.
    epoch: Option<Epoch>,
    /// Sequence up to which everything is in the ring, and was handed out or is about to be.
    head: u64,
    ring: Ring,
    index: Index,
}

/// Where a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No cursor: with the next event.
    Now,
    /// After this cursor.
    After(Cursor),
    /// The cursor was none: `reset`, then live.
    Invalid,
}

/// Whom a history service is asked for, before anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Clients whose cursor is not of this log.
    pub strangers: bool,
    /// Clients without a cursor.
    pub first: bool,
}

/// Where a registered connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub position: Cursor,
    /// What the client must be told before anything else.
    pub reset: Option<Reset>,
    /// History is asked first: nothing of this is told before its answer. The connection waits behind.
    pub history: bool,
}

impl Hub {
    #[must_use]
    pub fn new(rules: Rules, most_topics: usize) -> Arc<Self> {
        let (head, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        let (state, handing) = (Mutex::default(), Mutex::default());
        Arc::new(Self { state, head, taken, handing, rules, most_topics })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is a bug that ends the process (see main).
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What makes a message an event.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Sequence up to which each event was handed to all its listeners.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Sequence of the last message that was taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    fn handing(&self) -> MutexGuard<'_, Handing> {
        self.handing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More events follow at once: what a connection gets of them shall go out in one write. Until
    /// [`uncork`](Self::uncork), which must not be long in coming.
    pub fn cork(&self) {
        self.handing().corked = true;
    }

    /// Hands out what waits.
    pub fn uncork(&self) {
        let mut handing = self.handing();
        handing.corked = false;
        handing.waiting.drain(..).for_each(|outbox| outbox.flush());
        handing.waiting.shrink_to(MOST_KEPT);
        self.head.store(self.taken(), Ordering::Release);
    }

    /// The life of the log that the hub is in; `None` before it was reached.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.state().epoch
    }

    /// Takes the next message of the log. The receivers are found under the lock, and written to without it:
    /// others register and resume meanwhile.
    ///
    /// # Errors
    ///
    /// When it is no event: nobody gets it, here or elsewhere.
    pub fn push(&self, entry: &Arc<Entry>) -> Result<(), Refusal> {
        let mut handing = self.handing();
        let Handing { receivers, corked, waiting } = &mut *handing;
        let sequence = entry.message.sequence;
        let checked = self.rules.check(&entry.message);
        let mut state = self.state();
        let Some(epoch) = state.epoch else { return Ok(()) };
        state.head = sequence;
        let checked = match checked {
            Ok(checked) if checked.audience.target != Target::System => checked,
            other => {
                drop(state);
                self.took(sequence, *corked);
                return other.map(drop).or_else(|refusal| match refusal {
                    Refusal::Marker => Ok(()),
                    refusal => Err(refusal),
                });
            }
        };
        state.index.each(&checked.audience, |outbox| receivers.push(outbox.clone()));
        if self.rules.ids {
            state.ring.push(entry.clone(), &self.rules.prefix);
        }
        drop(state);
        // As they lie in memory, which is about the order in which they came, and in which the kernel has them: to write to
        // thousands in the order of a hash takes a tenth longer, because each is somewhere else.
        receivers.sort_unstable_by_key(|outbox| Arc::as_ptr(outbox).addr());
        // Encoded for its first listener, and for none not at all.
        if !receivers.is_empty()
            && let Some(delivery) = entry.delivery_of(&checked, epoch)
        {
            let held = receivers.drain(..).filter(|outbox| outbox.offer(delivery, *corked));
            waiting.extend(held);
        }
        receivers.clear();
        receivers.shrink_to(MOST_KEPT);
        self.took(sequence, *corked);
        Ok(())
    }

    /// Passes over sequences that the log does not have (deleted, or expired by their own TTL).
    pub fn skip_to(&self, sequence: u64) {
        self.uncork();
        let mut state = self.state();
        if sequence > state.head {
            self.advance(&mut state, sequence);
        }
    }

    fn advance(&self, state: &mut State, head: u64) {
        state.head = head;
        self.took(head, false);
    }

    fn took(&self, sequence: u64, corked: bool) {
        self.taken.store(sequence, Ordering::Release);
        if !corked {
            self.head.store(sequence, Ordering::Release);
        }
    }

    /// Begins at a place in a log: the first one, or one that was made anew. In the latter case open
    /// streams are told.
    pub fn begin(&self, epoch: Epoch, head: u64) {
        self.uncork();
        let mut state = self.state();
        let renewed = state.epoch.is_some();
        state.epoch = Some(epoch);
        state.ring.clear(head);
        self.advance(&mut state, head);
        if renewed {
            let position = Cursor::new(epoch, head);
            state.index.all(|outbox| outbox.reset(Reset::Epoch, position));
        }
    }

    /// The log was trimmed before it could be read: open streams are told, and go on at `first`.
    pub fn trimmed(&self, first: u64) {
        self.uncork();
        let mut state = self.state();
        let Some(epoch) = state.epoch else { return };
        let head = first.saturating_sub(1);
        state.ring.clear(head);
        self.advance(&mut state, head);
        let position = Cursor::new(epoch, head);
        state.index.all(|outbox| outbox.reset(Reset::Expired, position));
    }

    /// Something after the hub's head is not in the log any more: open streams are told, and go on.
    pub fn lost(&self) {
        self.uncork();
        self.state().index.all(|outbox| outbox.gap(Reset::Expired));
    }

    /// Registers a connection. `None` before the log was reached.
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        membership: Membership,
        outbox: Arc<Outbox>,
        start: Start,
        asks: Asks,
    ) -> Option<(Registration, Standing)> {
        let mut state = self.state();
        let epoch = state.epoch?;
        let now = Cursor::new(epoch, state.head);
        let (position, reset, history) = match start {
            Start::Now => (now, None, asks.first),
            Start::Invalid => (now, Some(Reset::Invalid), asks.strangers),
            // It may be ahead of this pod, whose feed is a moment behind another's.
            Start::After(cursor) if cursor.epoch == epoch => {
                (Cursor::new(epoch, cursor.sequence), None, false)
            }
            Start::After(_) => (now, Some(Reset::Epoch), asks.strangers),
        };
        let standing = Standing { position, reset, history };
        if history || position != now {
            outbox.fall_behind(standing.position.sequence);
        }
        let connection = membership.connection;
        state.index.insert(membership, outbox.clone());
        Some((Registration { hub: self.clone(), connection, outbox }, standing))
    }

    /// Makes every stream look at what the pod wants.
    pub fn nudge(&self) {
        self.state().index.all(|outbox| outbox.nudge());
    }

    /// Ends so many streams, each at its client's cost of one reconnection: any of those that were opened before that
    /// time and for which nothing waits. Answers how many it were.
    pub fn let_go(&self, count: u32, opened_before: u64) -> u32 {
        let state = self.state();
        // Ids are random, and so is who comes after one of them. Not all are looked at: others wait for the lock.
        let after = state.index.after(Some(ConnectionId::random())).chain(state.index.after(None));
        let looked_at = state.index.len().min(count as usize * LOOKED_AT);
        let old = after.take(looked_at).filter(|member| member.membership.opened < opened_before);
        let gone = old.filter(|member| member.outbox.let_go()).take(count as usize).count();
        u32::try_from(gone).unwrap_or(count)
    }

    /// Does what a back end asks for, to the connections that it names. Answers how many there are here.
    /// A topic more than a connection may have is not joined.
    pub fn control(&self, target: &Target<'_>, operation: &Operation) -> usize {
        let mut state = self.state();
        let ids = state.index.ids(target);
        for id in &ids {
            match operation {
                Operation::Join { topics } => {
                    topics.iter().for_each(|topic| state.index.join(*id, topic, self.most_topics));
                }
                Operation::Leave { topics } => topics.iter().for_each(|topic| state.index.leave(*id, topic)),
                Operation::Tag { tags } => state.index.tag(*id, tags),
                Operation::Disconnect { .. } => {
                    state.index.member(*id).into_iter().for_each(|member| member.outbox.end(End::Control));
                }
                Operation::Ping => {
                    state.index.member(*id).into_iter().for_each(|member| member.outbox.ping());
                }
            }
        }
        ids.len()
    }

    /// Connections that are registered.
    #[must_use]
    pub fn members(&self) -> usize {
        self.state().index.len()
    }

    /// A page of the connections, in the order of their ids.
    #[must_use]
    pub fn page(&self, after: Option<ConnectionId>, size: usize) -> Vec<Arc<Membership>> {
        let state = self.state();
        state.index.after(after).take(size).map(|member| member.membership.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
