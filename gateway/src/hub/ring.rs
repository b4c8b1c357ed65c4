//! Recent events, for clients that come back soon.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Entry;
use crate::postings::{Key, Postings};

/// Most events in the ring.
const MAX_ENTRIES: usize = 65_536;
/// Most memory of the ring, in bytes.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// What an entry takes beside its message and its frame.
const OVERHEAD: usize = 256;

/// Every event that the log has from a sequence on, up to the hub's head.
#[derive(Default)]
pub struct Ring {
    entries: VecDeque<Arc<Entry>>,
    /// Entries that were here and went, since it began.
    gone: usize,
    /// By their places among all that came since it began.
    postings: Postings,
    bytes: usize,
    from: u64,
}

impl Ring {
    /// First sequence that the ring speaks for.
    pub const fn from(&self) -> u64 {
        self.from
    }

    /// Forgets everything: the ring begins after `head`.
    pub fn clear(&mut self, head: u64) {
        self.entries.clear();
        self.gone = 0;
        self.postings.clear();
        self.bytes = 0;
        self.from = head + 1;
    }

    pub fn push(&mut self, entry: Arc<Entry>, prefix: &str) {
        self.bytes += size(&entry);
        self.postings.push(self.gone + self.entries.len(), prefix, &entry.message.subject);
        self.entries.push_back(entry);
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.postings.pop_front(self.gone, prefix, &oldest.message.subject);
            self.gone += 1;
            self.from = oldest.message.sequence + 1;
        }
    }

    /// The events on these subjects after a sequence, oldest first, or `None` when the ring does not reach
    /// back to it. A family of topics is asked for as `<prefix>.<tenant>.topic`.
    pub fn on(&self, subjects: &[Key], after: u64) -> Option<impl Iterator<Item = &Arc<Entry>>> {
        if after + 1 < self.from {
            return None;
        }
        let skipped = self.entries.partition_point(|entry| entry.message.sequence <= after);
        let places = self.postings.merge(subjects, self.gone + skipped);
        Some(places.filter_map(|place| self.entries.get(place - self.gone)))
    }
}

fn size(entry: &Entry) -> usize {
    entry.message.size() + entry.message.content() + OVERHEAD
}
