//! Subjects: who an event is for.
//!
//! `<prefix>.<tenant>.user.<user>` reaches every connection of a user, `<prefix>.<tenant>.all`
//! every connection of a tenant. A token is percent-encoded, and only the canonical spelling counts:
//! two spellings of one user would let live delivery and replay disagree.

use std::fmt;
use std::sync::Arc;

/// Longest token, in encoded bytes.
pub const MAX_TOKEN: usize = 128;

/// One canonical token of a subject: it can not hold a dot or a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

/// Why a text can not be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {MAX_TOKEN} bytes when encoded")]
    TooLong,
    #[error("is not in canonical percent-encoding")]
    NotCanonical,
}

const fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-' || b == b'_'
}

impl Token {
    /// Encodes an id as it stands in a credential.
    ///
    /// # Errors
    ///
    /// When the id is empty or too long.
    pub fn encode(id: &str) -> Result<Self, TokenError> {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut out = String::with_capacity(id.len());
        for b in id.bytes() {
            if is_plain(b) {
                out.push(b.into());
            } else {
                out.push('%');
                out.push(HEX[usize::from(b >> 4)].into());
                out.push(HEX[usize::from(b & 15)].into());
            }
        }
        match out.len() {
            0 => Err(TokenError::Empty),
            1..=MAX_TOKEN => Ok(Self(out.into())),
            _ => Err(TokenError::TooLong),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that was encoded; `None` when it is not UTF-8, which no credential holds.
    #[must_use]
    pub fn decode(&self) -> Option<String> {
        let mut out = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_bytes();
        while let [b, tail @ ..] = rest {
            rest = if let (b'%', [high, low, tail @ ..]) = (b, tail) {
                out.push((hex_digit(*high)? << 4) | hex_digit(*low)?);
                tail
            } else {
                out.push(*b);
                tail
            };
        }
        String::from_utf8(out).ok()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Token {
    fn borrow(&self) -> &str {
        &self.0
    }
}

const fn hex_digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// Checks that a token of a subject is the canonical spelling of some id.
fn check(token: &str) -> Result<(), TokenError> {
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    if token.len() > MAX_TOKEN {
        return Err(TokenError::TooLong);
    }
    let mut rest = token.as_bytes();
    while let [b, tail @ ..] = rest {
        rest = match (b, tail) {
            (b, tail) if is_plain(*b) => tail,
            (b'%', [high, low, tail @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) if !is_plain((high << 4) | low) => tail,
                _ => return Err(TokenError::NotCanonical),
            },
            _ => return Err(TokenError::NotCanonical),
        };
    }
    Ok(())
}

/// Who an event is for, as its subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Every connection of a user.
    User { tenant: &'a str, user: &'a str },
    /// Every connection of a tenant.
    Tenant { tenant: &'a str },
    /// Nobody: the gateways' own marks in the log.
    System,
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
    #[error("the subject names no target that this gateway delivers to")]
    Unknown,
}

/// Reads a subject below `prefix`.
///
/// # Errors
///
/// When the subject names no target, or not in the canonical spelling.
pub fn target<'a>(prefix: &str, subject: &'a str) -> Result<Target<'a>, SubjectError> {
    let rest =
        subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')).ok_or(SubjectError::Prefix)?;
    let (tenant, rest) = rest.split_once('.').ok_or(SubjectError::Unknown)?;
    if tenant == "_sys" {
        return Ok(Target::System);
    }
    if tenant.starts_with('_') {
        return Err(SubjectError::ReservedTenant);
    }
    check(tenant).map_err(SubjectError::Tenant)?;
    match rest.split_once('.') {
        None if rest == "all" => Ok(Target::Tenant { tenant }),
        Some(("user", user)) => {
            check(user).map_err(SubjectError::User)?;
            Ok(Target::User { tenant, user })
        }
        _ => Err(SubjectError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_targets() {
        assert_eq!(target("sse", "sse.acme.user.alice"), Ok(Target::User { tenant: "acme", user: "alice" }));
        assert_eq!(target("sse", "sse.acme.all"), Ok(Target::Tenant { tenant: "acme" }));
        assert_eq!(target("sse", "sse._sys.pod-1"), Ok(Target::System));
        assert_eq!(target("sse", "ssex.acme.all"), Err(SubjectError::Prefix));
        assert_eq!(target("sse", "sse._x.all"), Err(SubjectError::ReservedTenant));
        assert_eq!(target("sse", "sse.acme.user.a.b"), Err(SubjectError::User(TokenError::NotCanonical)));
        assert_eq!(target("sse", "sse.acme.all.x"), Err(SubjectError::Unknown));
    }

    #[test]
    fn only_the_canonical_spelling_counts() {
        assert_eq!(Token::encode("alice@example.com").expect("short").as_str(), "alice%40example%2Ecom");
        for other in ["alice%2ecom", "%61lice", "alice@", "alice%4", "al ice", "*", ">", ""] {
            assert!(check(other).is_err(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn an_id_survives_the_way_there_and_back(id in "\\PC{1,30}") {
            if let Ok(token) = Token::encode(&id) {
                prop_assert_eq!(check(token.as_str()), Ok(()));
                prop_assert_eq!(token.decode(), Some(id));
            }
        }

        #[test]
        fn two_ids_never_share_a_subject(a in "\\PC{1,12}", b in "\\PC{1,12}") {
            let (x, y) = (Token::encode(&a), Token::encode(&b));
            if let (Ok(x), Ok(y)) = (x, y) {
                prop_assert_eq!(x == y, a == b);
            }
        }

        #[test]
        fn no_id_can_hold_a_dot_or_a_wildcard(id in "[.*> %a]{1,20}") {
            if let Ok(token) = Token::encode(&id) {
                prop_assert!(!token.as_str().contains(['.', '*', '>', ' ']));
            }
        }
    }
}
