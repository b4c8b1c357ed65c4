//! The hub: takes each event of the feed once, in order, and hands it to whoever listens here.
//!
//! It keeps a [`Ring`] of recent events, so that most clients that come back are served without a
//! read at NATS, and an [`Index`] of who listens to what. A connection is either live (the hub
//! offers it each of its events) or behind (it fetches them at its own pace, from the ring or the
//! log); it becomes live again under the hub's lock, at a known sequence. Start, replay and catching
//! up of a slow client are this one mechanism, so there is one seam to get right.

mod index;
mod ring;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::outbox::Outbox;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Delivery, Entry, Rules};
use crate::subject::{self, Target, Token};
use crate::wire::Reset;

use index::Index;
use ring::Ring;

/// Entries of the ring that one client may look through before it lets the hub go on.
const SCAN: usize = 1024;

/// Who a connection is, as far as delivery goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub tenant: Token,
    pub user: Token,
}

impl Membership {
    /// Whether an event for `target` is for this connection. The index answers the same.
    #[must_use]
    pub fn receives(&self, target: &Target<'_>) -> bool {
        match target {
            Target::User { tenant, user } => self.tenant.as_str() == *tenant && self.user.as_str() == *user,
            Target::Tenant { tenant } => self.tenant.as_str() == *tenant,
            Target::System => false,
        }
    }
}

/// Shared by the feed, which pushes, and all connections.
pub struct Hub {
    state: Mutex<State>,
    /// Sequence up to which everything was handed out. Read without the lock.
    head: AtomicU64,
    prefix: String,
    rules: Rules,
}

#[derive(Default)]
struct State {
    /// `None` until the log was reached for the first time.
    epoch: Option<Epoch>,
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

/// A connection in the hub; leaves it when dropped.
pub struct Registration {
    hub: Arc<Hub>,
    key: u64,
    membership: Membership,
    pub outbox: Arc<Outbox>,
}

/// Where a registered connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub position: Cursor,
    /// What the client must be told before anything else.
    pub reset: Option<Reset>,
}

/// What a connection that is behind does next.
pub enum Resume {
    /// It is live again; these are the last events before.
    Live { events: Vec<Arc<Delivery>>, position: u64 },
    /// There is more in the ring.
    More { events: Vec<Arc<Delivery>>, position: u64 },
    /// The ring does not reach back: read the log, up to this sequence.
    Log { upto: u64 },
    /// The client saw more than this pod has yet: wait for the feed.
    Ahead,
    /// It was live already, or the log became another one meanwhile.
    Nothing,
}

impl Hub {
    #[must_use]
    pub fn new(prefix: String, rules: Rules) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), head: AtomicU64::new(0), prefix, rules })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is a bug that aborts the process (release profile).
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sequence up to which each event was handed to all its listeners.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The life of the log that the hub is in; `None` before it was reached.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.state().epoch
    }

    /// Takes the next message of the log.
    pub fn push(&self, entry: Arc<Entry>) {
        let mut state = self.state();
        let Some(epoch) = state.epoch else { return };
        let sequence = entry.message.sequence;
        if let Ok(target) = subject::target(&self.prefix, &entry.message.subject) {
            state.index.each(&target, |outbox| {
                // Decoded for its first listener, and for none not at all.
                if let Some(delivery) = entry.delivery(&self.rules, epoch) {
                    outbox.offer(delivery);
                }
            });
        }
        state.ring.push(entry);
        self.advance(&mut state, sequence);
    }

    /// Passes over sequences that the log does not have (deleted, or expired by their own TTL).
    pub fn skip_to(&self, sequence: u64) {
        let mut state = self.state();
        if sequence > state.head {
            self.advance(&mut state, sequence);
        }
    }

    fn advance(&self, state: &mut State, head: u64) {
        state.head = head;
        self.head.store(head, Ordering::Release);
    }

    /// Begins at a place in a log: the first one, or one that was made anew. In the latter case open
    /// streams are told.
    pub fn begin(&self, epoch: Epoch, head: u64) {
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
        let mut state = self.state();
        let Some(epoch) = state.epoch else { return };
        let head = first.saturating_sub(1);
        state.ring.clear(head);
        self.advance(&mut state, head);
        let position = Cursor::new(epoch, head);
        state.index.all(|outbox| outbox.reset(Reset::Expired, position));
    }

    /// Registers a connection. `None` before the log was reached.
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        membership: Membership,
        outbox: Arc<Outbox>,
        start: Start,
    ) -> Option<(Registration, Standing)> {
        let mut state = self.state();
        let epoch = state.epoch?;
        let now = Cursor::new(epoch, state.head);
        let standing = match start {
            Start::Now => Standing { position: now, reset: None },
            Start::Invalid => Standing { position: now, reset: Some(Reset::Invalid) },
            // It may be ahead of this pod, whose feed is a moment behind another's.
            Start::After(cursor) if cursor.epoch == epoch => {
                Standing { position: Cursor::new(epoch, cursor.sequence), reset: None }
            }
            Start::After(_) => Standing { position: now, reset: Some(Reset::Epoch) },
        };
        if standing.position != now {
            outbox.fall_behind(standing.position.sequence);
        }
        let key = state.index.insert(&membership, outbox.clone());
        Some((Registration { hub: self.clone(), key, membership, outbox }, standing))
    }
}

impl Registration {
    /// The next step of a connection that is behind `after`.
    #[must_use]
    pub fn resume(&self, after: u64) -> Resume {
        let state = self.hub.state();
        let Some(epoch) = state.epoch else { return Resume::Nothing };
        if !self.outbox.is_behind(after) {
            return Resume::Nothing;
        }
        if after > state.head {
            return Resume::Ahead;
        }
        let Some(entries) = state.ring.after(after) else {
            return Resume::Log { upto: state.ring.from().saturating_sub(1).min(state.head) };
        };
        let mut events = Vec::new();
        let mut position = after;
        for entry in entries.take(SCAN) {
            position = entry.message.sequence;
            events.extend(self.delivery(entry, epoch));
            if events.len() >= self.outbox.capacity() {
                break;
            }
        }
        let more = state.ring.last().is_some_and(|last| last > position);
        if more {
            self.outbox.progress(after, position);
            Resume::More { events, position }
        } else {
            self.outbox.go_live(after);
            Resume::Live { events, position: state.head }
        }
    }

    /// Gives up on what was missed and goes live; returns the new position.
    #[must_use]
    pub fn skip_to_live(&self, after: u64) -> Option<Cursor> {
        let state = self.hub.state();
        self.outbox.go_live(after);
        state.epoch.map(|epoch| Cursor::new(epoch, state.head))
    }

    /// The events of a page of the log that are for this connection, after `after`.
    #[must_use]
    pub fn select(&self, entries: &[Arc<Entry>], after: u64) -> Vec<Arc<Delivery>> {
        let Some(epoch) = self.hub.epoch() else { return Vec::new() };
        let later = entries.iter().filter(|entry| entry.message.sequence > after);
        later.filter_map(|entry| self.delivery(entry, epoch)).collect()
    }

    fn delivery(&self, entry: &Arc<Entry>, epoch: Epoch) -> Option<Arc<Delivery>> {
        let target = subject::target(&self.hub.prefix, &entry.message.subject).ok()?;
        if !self.membership.receives(&target) {
            return None;
        }
        entry.delivery(&self.hub.rules, epoch).cloned()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.state().index.remove(&self.membership, self.key);
    }
}

#[cfg(test)]
mod tests;
