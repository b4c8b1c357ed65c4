//! The hub: takes each event of the feed once, in order, and hands it to whoever listens here.
//!
//! It keeps a [`Ring`] of recent events, so that most clients that come back are served without a
//! read at NATS, and an [`Index`] of who listens to what. A connection is either live (the hub
//! offers it each of its events) or behind (it fetches them at its own pace, from the ring or the
//! log); it becomes live again under the hub's lock, at a known sequence. Start, replay and catching
//! up of a slow client are this one mechanism, so there is one seam to get right.

mod index;
mod ring;
mod topics;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::End;
use crate::connection::outbox::Outbox;
use crate::control::Operation;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Audience, Delivery, Entry, Refusal, Rules};
use crate::subject::{self, ConnectionId, Pattern, Target, Token};
use crate::wire::Reset;

use index::Index;
use ring::Ring;

/// Events of the ring that one client may look at before it lets the hub go on.
const SCAN: usize = 1024;

/// Who a connection is, and what it listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub connection: ConnectionId,
    pub tenant: Token,
    pub user: Token,
    /// Without duplicates.
    pub topics: Vec<Pattern>,
    /// What back ends and claims say of it, for `/status` and spans. No part in delivery.
    pub tags: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub opened: u64,
}

impl Membership {
    /// Whether an event is for this connection. The index answers the same.
    #[must_use]
    pub fn receives(&self, audience: &Audience<'_>) -> bool {
        let tenant = |tenant: &str| self.tenant.as_str() == tenant;
        let subscribed = |topic: &str| self.topics.iter().any(|pattern| pattern.matches(topic));
        match audience.target {
            Target::User { tenant: t, user } => tenant(t) && self.user.as_str() == user,
            Target::Users { tenant: t } => tenant(t) && audience.listed().any(|u| self.user.as_str() == u),
            Target::Topic { tenant: t, topic } => tenant(t) && subscribed(topic),
            Target::Topics { tenant: t } => tenant(t) && audience.listed().any(subscribed),
            Target::Tenant { tenant: t } => tenant(t),
            Target::Connection { tenant: t, id } => tenant(t) && self.connection == id,
            Target::Platform => true,
            Target::System => false,
        }
    }

    /// Subjects on which events for this connection come, and others'. Patterns of topics stand for all
    /// topics of the tenant: `<prefix>.<tenant>.topic`.
    fn subjects(&self, prefix: &str) -> Vec<String> {
        let Self { tenant, user, connection, .. } = self;
        let mut subjects = vec![
            format!("{prefix}.{tenant}.user.{user}"),
            format!("{prefix}.{tenant}.users"),
            format!("{prefix}.{tenant}.all"),
            format!("{prefix}.{tenant}.conn.{connection}"),
            format!("{prefix}.{}.all", subject::PLATFORM),
        ];
        if !self.topics.is_empty() {
            subjects.push(format!("{prefix}.{tenant}.topics"));
        }
        let topics = self.topics.iter().filter(|topic| topic.is_exact());
        subjects.extend(topics.map(|topic| format!("{prefix}.{tenant}.topic.{topic}")));
        if self.topics.iter().any(|topic| !topic.is_exact()) {
            subjects.push(format!("{prefix}.{tenant}.topic"));
        }
        subjects
    }
}

/// Shared by the feed, which pushes, and all connections.
pub struct Hub {
    state: Mutex<State>,
    /// Sequence up to which everything was handed out. Read without the lock.
    head: AtomicU64,
    rules: Rules,
    /// Topics that a connection may be subscribed to.
    most_topics: usize,
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
    pub connection: ConnectionId,
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
    pub fn new(rules: Rules, most_topics: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), head: AtomicU64::new(0), rules, most_topics })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is a bug that ends the process (see main).
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
    ///
    /// # Errors
    ///
    /// When it is no event: nobody gets it, here or elsewhere.
    pub fn push(&self, entry: Arc<Entry>) -> Result<(), Refusal> {
        let sequence = entry.message.sequence;
        let checked = self.rules.check(&entry.message);
        let mut state = self.state();
        let Some(epoch) = state.epoch else { return Ok(()) };
        let refused = checked.err();
        if let Ok(audience) = checked
            && audience.target != Target::System
        {
            // Encoded for its first listener, and for none not at all.
            state.index.each(&audience, |outbox| {
                if let Some(delivery) = entry.delivery(&self.rules, epoch) {
                    outbox.offer(delivery);
                }
            });
            if self.rules.ids {
                state.ring.push(entry, &self.rules.prefix);
            }
        }
        self.advance(&mut state, sequence);
        drop(state);
        match refused {
            None | Some(Refusal::Marker) => Ok(()),
            Some(refusal) => Err(refusal),
        }
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

    /// Something after the hub's head is not in the log any more: open streams are told, and go on.
    pub fn lost(&self) {
        self.state().index.all(|outbox| outbox.gap(Reset::Expired));
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
        let connection = membership.connection;
        state.index.insert(membership, outbox.clone());
        Some((Registration { hub: self.clone(), connection, outbox }, standing))
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
        let Some(member) = state.index.member(self.connection) else { return Resume::Nothing };
        let subjects = member.membership.subjects(&self.hub.rules.prefix);
        let Some(found) = state.ring.on(subjects.iter().map(String::as_str), after) else {
            return Resume::Log { upto: state.ring.from().saturating_sub(1).min(state.head) };
        };
        let mut events = Vec::new();
        let mut position = after;
        for (looked_at, entry) in found.enumerate() {
            if looked_at >= SCAN || events.len() >= self.outbox.capacity() {
                self.outbox.progress(after, position);
                return Resume::More { events, position };
            }
            position = entry.message.sequence;
            events.extend(self.hub.delivery(&member.membership, entry, epoch));
        }
        self.outbox.go_live(after);
        Resume::Live { events, position: state.head }
    }

    /// Gives up on what was missed and goes live; returns the new position.
    #[must_use]
    pub fn skip_to_live(&self, after: u64) -> Option<Cursor> {
        let state = self.hub.state();
        self.outbox.go_live(after);
        state.epoch.map(|epoch| Cursor::new(epoch, state.head))
    }

    /// What the connection listens to now, to look its events up elsewhere; `None` before the log was
    /// reached.
    #[must_use]
    pub fn listener(&self) -> Option<Listener> {
        let state = self.hub.state();
        let member = state.index.member(self.connection)?;
        let subjects = member.membership.subjects(&self.hub.rules.prefix);
        let membership = member.membership.clone();
        Some(Listener { hub: self.hub.clone(), membership, subjects, epoch: state.epoch? })
    }
}

/// What a connection listens to, at one moment.
pub struct Listener {
    hub: Arc<Hub>,
    membership: Arc<Membership>,
    subjects: Vec<String>,
    epoch: Epoch,
}

impl Listener {
    /// Subjects on which its events come, and others'; `<prefix>.<tenant>.topic` for all topics.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().map(String::as_str)
    }

    /// The same, as NATS filters them.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        let family = format!("{}.{}.topic", self.hub.rules.prefix, self.membership.tenant);
        let filter = |subject: &str| {
            if subject == family { format!("{subject}.>") } else { subject.to_owned() }
        };
        self.subjects().map(filter).collect()
    }

    /// The event, if it is for this connection.
    #[must_use]
    pub fn delivery(&self, entry: &Arc<Entry>) -> Option<Arc<Delivery>> {
        self.hub.delivery(&self.membership, entry, self.epoch)
    }
}

impl Hub {
    fn delivery(&self, membership: &Membership, entry: &Arc<Entry>, epoch: Epoch) -> Option<Arc<Delivery>> {
        let audience = self.rules.audience(&entry.message).ok()?;
        if !membership.receives(&audience) {
            return None;
        }
        entry.delivery(&self.rules, epoch).cloned()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.state().index.remove(self.connection);
    }
}

#[cfg(test)]
mod tests;
