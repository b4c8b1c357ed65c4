//! Which part of the log is read next, for whom, and what is kept of it.
//!
//! Demands are served like the floors of an elevator: the lowest at or above the present place, and
//! from the lowest of all when there is none above. So clients with whatever cursors share one sweep
//! through the log. A page serves all who wait for a sequence on it, and each part is read by one
//! read at a time. Clients pace the sweep: nothing is read that nobody asked for.
//!
//! No waits and no reads happen here: this is the state, and [`super::Log`] does what it says.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::oneshot::{Receiver, Sender, channel};

use super::LogError;
use super::page::Page;

/// Most sequences of a page. Each client that waits looks at each page, which costs microseconds: for
/// thousands that come back at once few large pages are quicker than many small ones.
pub(super) const SPAN: u64 = 8192;
/// Reads at NATS at one time.
const READS: usize = 2;
/// Memory of the pages that are kept, in bytes.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// Pages that are kept.
const KEPT_PAGES: usize = 256;

type Answer = Result<Arc<Page>, LogError>;

/// Who waits for a sequence.
pub(super) type Key = (u64, u64);

/// A part of the log that is to be read, in one life of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub generation: u64,
    pub from: u64,
    pub upto: u64,
}

impl Read {
    const fn range(&self) -> RangeInclusive<u64> {
        self.from..=self.upto
    }
}

/// What a client gets when it asks.
pub(super) enum Asked {
    Page(Arc<Page>),
    Wait(Key, Receiver<Answer>),
}

pub(super) struct Scan {
    /// Grows when the log becomes another one: what was read before is void.
    generation: u64,
    /// Where the sweep goes on.
    position: u64,
    /// The log has everything up to here.
    head: u64,
    /// The log has nothing before it, the leader said.
    first: u64,
    /// Sequences that a page is expected to have: fewer where events are large.
    span: u64,
    demands: BTreeMap<Key, Sender<Answer>>,
    reading: Vec<Read>,
    kept: Kept,
    next_id: u64,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            generation: 0,
            position: 0,
            head: 0,
            first: 0,
            span: SPAN,
            demands: BTreeMap::new(),
            reading: Vec::new(),
            kept: Kept::default(),
            next_id: 0,
        }
    }
}

impl Scan {
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Asks for the page with `sequence`, in a log that has everything up to `head`.
    pub fn ask(&mut self, sequence: u64, head: u64) -> Asked {
        self.head = self.head.max(head).max(sequence);
        if sequence < self.first {
            return Asked::Page(Arc::new(Page::trimmed(self.first)));
        }
        if let Some(page) = self.kept.get(sequence) {
            return Asked::Page(page);
        }
        let key = (sequence, self.next_id);
        self.next_id += 1;
        let (sender, receiver) = channel();
        self.demands.insert(key, sender);
        Asked::Wait(key, receiver)
    }

    /// Who asked does not wait any more.
    pub fn withdraw(&mut self, key: Key) {
        self.demands.remove(&key);
    }

    /// The next part to read, if one is due; [`finish`](Self::finish) must follow.
    pub fn next_read(&mut self) -> Option<Read> {
        if self.reading.len() >= READS {
            return None;
        }
        let wanted = self.wanted(self.position).or_else(|| self.wanted(0))?;
        let from = self.start(wanted);
        let ahead = self.reading.iter().map(|read| read.from).filter(|start| *start > wanted);
        let limit = ahead.chain(self.kept.after(wanted)).min().map_or(self.head, |start| start - 1);
        let upto = limit.min(self.head).min(from.saturating_add(self.span - 1)).max(wanted);
        let read = Read { generation: self.generation, from, upto };
        self.position = upto + 1;
        self.reading.push(read);
        Some(read)
    }

    /// The lowest demand at or above `place` that no read is about to serve.
    fn wanted(&self, place: u64) -> Option<u64> {
        let mut place = place;
        loop {
            let ((sequence, _), _) = self.demands.range((place, 0)..).next()?;
            match self.reading.iter().find(|read| read.range().contains(sequence)) {
                Some(read) => place = read.upto + 1,
                None => return Some(*sequence),
            }
        }
    }

    /// Where a page with `wanted` begins: where the part before it ends, when that is near. Else
    /// clients that follow each other would leave splinters between their pages.
    fn start(&self, wanted: u64) -> u64 {
        let kept = self.kept.before(wanted);
        let reading = self.reading.iter().map(|read| read.upto).filter(|end| *end < wanted);
        let end = reading.chain(kept).max();
        end.map(|end| end + 1).filter(|start| wanted - start < self.span).unwrap_or(wanted)
    }

    /// Takes what came of a read.
    pub fn finish(&mut self, read: Read, result: Result<Page, LogError>) {
        if read.generation != self.generation {
            return;
        }
        self.reading.retain(|other| *other != read);
        match result {
            Ok(page) => self.serve(read, Arc::new(page)),
            Err(error) => self.answer(read.range(), &Err(error)),
        }
    }

    fn serve(&mut self, read: Read, page: Arc<Page>) {
        let cut_short = page.upto < read.upto;
        self.span = if cut_short { page.span().max(1) } else { (self.span * 2).min(SPAN) };
        self.position = if cut_short { self.position.min(page.upto + 1) } else { self.position };
        if let Some(first) = page.trimmed_to
            && first > self.first
        {
            self.first = first;
            self.kept.trim(first);
        }
        self.answer(page.from..=page.upto, &Ok(page.clone()));
        if self.first > 0 {
            self.answer(0..=self.first - 1, &Ok(Arc::new(Page::trimmed(self.first))));
        }
        self.kept.insert(page);
    }

    fn answer(&mut self, range: RangeInclusive<u64>, answer: &Answer) {
        let keys = (*range.start(), 0)..=(*range.end(), u64::MAX);
        let keys: Vec<Key> = self.demands.range(keys).map(|(key, _)| *key).collect();
        for waiting in keys.iter().filter_map(|key| self.demands.remove(key)) {
            // Who left meanwhile needs no answer.
            let _ = waiting.send(answer.clone());
        }
    }

    /// Forgets everything: the log is another one. Who waits is told, and what is being read is void.
    pub fn forget(&mut self) {
        self.answer(0..=u64::MAX, &Err(LogError::Remade));
        let (generation, next_id) = (self.generation + 1, self.next_id);
        *self = Self { generation, next_id, ..Self::default() };
    }
}

/// Pages by their first sequence. They do not overlap; the one that was not used for longest goes.
#[derive(Default)]
struct Kept {
    pages: BTreeMap<u64, (Arc<Page>, u64)>,
    bytes: usize,
    clock: u64,
}

impl Kept {
    fn get(&mut self, sequence: u64) -> Option<Arc<Page>> {
        let (_, (page, used)) = self.pages.range_mut(..=sequence).next_back()?;
        if page.upto < sequence {
            return None;
        }
        self.clock += 1;
        *used = self.clock;
        Some(page.clone())
    }

    /// Where the nearest page below a sequence ends.
    fn before(&self, sequence: u64) -> Option<u64> {
        self.pages.range(..sequence).next_back().map(|(_, (page, _))| page.upto)
    }

    /// Where the nearest page above a sequence begins.
    fn after(&self, sequence: u64) -> Option<u64> {
        self.pages.range(sequence + 1..).next().map(|(from, _)| *from)
    }

    fn insert(&mut self, page: Arc<Page>) {
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
    fn trim(&mut self, first: u64) {
        let gone = self.pages.extract_if(..first, |_, (page, _)| page.upto < first);
        self.bytes -= gone.map(|(_, (page, _))| page.bytes()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests;
