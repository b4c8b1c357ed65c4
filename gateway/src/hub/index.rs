//! Who listens to what: an event finds its receivers without looking at anybody else.

use std::collections::HashMap;
use std::sync::Arc;

use super::Membership;
use crate::connection::outbox::Outbox;
use crate::subject::{Target, Token};

/// The connections of a tenant, by user, each with its key.
type Users = HashMap<Token, Vec<(u64, Arc<Outbox>)>>;

#[derive(Default)]
pub struct Index {
    next_key: u64,
    tenants: HashMap<Token, Users>,
}

impl Index {
    /// Adds a connection; the key takes it out again.
    pub fn insert(&mut self, membership: &Membership, outbox: Arc<Outbox>) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let users = self.tenants.entry(membership.tenant.clone()).or_default();
        users.entry(membership.user.clone()).or_default().push((key, outbox));
        key
    }

    /// Takes a connection out, and what it leaves empty with it.
    pub fn remove(&mut self, membership: &Membership, key: u64) {
        let Some(users) = self.tenants.get_mut(&membership.tenant) else { return };
        if let Some(connections) = users.get_mut(&membership.user) {
            connections.retain(|(other, _)| *other != key);
            if connections.is_empty() {
                users.remove(&membership.user);
            }
        }
        if users.is_empty() {
            self.tenants.remove(&membership.tenant);
        }
    }

    /// Calls `offer` for each connection that an event for `target` reaches.
    pub fn each(&self, target: &Target<'_>, mut offer: impl FnMut(&Outbox)) {
        match target {
            Target::User { tenant, user } => {
                let connections = self.tenants.get(*tenant).and_then(|users| users.get(*user));
                connections.into_iter().flatten().for_each(|(_, outbox)| offer(outbox));
            }
            Target::Tenant { tenant } => {
                let users = self.tenants.get(*tenant).into_iter().flatten();
                users.flat_map(|(_, connections)| connections).for_each(|(_, outbox)| offer(outbox));
            }
            Target::System => {}
        }
    }

    /// Calls `tell` for every connection.
    pub fn all(&self, mut tell: impl FnMut(&Outbox)) {
        let connections = self.tenants.values().flatten().flat_map(|(_, connections)| connections);
        connections.for_each(|(_, outbox)| tell(outbox));
    }

    /// Whether nothing is left behind.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}
