//! The pages that are kept for a while, for those who come soon after.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::page::Page;

/// Memory of the pages that are kept, in bytes.
pub(super) const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// Pages that are kept.
const KEPT_PAGES: usize = 256;

/// Pages by their first sequence. They do not overlap; the one that was not used for longest goes.
#[derive(Default)]
pub(super) struct Kept {
    pages: BTreeMap<u64, (Arc<Page>, u64)>,
    pub bytes: usize,
    clock: u64,
}

impl Kept {
    pub fn get(&mut self, sequence: u64) -> Option<Arc<Page>> {
        let (_, (page, used)) = self.pages.range_mut(..=sequence).next_back()?;
        if page.upto < sequence {
            return None;
        }
        self.clock += 1;
        *used = self.clock;
        Some(page.clone())
    }

    /// Where the nearest page below a sequence ends.
    pub fn before(&self, sequence: u64) -> Option<u64> {
        self.pages.range(..sequence).next_back().map(|(_, (page, _))| page.upto)
    }

    /// Where the nearest page above a sequence begins.
    pub fn after(&self, sequence: u64) -> Option<u64> {
        self.pages.range(sequence + 1..).next().map(|(from, _)| *from)
    }

    pub fn insert(&mut self, page: Arc<Page>) {
        if page.span() == 0 {
            return;
        }
        self.clock += 1;
        self.bytes += page.bytes();
        if let Some((old, _)) = self.pages.insert(page.from, (page, self.clock)) {
            self.bytes -= old.bytes();
        }
        while self.pages.len() > KEPT_PAGES || (self.bytes > KEPT_BYTES && self.pages.len() > 1) {
            let oldest = self.pages.iter().min_by_key(|(_, (_, used))| *used).map(|(from, _)| *from);
            let Some((page, _)) = oldest.and_then(|from| self.pages.remove(&from)) else { return };
            self.bytes -= page.bytes();
        }
    }

    /// Forgets what lies wholly before `first`.
    pub fn trim(&mut self, first: u64) {
        let gone = self.pages.extract_if(..first, |_, (page, _)| page.upto < first);
        self.bytes -= gone.map(|(_, (page, _))| page.bytes()).sum::<usize>();
    }
}
