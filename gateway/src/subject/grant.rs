//! What a credential may publish to: a [`Grant`] is a pattern of subjects below the tenant, such as
//! `user.*`, `topic.orders.>` or `all`. It is spelled as subjects are, since the ids in it are
//! case-sensitive: `user.alice%40example%2Ecom`.

use std::sync::Arc;

use super::{token, topic};

/// A pattern of subjects below a tenant: `*` stands for one level, `>` at the end for one or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant(Arc<str>);

impl Grant {
    /// Reads a pattern as a claim writes it. What is none grants nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let levels = || text.split('.').enumerate();
        let last = levels().count() - 1;
        let level = |(at, level): (usize, &str)| match level {
            "*" => true,
            ">" => at == last,
            // `user` and its like, and one id or one level of a topic.
            level => token::check(level).is_ok(),
        };
        levels().all(level).then(|| Self(text.into()))
    }

    /// As a claim writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lets an event out to this subject below the tenant.
    #[must_use]
    pub fn covers(&self, subject: &str) -> bool {
        topic::fits(&self.0, subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_what_it_says_and_no_more() {
        for (grant, subject, covers) in [
            ("user.alice", "user.alice", true),
            ("user.alice", "user.Alice", false),
            ("user.alice%40example%2Ecom", "user.alice%40example%2Ecom", true),
            ("user.*", "user.bob", true),
            ("user.*", "users", false),
            ("user.*", "user.bob.more", false),
            ("topic.orders.>", "topic.orders.eu.de", true),
            ("topic.orders.>", "topic.orders", false),
            ("topic.*", "topics", false),
            ("all", "all", true),
            ("*", "all", true),
            ("*", "user.bob", false),
            (">", "conn.0123456789abcdef0123456789abcdef", true),
        ] {
            let grant = Grant::parse(grant).expect("a pattern");
            assert_eq!(grant.covers(subject), covers, "{grant:?} {subject}");
        }
    }

    #[test]
    fn what_is_no_pattern_grants_nothing() {
        for text in ["", ".", "user.", ">.user", "user.a b", "user.alice@example.com", "user.%61", "us>r.a"] {
            assert_eq!(Grant::parse(text), None, "{text:?}");
        }
    }
}
