//! Topics: `orders.eu`, in levels, in lower case, each level a canonical token. A subscription or a
//! grant is a [`Pattern`] of topics: `*` stands for one level, `>` at the end for one or more.

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::token::{self, Token, TokenError};

/// Most levels of a topic.
pub const MAX_LEVELS: usize = 32;

/// Why a text is no topic, or no pattern of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("has an empty level")]
    EmptyLevel,
    #[error("has a level that is longer than {} bytes when encoded", token::MAX_TOKEN)]
    LevelTooLong,
    #[error("has more than {MAX_LEVELS} levels")]
    TooDeep,
    #[error("has '>' before its last level")]
    RestNotLast,
    #[error("is not in lower case and canonical percent-encoding")]
    NotCanonical,
}

impl From<TokenError> for TopicError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Empty => Self::EmptyLevel,
            TokenError::TooLong => Self::LevelTooLong,
            TokenError::NotCanonical => Self::NotCanonical,
        }
    }
}

/// Checks that the rest of a subject is the canonical spelling of a topic.
///
/// # Errors
///
/// When it is not: then no subscription could ever match it.
pub fn check(topic: &str) -> Result<(), TopicError> {
    for (level, text) in topic.split('.').enumerate() {
        if level >= MAX_LEVELS {
            return Err(TopicError::TooDeep);
        }
        token::check(text)?;
        if !is_lower(text) {
            return Err(TopicError::NotCanonical);
        }
    }
    Ok(())
}

/// Whether a level is what lower-casing would leave as it is. A dot makes a level, and so is in none.
fn is_lower(level: &str) -> bool {
    if !level.contains('%') {
        return !level.bytes().any(|b| b.is_ascii_uppercase());
    }
    token::decode(level).is_some_and(|plain| !plain.contains('.') && plain.to_lowercase() == plain)
}

/// Whether something in levels, in its canonical spelling, fits a pattern.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut levels = text.split('.');
    for wanted in pattern.split('.') {
        let Some(level) = levels.next() else { return false };
        match wanted {
            ">" => return true,
            "*" => {}
            wanted if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// One topic, or all that fit a pattern. Held in the canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Reads a pattern as people and claims write it: trimmed, lower-cased, then encoded.
    ///
    /// # Errors
    ///
    /// When a level is empty or too long, there are too many, or `>` is not the last.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let text = text.trim().to_lowercase();
        let mut out = String::with_capacity(text.len());
        let mut closed = false;
        for (at, level) in text.split('.').enumerate() {
            if closed {
                return Err(TopicError::RestNotLast);
            }
            if at >= MAX_LEVELS {
                return Err(TopicError::TooDeep);
            }
            if at > 0 {
                out.push('.');
            }
            match level {
                "*" => out.push('*'),
                ">" => {
                    out.push('>');
                    closed = true;
                }
                level => out.push_str(Token::encode(level)?.as_str()),
            }
        }
        Ok(Self(out.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels: canonical tokens, `*`, and `>` at the end.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether it stands for one topic alone.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.levels().any(|level| level == "*" || level == ">")
    }

    /// Whether a topic, in its canonical spelling, fits.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        fits(&self.0, topic)
    }

    /// Whether every topic that fits `other` fits this one too: the right to subscribe.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut others = other.levels();
        for granted in self.levels() {
            let Some(wanted) = others.next() else { return false };
            match (granted, wanted) {
                (">", _) => return true,
                (_, ">") => return false,
                ("*", _) => {}
                (granted, wanted) if granted == wanted => {}
                _ => return false,
            }
        }
        others.next().is_none()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    /// From the canonical spelling, in which it was serialized.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let levels: Option<Vec<String>> = text.split('.').map(token::decode).collect();
        let pattern = levels.and_then(|levels| Self::parse(&levels.join(".")).ok());
        pattern.filter(|pattern| *pattern.0 == *text).ok_or_else(|| D::Error::custom("no pattern of topics"))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_pattern_is_trimmed_lower_cased_and_encoded() {
        assert_eq!(pattern(" Orders.EU ").as_str(), "orders.eu");
        assert_eq!(pattern("Ä.b@c").as_str(), "%C3%A4.b%40c");
        for (text, error) in [
            ("", TopicError::EmptyLevel),
            ("a..b", TopicError::EmptyLevel),
            ("a.", TopicError::EmptyLevel),
            (">.a", TopicError::RestNotLast),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Pattern::parse(&"a.".repeat(33)), Err(TopicError::TooDeep));
        assert_eq!(Pattern::parse(&"a".repeat(129)), Err(TopicError::LevelTooLong));
    }

    #[test]
    fn what_fits() {
        for (text, topic, fits) in [
            ("orders.eu", "orders.eu", true),
            ("orders.eu", "orders.eu.de", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders", false),
            ("orders.*", "orders.eu.de", false),
            ("orders.>", "orders.eu.de", true),
            ("orders.>", "orders", false),
            (">", "a", true),
            ("*.eu", "orders.eu", true),
            ("a*", "a%2A", true),
            ("a*", "ab", false),
        ] {
            assert_eq!(pattern(text).matches(topic), fits, "{text} {topic}");
        }
    }

    #[test]
    fn only_the_canonical_spelling_is_a_topic() {
        assert_eq!(check("orders.eu-1.%C3%A4"), Ok(()));
        for bad in ["Orders", "a..b", "", "a.*", "a.>", "a%2Eb", "%C3%84", "%ff", "%61"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    fn level() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec!["a", "b", "*", ">"])
    }

    proptest! {
        /// A grant covers a wish exactly if no topic fits the wish but not the grant.
        #[test]
        fn what_covers_lets_through_nothing_more(
            grant in proptest::collection::vec(level(), 1..4),
            wish in proptest::collection::vec(level(), 1..4),
        ) {
            let (Ok(grant), Ok(wish)) = (Pattern::parse(&grant.join(".")), Pattern::parse(&wish.join("."))) else {
                return Ok(());
            };
            let mut topics: Vec<String> = vec![String::new()];
            let mut all = Vec::new();
            for _ in 0..5 {
                // "z" stands for every level that no pattern names.
                topics = topics
                    .iter()
                    .flat_map(|t| ["a", "b", "z"].map(|l| if t.is_empty() { l.into() } else { format!("{t}.{l}") }))
                    .collect();
                all.extend(topics.clone());
            }
            let covered = all.iter().all(|topic| !wish.matches(topic) || grant.matches(topic));
            prop_assert_eq!(grant.covers(&wish), covered, "{} {}", grant, wish);
        }

        #[test]
        fn what_is_parsed_is_canonical(text in "\\PC{1,20}") {
            if let Ok(pattern) = Pattern::parse(&text) && pattern.is_exact() {
                prop_assert_eq!(check(pattern.as_str()), Ok(()), "{}", pattern);
                prop_assert!(pattern.matches(pattern.as_str()));
                let json = serde_json::to_string(&pattern).expect("a text");
                prop_assert_eq!(serde_json::from_str::<Pattern>(&json).expect("the same"), pattern);
            }
        }
    }
}
