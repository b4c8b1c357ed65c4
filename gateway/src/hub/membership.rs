//! What one connection listens to.

use std::collections::BTreeMap;

use crate::event::Audience;
use crate::postings::Key;
use crate::subject::{self, ConnectionId, Pattern, Target, Token};

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
    pub(super) fn subjects(&self, prefix: &str) -> Vec<Key> {
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
        subjects.into_iter().map(Key::from).collect()
    }
}
