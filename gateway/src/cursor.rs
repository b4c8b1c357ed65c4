//! A place in the log, as a client carries it: `<8 hex epoch>-<sequence>`, and `-end` after an
//! event that completed its stream.
//!
//! The epoch names one life of the stream: a log that was lost and made anew counts from 1 again,
//! and a cursor of its former life must not be taken for a place in the new one.

use std::fmt;
use std::str::FromStr;

/// One life of the stream: random, kept in the stream's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 8 || !text.bytes().all(hex) {
            return Err(InvalidCursor);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| InvalidCursor)
    }
}

/// A place in the log: after the event with this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: Epoch,
    pub sequence: u64,
    /// Whether the event at this place completed its stream: the client is done.
    pub end: bool,
}

impl Cursor {
    #[must_use]
    pub const fn new(epoch: Epoch, sequence: u64) -> Self {
        Self { epoch, sequence, end: false }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{}", self.epoch, self.sequence, if self.end { "-end" } else { "" })
    }
}

/// The text is not a cursor of any epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (epoch, rest) = text.split_once('-').ok_or(InvalidCursor)?;
        let (sequence, end) = match rest.strip_suffix("-end") {
            Some(sequence) => (sequence, true),
            None => (rest, false),
        };
        // One spelling for one place: no sign, no leading zero.
        let canonical = sequence == "0" || !sequence.starts_with('0');
        if !canonical || !sequence.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidCursor);
        }
        Ok(Self { epoch: epoch.parse()?, sequence: sequence.parse().map_err(|_| InvalidCursor)?, end })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_is_parsed(epoch: u32, sequence: u64, end: bool) {
            let cursor = Cursor { epoch: Epoch(epoch), sequence, end };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn what_is_parsed_is_the_one_spelling(text in "[0-9a-fA-F+-]{0,24}(-end)?") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "-",
            "6f1c2a9b",
            "6f1c2a9b-",
            "6F1C2A9B-1",
            "6f1c2a9b-01",
            "6f1c2a9b-+1",
            "6f1c2a9b--1",
            "6f1c2a9b-1-End",
            "6f1c2a9b-18446744073709551616",
            "1700000000000-0",
            " 6f1c2a9b-1",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text:?}");
        }
    }
}
