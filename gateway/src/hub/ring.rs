//! Recent events, for clients that come back soon.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Entry;

/// Most events in the ring.
const MAX_ENTRIES: usize = 65_536;
/// Most memory of the ring, in bytes.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Every event that the log has from a sequence on, up to the hub's head.
#[derive(Default)]
pub struct Ring {
    entries: VecDeque<Arc<Entry>>,
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
        self.bytes = 0;
        self.from = head + 1;
    }

    pub fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.message.size();
        self.entries.push_back(entry);
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.message.size();
            self.from = oldest.message.sequence + 1;
        }
    }

    /// Sequence of the newest event.
    pub fn last(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.message.sequence)
    }

    /// The events after a sequence, or `None` when the ring does not reach back to it.
    pub fn after(&self, sequence: u64) -> Option<impl Iterator<Item = &Arc<Entry>>> {
        if sequence + 1 < self.from {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.message.sequence <= sequence);
        Some(self.entries.range(first..))
    }
}
