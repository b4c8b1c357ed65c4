//! A connection in the hub: its way from behind to live, and out.

use std::sync::Arc;

use super::{Hub, Membership};
use crate::connection::outbox::Outbox;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Delivery, Entry};
use crate::nats::log::Listens;
use crate::postings::Key;
use crate::subject::ConnectionId;

/// Events of the ring that one client may look at before it lets the hub go on.
const SCAN: usize = 1024;

/// A connection in the hub; leaves it when dropped.
pub struct Registration {
    pub(super) hub: Arc<Hub>,
    pub connection: ConnectionId,
    pub outbox: Arc<Outbox>,
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
        if after + 1 < state.ring.from() {
            return Resume::Log { upto: state.ring.from().saturating_sub(1).min(state.head) };
        }
        let Some(member) = state.index.member(self.connection) else { return Resume::Nothing };
        let subjects = member.membership.subjects(&self.hub.rules.prefix);
        let Some(found) = state.ring.on(&subjects, after) else {
            return Resume::Log { upto: state.ring.from().saturating_sub(1).min(state.head) };
        };
        let most = SCAN.min(self.outbox.capacity());
        let mut entries: Vec<Arc<Entry>> = found.take(most + 1).cloned().collect();
        let (is_all, membership, head) = (entries.len() <= most, member.membership.clone(), state.head);
        entries.truncate(most);
        let position = entries.last().filter(|_| !is_all).map_or(head, |last| last.message.sequence);
        if is_all {
            self.outbox.go_live(after, position);
        } else {
            self.outbox.progress(after, position);
        }
        // Frames that nobody has had yet are not made under the lock of all.
        drop(state);
        let events =
            entries.iter().filter_map(|entry| self.hub.delivery(&membership, entry, epoch)).collect();
        if is_all { Resume::Live { events, position } } else { Resume::More { events, position } }
    }

    /// Gives up on what was missed and goes live; returns the new position. `None` when a reset came between, which
    /// tells it.
    #[must_use]
    pub fn skip_to_live(&self, after: u64) -> Option<Cursor> {
        let state = self.hub.state();
        let epoch = state.epoch.filter(|_| self.outbox.go_live(after, state.head))?;
        Some(Cursor::new(epoch, state.head))
    }

    /// Gives up on a place that the log does not reach to, and stays behind at the hub's; returns that.
    #[must_use]
    pub fn restart(&self, after: u64) -> Option<Cursor> {
        let state = self.hub.state();
        let position = Cursor::new(state.epoch?, state.head);
        self.outbox.progress(after, position.sequence).then_some(position)
    }

    /// Who it is, and what it is subscribed to now.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<Membership>> {
        self.hub.state().index.member(self.connection).map(|member| member.membership.clone())
    }

    /// What the connection listens to now, to look its events up elsewhere; `None` before the log was
    /// reached. `known` is what it listened to before, which seldom changes.
    #[must_use]
    pub fn listener(&self, known: Option<Arc<Listener>>) -> Option<Arc<Listener>> {
        let (membership, epoch) = {
            let state = self.hub.state();
            (state.index.member(self.connection)?.membership.clone(), state.epoch?)
        };
        if let Some(known) = known
            && Arc::ptr_eq(&known.membership, &membership)
            && known.epoch == epoch
        {
            return Some(known);
        }
        let subjects = membership.subjects(&self.hub.rules.prefix);
        Some(Arc::new(Listener { hub: self.hub.clone(), membership, subjects, epoch }))
    }
}

/// What a connection listens to, at one moment.
pub struct Listener {
    hub: Arc<Hub>,
    membership: Arc<Membership>,
    subjects: Vec<Key>,
    epoch: Epoch,
}

impl Listener {
    /// What it listens to, as NATS filters it.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        let family = format!("{}.{}.topic", self.hub.rules.prefix, self.membership.tenant);
        let filter = |subject: &str| {
            if subject == family { format!("{subject}.>") } else { subject.to_owned() }
        };
        self.subjects.iter().map(Key::as_str).map(filter).collect()
    }
}

impl Listens for Listener {
    fn subjects(&self) -> &[Key] {
        &self.subjects
    }

    fn delivery(&self, entry: &Arc<Entry>) -> Option<Arc<Delivery>> {
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
