//! Which part of the log is read next, for whom, and what is kept of it.
//!
//! Searches are served like the floors of an elevator: the lowest at or above the present place, and
//! from the lowest of all when there is none above, or when more wait below than above: those above wait for them to
//! come up. So clients with whatever cursors share one sweep
//! through the log, and each rides along until it has enough to write. Each part is read by one read at
//! a time. Clients pace the sweep: nothing is read that nobody asked for.
//!
//! No waits and no reads happen here: this is the state, and [`super::Log`] does what it says.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio::sync::oneshot::{Receiver, Sender, channel};

use super::LogError;
use super::page::Page;
use super::search::{Found, Search};

/// Most sequences of a page.
pub(super) const SPAN: u64 = 8192;
/// Reads at NATS at one time.
const READS: usize = 2;
/// Pages that came and were not served, beyond which none is read.
const SERVING: usize = 2;
/// Memory of the pages that are kept, in bytes.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// Pages that are kept.
const KEPT_PAGES: usize = 256;
/// Memory of what searches have found and not handed out, in bytes.
const FOUND_BYTES: usize = 16 * 1024 * 1024;

type Answer = Result<Found, LogError>;

/// Names a search that goes on.
pub(super) type Id = u64;

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
    Found(Found),
    Wait(Id, Receiver<Answer>),
}

/// A search whose next page is not there.
struct Waiting {
    search: Search,
    answer: Sender<Answer>,
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
    waiting: HashMap<Id, Waiting, RandomState>,
    /// The same, by where they go on.
    places: BTreeSet<(u64, Id)>,
    /// How many there are at each place.
    crowds: BTreeMap<u64, usize>,
    /// Memory of what they found.
    found: usize,
    reading: Vec<Read>,
    /// Pages that came, and whose searches are not all served.
    serving: VecDeque<Arc<Page>>,
    kept: Kept,
    next_id: Id,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            generation: 0,
            position: 0,
            head: 0,
            first: 0,
            span: SPAN,
            waiting: HashMap::default(),
            places: BTreeSet::new(),
            crowds: BTreeMap::new(),
            found: 0,
            reading: Vec::new(),
            serving: VecDeque::new(),
            kept: Kept::default(),
            next_id: 0,
        }
    }
}

impl Scan {
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Searches that had to wait, since the start.
    pub const fn begun(&self) -> u64 {
        self.next_id
    }

    /// Begins a search, and ends it where what is kept is enough. The log has everything that is searched.
    pub fn ask(&mut self, mut search: Search) -> Asked {
        self.head = self.head.max(search.upto());
        let Some(place) = self.advance(&mut search) else {
            return Asked::Found(search.end(self.first));
        };
        let id = self.next_id;
        self.next_id += 1;
        let (answer, receiver) = channel();
        self.put(place, id, Waiting { search, answer });
        Asked::Wait(id, receiver)
    }

    /// Goes along the pages that are kept; where a page is missed, or `None` when the client is to be answered.
    fn advance(&mut self, search: &mut Search) -> Option<u64> {
        loop {
            let place = search.goes_on().filter(|place| *place >= self.first)?;
            let Some(page) = self.kept.get(place) else { return Some(place) };
            search.look(&page);
        }
    }

    fn put(&mut self, place: u64, id: Id, waiting: Waiting) {
        self.found += waiting.search.bytes();
        self.places.insert((place, id));
        *self.crowds.entry(place).or_default() += 1;
        self.waiting.insert(id, waiting);
    }

    fn take(&mut self, id: Id) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.found -= waiting.search.bytes();
        if let Some(place) = waiting.search.goes_on() {
            self.places.remove(&(place, id));
            if let Entry::Occupied(mut crowd) = self.crowds.entry(place) {
                *crowd.get_mut() -= 1;
                if *crowd.get() == 0 {
                    crowd.remove();
                }
            }
        }
        Some(waiting)
    }

    /// Ends a search early; what it has found, if it came on.
    pub fn withdraw(&mut self, id: Id) -> Option<Found> {
        let search = self.take(id)?.search;
        search.has_come_on().then(|| search.end(self.first))
    }

    /// The next part to read, if one is due; [`finish`](Self::finish) must follow.
    pub fn next_read(&mut self) -> Option<Read> {
        if self.reading.len() >= READS || self.serving.len() >= SERVING {
            return None;
        }
        let from = if self.is_outnumbered() { 0 } else { self.position };
        let wanted = self.wanted(from).or_else(|| self.wanted(0))?;
        let from = self.start(wanted);
        let ahead = self.reading.iter().map(|read| read.from).filter(|start| *start > wanted);
        let limit = ahead.chain(self.kept.after(wanted)).min().map_or(self.head, |start| start - 1);
        let upto = limit.min(self.head).min(from.saturating_add(self.span - 1)).max(wanted);
        let read = Read { generation: self.generation, from, upto };
        self.position = upto + 1;
        self.reading.push(read);
        Some(read)
    }

    /// Whether more wait below the present place than above.
    fn is_outnumbered(&self) -> bool {
        let below: usize = self.crowds.range(..self.position).map(|(_, crowd)| crowd).sum();
        2 * below > self.waiting.len()
    }

    /// The lowest place at or above `place` that is missed and no read is about to serve.
    fn wanted(&self, place: u64) -> Option<u64> {
        let mut place = place;
        loop {
            let (missed, _) = self.places.range((place, 0)..).next()?;
            let mut served =
                self.reading.iter().map(Read::range).chain(self.serving.iter().map(|page| page.range()));
            match served.find(|range| range.contains(missed)) {
                Some(range) => place = range.end() + 1,
                None => return Some(*missed),
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
        let page = match result {
            Ok(page) => Arc::new(page),
            Err(error) => return self.fail(read.range(), &error),
        };
        let cut_short = page.upto < read.upto;
        self.span = if cut_short { page.span().max(1) } else { (self.span * 2).min(SPAN) };
        self.position = if cut_short { self.position.min(page.upto + 1) } else { self.position };
        if let Some(first) = page.trimmed_to
            && first > self.first
        {
            self.first = first;
            self.kept.trim(first);
            self.serving.push_back(Arc::new(Page::trimmed(first)));
        }
        self.kept.insert(page.clone());
        self.serving.push_back(page);
    }

    /// Takes some searches, at most so many, through the pages that came. Whether there are more.
    pub fn serve(&mut self, most: usize) -> bool {
        let Some(page) = self.serving.front().cloned() else { return false };
        let ids = self.ids(page.range(), most);
        if ids.is_empty() {
            self.serving.pop_front();
        }
        for id in ids {
            let Some(mut waiting) = self.take(id) else { continue };
            // It may be kept no longer.
            if waiting.search.goes_on().is_some_and(|place| place >= self.first) {
                waiting.search.look(&page);
            }
            match self.advance(&mut waiting.search) {
                Some(place) => self.put(place, id, waiting),
                None => self.answer(waiting),
            }
        }
        if self.found > FOUND_BYTES {
            self.hand_out();
        }
        !self.serving.is_empty()
    }

    /// Those that go on at a place in this range.
    fn ids(&self, range: RangeInclusive<u64>, most: usize) -> Vec<Id> {
        let places = self.places.range((*range.start(), 0)..=(*range.end(), Id::MAX));
        places.take(most).map(|(_, id)| *id).collect()
    }

    /// Answers all who have found something: together they hold too much.
    fn hand_out(&mut self) {
        let found = self.waiting.iter().filter(|(_, waiting)| waiting.search.bytes() > 0);
        let ids: Vec<Id> = found.map(|(id, _)| *id).collect();
        for id in ids {
            self.take(id).into_iter().for_each(|waiting| self.answer(waiting));
        }
    }

    fn answer(&self, waiting: Waiting) {
        // Who left meanwhile needs no answer.
        let _ = waiting.answer.send(Ok(waiting.search.end(self.first)));
    }

    /// Tells those who miss a part that it could not be read. Who found something before has that.
    fn fail(&mut self, range: RangeInclusive<u64>, error: &LogError) {
        for id in self.ids(range, usize::MAX) {
            match self.take(id) {
                Some(waiting) if waiting.search.has_come_on() => self.answer(waiting),
                Some(waiting) => drop(waiting.answer.send(Err(error.clone()))),
                None => {}
            }
        }
    }

    /// Forgets everything: the log is another one. Who waits is told, and what is being read is void.
    pub fn forget(&mut self) {
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.answer.send(Err(LogError::Remade));
        }
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
