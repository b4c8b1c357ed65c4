//! One level of a subject: an id, percent-encoded. Every byte but `A–Z a–z 0–9 - _` is encoded, and only
//! the canonical spelling counts: two spellings of one user would let live delivery and replay disagree.

use std::fmt;
use std::sync::Arc;

use sse_crds::encoding::{IN_TOKENS, percent};

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

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || IN_TOKENS.contains(&b)
}

impl Token {
    /// Encodes an id as it stands in a credential.
    ///
    /// # Errors
    ///
    /// When the id is empty or too long.
    pub fn encode(id: &str) -> Result<Self, TokenError> {
        let out = percent(id, IN_TOKENS);
        match out.len() {
            0 => Err(TokenError::Empty),
            1..=MAX_TOKEN => Ok(Self(out.into())),
            _ => Err(TokenError::TooLong),
        }
    }

    /// One that stands encoded in what another pod tells; `None` when it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        decode(text).and_then(|id| Self::encode(&id).ok()).filter(|token| token.as_str() == text)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that was encoded; `None` when it is not UTF-8, which no credential holds.
    #[must_use]
    pub fn decode(&self) -> Option<String> {
        decode(&self.0)
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

/// Undoes percent-encoding; `None` when it is broken, or what comes out is not UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [b, tail @ ..] = rest {
        rest = match (b, tail) {
            (b'%', [high, low, tail @ ..]) => {
                out.push((hex_digit(*high)? << 4) | hex_digit(*low)?);
                tail
            }
            (b'%', _) => return None,
            (b, tail) => {
                out.push(*b);
                tail
            }
        };
    }
    String::from_utf8(out).ok()
}

const fn hex_digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    }
}

/// Checks that a token of a subject is the canonical spelling of some id.
pub(super) fn check(token: &str) -> Result<(), TokenError> {
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
            (b'%', [high, low, tail @ ..]) if !(high.is_ascii_lowercase() || low.is_ascii_lowercase()) => {
                match (hex_digit(*high), hex_digit(*low)) {
                    (Some(high), Some(low)) if !is_plain((high << 4) | low) => tail,
                    _ => return Err(TokenError::NotCanonical),
                }
            }
            _ => return Err(TokenError::NotCanonical),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
