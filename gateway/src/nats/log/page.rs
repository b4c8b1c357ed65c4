//! A page: a part of the log, read once for all that want it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_nats::Subject;

use crate::event::Entry;
use crate::postings::{Key, Postings};

/// What an entry and its place in the index take beside the message, in bytes.
const OVERHEAD: usize = 256;

/// Every message that the log has from `from` to `upto`, oldest first.
#[derive(Debug)]
pub struct Page {
    pub from: u64,
    pub upto: u64,
    pub entries: Vec<Arc<Entry>>,
    /// First sequence that the log still has, where the page lacks what was trimmed before it.
    pub trimmed_to: Option<u64>,
    /// Messages that no client library can read: their headers or subject are broken.
    pub refused: Vec<(u64, Subject)>,
    /// By their places in `entries`.
    postings: Postings,
    bytes: usize,
}

impl Page {
    /// A page of a part that the log does not have any more: it begins at `first` now.
    #[must_use]
    pub fn trimmed(first: u64) -> Self {
        Self {
            from: 0,
            upto: first.saturating_sub(1),
            entries: Vec::new(),
            trimmed_to: Some(first),
            refused: Vec::new(),
            postings: Postings::default(),
            bytes: 0,
        }
    }

    /// The entries on these subjects after a sequence, oldest first, each once. A family of topics is
    /// asked for as `<prefix>.<tenant>.topic`. What else is on the page is not looked at.
    pub fn on(&self, subjects: &[Key], after: u64) -> impl Iterator<Item = &Arc<Entry>> {
        // Most come from the page before it.
        let from = if after < self.from {
            0
        } else {
            self.entries.partition_point(|entry| entry.message.sequence <= after)
        };
        let places = self.postings.merge(subjects, from);
        places.filter_map(|place| self.entries.get(place))
    }

    /// About how much memory it takes once its events were framed, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// From its first sequence to its last.
    #[must_use]
    pub const fn range(&self) -> RangeInclusive<u64> {
        self.from..=self.upto
    }

    /// Sequences that it covers.
    #[must_use]
    pub const fn span(&self) -> u64 {
        (self.upto + 1).saturating_sub(self.from)
    }
}

/// A page while it is read.
pub(super) struct Draft {
    pub from: u64,
    /// The sequence that is read next.
    pub next: u64,
    pub refused: Vec<(u64, Subject)>,
    entries: Vec<Arc<Entry>>,
    /// Bytes of messages so far.
    size: usize,
    /// Bytes of what is in them.
    content: usize,
    /// Lowest sequence that is not there.
    pub hole: Option<u64>,
}

impl Draft {
    pub const fn new(from: u64) -> Self {
        Self { from, next: from, refused: Vec::new(), entries: Vec::new(), size: 0, content: 0, hole: None }
    }

    pub const fn size(&self) -> usize {
        self.size
    }

    /// Takes the next message of the log.
    pub fn push(&mut self, entry: Arc<Entry>) {
        let message = &entry.message;
        self.skip_to(message.sequence);
        self.next = message.sequence + 1;
        self.size += message.size();
        self.content += message.content();
        self.entries.push(entry);
    }

    /// Takes note of the next message of the log, which can not be read.
    pub fn refuse(&mut self, sequence: u64, subject: Subject) {
        self.skip_to(sequence);
        self.next = sequence + 1;
        self.refused.push((sequence, subject));
    }

    /// Goes on at `sequence`: the leader has nothing before it.
    pub fn skip_to(&mut self, sequence: u64) {
        if sequence > self.next {
            self.hole.get_or_insert(self.next);
            self.next = sequence;
        }
    }

    /// The page up to here.
    pub fn finish(self, prefix: &str, trimmed_to: Option<u64>) -> Page {
        let mut postings = Postings::default();
        for (place, entry) in self.entries.iter().enumerate() {
            postings.push(place, prefix, &entry.message.subject);
        }
        // A message that was delivered is kept as a frame, too.
        let bytes = self.size + self.content + OVERHEAD * self.entries.len();
        let Self { from, next, refused, entries, .. } = self;
        Page { from, upto: next - 1, entries, trimmed_to, refused, postings, bytes }
    }
}
