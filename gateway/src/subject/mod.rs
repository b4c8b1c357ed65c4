//! Subjects: who an event is for. Two spellings of one receiver would let live delivery and replay
//! disagree, so only the canonical one counts.

pub mod grant;
pub mod token;
pub mod topic;

pub use grant::Grant;
pub use token::{MAX_TOKEN, Token, TokenError};
pub use topic::{Pattern, TopicError};

/// The tenant of events for everyone.
pub const PLATFORM: &str = "_platform";
/// The tenant of the gateways' own marks.
const SYSTEM: &str = "_sys";

/// Who an event is for, as its subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `<tenant>.user.<user>`: every connection of a user.
    User { tenant: &'a str, user: &'a str },
    /// `<tenant>.users`: every connection of the users that a header names.
    Users { tenant: &'a str },
    /// `<tenant>.topic.<topic>`: every connection that is subscribed to the topic.
    Topic { tenant: &'a str, topic: &'a str },
    /// `<tenant>.topics`: every connection that is subscribed to one of those that a header names.
    Topics { tenant: &'a str },
    /// `<tenant>.all`: every connection of a tenant.
    Tenant { tenant: &'a str },
    /// `<tenant>.conn.<id>`: one connection.
    Connection { tenant: &'a str, id: ConnectionId },
    /// `_platform.all`: every connection.
    Platform,
    /// `_sys.<pod>`: nobody. The gateways' own marks in the log.
    System,
}

/// Names one connection: random, chosen by the gateway, 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u128);

impl ConnectionId {
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for ConnectionId {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 32 || !text.bytes().all(hex) {
            return Err(SubjectError::Connection);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| SubjectError::Connection)
    }
}

/// Why a subject names no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error("the subject does not begin with the gateway's prefix")]
    Prefix,
    #[error("the tenant {0}")]
    Tenant(TokenError),
    #[error("a tenant may not begin with '_'")]
    ReservedTenant,
    #[error("the user {0}")]
    User(TokenError),
    #[error("the topic {0}")]
    Topic(TopicError),
    #[error("a connection id is 32 digits of 0-9 a-f")]
    Connection,
    #[error("the subject names no target: user, users, topic, topics, conn or all")]
    Unknown,
}

/// Reads a subject below `prefix`.
///
/// # Errors
///
/// When the subject names no target, or not in the canonical spelling.
pub fn target<'a>(prefix: &str, subject: &'a str) -> Result<Target<'a>, SubjectError> {
    let (tenant, rest) = below(prefix, subject).ok_or(SubjectError::Prefix)?;
    match tenant {
        SYSTEM => return Ok(Target::System),
        PLATFORM if rest == "all" => return Ok(Target::Platform),
        PLATFORM => return Err(SubjectError::Unknown),
        _ if tenant.starts_with('_') => return Err(SubjectError::ReservedTenant),
        _ => token::check(tenant).map_err(SubjectError::Tenant)?,
    }
    match rest.split_once('.') {
        Some(("user", user)) => {
            token::check(user).map_err(SubjectError::User)?;
            Ok(Target::User { tenant, user })
        }
        Some(("topic", topic)) => {
            topic::check(topic).map_err(SubjectError::Topic)?;
            Ok(Target::Topic { tenant, topic })
        }
        Some(("conn", id)) => Ok(Target::Connection { tenant, id: id.parse()? }),
        None if rest == "all" => Ok(Target::Tenant { tenant }),
        None if rest == "users" => Ok(Target::Users { tenant }),
        None if rest == "topics" => Ok(Target::Topics { tenant }),
        _ => Err(SubjectError::Unknown),
    }
}

/// The first token below a prefix, as it stands, and what follows it.
#[must_use]
pub fn below<'a>(prefix: &str, subject: &'a str) -> Option<(&'a str, &'a str)> {
    let rest = subject.strip_prefix(prefix)?.strip_prefix('.')?;
    Some(rest.split_once('.').unwrap_or((rest, "")))
}

/// The items of a header that lists receivers: separated by commas, with or without blanks.
pub fn listed(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(|item| item.trim_matches([' ', '\t']))
}

/// Checks the users that a header names.
///
/// # Errors
///
/// When one is not in the canonical spelling.
pub fn check_users(header: &str) -> Result<(), SubjectError> {
    listed(header).try_for_each(|user| token::check(user).map_err(SubjectError::User))
}

/// Checks the topics that a header names.
///
/// # Errors
///
/// When one is not in the canonical spelling.
pub fn check_topics(header: &str) -> Result<(), SubjectError> {
    listed(header).try_for_each(|topic| topic::check(topic).map_err(SubjectError::Topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets() {
        let tenant = "acme";
        let id = "0123456789abcdef0123456789abcdef";
        let conn = format!("sse.acme.conn.{id}");
        for (subject, expected) in [
            ("sse.acme.user.alice", Ok(Target::User { tenant, user: "alice" })),
            ("sse.acme.users", Ok(Target::Users { tenant })),
            ("sse.acme.topic.orders.eu", Ok(Target::Topic { tenant, topic: "orders.eu" })),
            ("sse.acme.topics", Ok(Target::Topics { tenant })),
            ("sse.acme.all", Ok(Target::Tenant { tenant })),
            (&conn, Ok(Target::Connection { tenant, id: id.parse().expect("an id") })),
            ("sse._platform.all", Ok(Target::Platform)),
            ("sse._platform.user.a", Err(SubjectError::Unknown)),
            ("sse._sys.pod-1", Ok(Target::System)),
            ("ssex.acme.all", Err(SubjectError::Prefix)),
            ("sse._x.all", Err(SubjectError::ReservedTenant)),
            ("sse.acme", Err(SubjectError::Unknown)),
            ("sse.acme.user", Err(SubjectError::Unknown)),
            ("sse.acme.user.a.b", Err(SubjectError::User(TokenError::NotCanonical))),
            ("sse.acme.topic.Orders", Err(SubjectError::Topic(TopicError::NotCanonical))),
            ("sse.acme.conn.1", Err(SubjectError::Connection)),
            ("sse.acme.all.x", Err(SubjectError::Unknown)),
        ] {
            assert_eq!(target("sse", subject), expected, "{subject}");
        }
    }

    #[test]
    fn lists_of_receivers() {
        assert_eq!(check_users("alice, bob,carol"), Ok(()));
        for bad in ["", "alice,", "alice,,bob", "a b", "al%69ce"] {
            assert!(check_users(bad).is_err(), "{bad}");
        }
        assert_eq!(check_topics("orders.eu, news"), Ok(()));
        assert!(check_topics("Orders").is_err());
    }
}
