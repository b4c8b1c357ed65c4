//! Who listens to what: an event finds its receivers without looking at anybody else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Membership;
use super::topics::Topics;
use crate::connection::outbox::Outbox;
use crate::event::Audience;
use crate::subject::{ConnectionId, Pattern, Target, Token};

/// Most tags of a connection.
const MAX_TAGS: usize = 64;

/// One connection in the index.
#[derive(Clone)]
pub struct Member {
    pub membership: Arc<Membership>,
    pub outbox: Arc<Outbox>,
}

#[derive(Default)]
pub struct Index {
    /// By id, so that pages of them have an order.
    members: BTreeMap<ConnectionId, Member>,
    tenants: HashMap<Token, Tenant, RandomState>,
}

/// The connections of a tenant, by what they listen to.
#[derive(Default)]
struct Tenant {
    users: HashMap<Token, Vec<Place>, RandomState>,
    topics: Topics<ConnectionId, Arc<Outbox>>,
}

/// A receiver, and the id that takes it out again.
type Place = (ConnectionId, Arc<Outbox>);

impl Index {
    /// Adds a connection. Its id is random: there is no other with it.
    pub fn insert(&mut self, membership: Membership, outbox: Arc<Outbox>) {
        let id = membership.connection;
        let tenant = self.tenants.entry(membership.tenant.clone()).or_default();
        tenant.users.entry(membership.user.clone()).or_default().push((id, outbox.clone()));
        for topic in &membership.topics {
            tenant.topics.insert(topic, id, outbox.clone());
        }
        self.members.insert(id, Member { membership: Arc::new(membership), outbox });
    }

    /// Takes a connection out, and what it leaves empty with it.
    pub fn remove(&mut self, id: ConnectionId) {
        let Some(Member { membership, .. }) = self.members.remove(&id) else { return };
        let Some(tenant) = self.tenants.get_mut(&membership.tenant) else { return };
        if let Some(places) = tenant.users.get_mut(&membership.user) {
            places.retain(|(other, _)| *other != id);
            if places.is_empty() {
                tenant.users.remove(&membership.user);
            }
        }
        membership.topics.iter().for_each(|topic| tenant.topics.remove(topic, &id));
        if tenant.users.is_empty() {
            self.tenants.remove(&membership.tenant);
        }
    }

    /// What a connection listens to.
    pub fn member(&self, id: ConnectionId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Connections after this one, in the order of their ids.
    pub fn after(&self, id: Option<ConnectionId>) -> impl Iterator<Item = &Member> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = id.map_or(Unbounded, Excluded);
        self.members.range((from, Unbounded)).map(|(_, member)| member)
    }

    /// Subscribes a connection to one more topic, if it has fewer than `most`.
    pub fn join(&mut self, id: ConnectionId, topic: &Pattern, most: usize) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let topics = &member.membership.topics;
        if topics.len() >= most || topics.contains(topic) {
            return;
        }
        if let Some(tenant) = self.tenants.get_mut(&member.membership.tenant) {
            tenant.topics.insert(topic, id, member.outbox.clone());
            Arc::make_mut(&mut member.membership).topics.push(topic.clone());
        }
    }

    /// Unsubscribes a connection.
    pub fn leave(&mut self, id: ConnectionId, topic: &Pattern) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !member.membership.topics.contains(topic) {
            return;
        }
        if let Some(tenant) = self.tenants.get_mut(&member.membership.tenant) {
            tenant.topics.remove(topic, &id);
            Arc::make_mut(&mut member.membership).topics.retain(|other| other != topic);
        }
    }

    /// Sets, or with `None` takes away, tags of a connection. It has at most [`MAX_TAGS`].
    pub fn tag(&mut self, id: ConnectionId, tags: &BTreeMap<String, Option<String>>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let own = &mut Arc::make_mut(&mut member.membership).tags;
        for (name, value) in tags {
            match value {
                Some(value) if own.len() < MAX_TAGS || own.contains_key(name) => {
                    own.insert(name.clone(), value.clone());
                }
                Some(_) => {}
                None => {
                    own.remove(name);
                }
            }
        }
    }

    /// Calls `offer` for each connection that an event reaches; for one that is reached in several
    /// ways more than once.
    pub fn each(&self, audience: &Audience<'_>, mut offer: impl FnMut(&Arc<Outbox>)) {
        match audience.target {
            Target::User { tenant, user } => {
                let places = self.tenants.get(tenant).and_then(|tenant| tenant.users.get(user));
                places.into_iter().flatten().for_each(|(_, outbox)| offer(outbox));
            }
            Target::Users { tenant } => {
                let Some(tenant) = self.tenants.get(tenant) else { return };
                let places = audience.listed().filter_map(|user| tenant.users.get(user));
                places.flatten().for_each(|(_, outbox)| offer(outbox));
            }
            Target::Topic { tenant, topic } => {
                let Some(tenant) = self.tenants.get(tenant) else { return };
                tenant.topics.each(topic, &mut offer);
            }
            Target::Topics { tenant } => {
                let Some(tenant) = self.tenants.get(tenant) else { return };
                audience.listed().for_each(|topic| tenant.topics.each(topic, &mut offer));
            }
            Target::Tenant { tenant } => {
                let Some(tenant) = self.tenants.get(tenant) else { return };
                tenant.users.values().flatten().for_each(|(_, outbox)| offer(outbox));
            }
            Target::Connection { tenant, id } => {
                let member = self.members.get(&id).filter(|m| m.membership.tenant.as_str() == tenant);
                member.into_iter().for_each(|member| offer(&member.outbox));
            }
            Target::Platform => self.all(offer),
            Target::System => {}
        }
    }

    /// Ids of the connections that a control operation is for.
    pub fn ids(&self, target: &Target<'_>) -> Vec<ConnectionId> {
        let ids = |places: &Vec<Place>| places.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        match target {
            Target::User { tenant, user } => self
                .tenants
                .get(*tenant)
                .and_then(|tenant| tenant.users.get(*user))
                .map_or_else(Vec::new, ids),
            Target::Tenant { tenant } => {
                let users = self.tenants.get(*tenant).map(|tenant| tenant.users.values());
                users.into_iter().flatten().flat_map(ids).collect()
            }
            Target::Connection { tenant, id } => {
                let member = self.members.get(id).filter(|m| m.membership.tenant.as_str() == *tenant);
                member.map(|_| *id).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Calls `tell` for every connection.
    pub fn all(&self, mut tell: impl FnMut(&Arc<Outbox>)) {
        self.members.values().for_each(|member| tell(&member.outbox));
    }

    /// Connections.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing is left behind.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.members.is_empty()
    }
}
