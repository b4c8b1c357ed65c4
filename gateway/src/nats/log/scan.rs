//! Which part of the log is read next, for whom, and what is kept of it.
//!
//! Searches are served like the floors of an elevator: the lowest at or above the present place, and from the lowest of
//! all when there is none above. It also goes back for those who came below when it has not gone far: those above wait for
//! them to come up. So clients with whatever cursors share one sweep through the log, and each part is read once for
//! all of them.
//!
//! A search also rides along while its client is at work on what was handed over last: one that had to come back first
//! would find the sweep gone on, and thousands would need one sweep after the other. But clients pace the sweep: nothing
//! is read that nobody waits for, and who has enough goes on when its client took that.
//!
//! No waits and no reads happen here: this is the state, and [`super::Log`] does what it says.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio::sync::oneshot::{Receiver, Sender, channel};

use super::LogError;
use super::kept::Kept;
use super::page::Page;
use super::search::{Found, Listens, Search};

/// Most sequences of a page.
pub(super) const SPAN: u64 = 8192;
/// Pages that came and were not served, beyond which none is read.
const SERVING: usize = 2;
/// Memory of what searches have found and not handed out, in bytes.
const FOUND_BYTES: usize = 32 * 1024 * 1024;

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

/// A search that goes on, also while its client is at work on what was handed over last.
struct Rider {
    search: Search,
    /// Where it waits for a page. `None`: it has enough, or nobody is to go on for it.
    place: Option<u64>,
    /// Its client, while that one waits for more.
    answer: Option<Sender<Answer>>,
}

pub(super) struct Scan {
    /// Grows when the log becomes another one: what was read before is void.
    generation: u64,
    /// Where the sweep goes on.
    position: u64,
    /// How far it has to go before it may go back.
    owed: u64,
    /// The log has everything up to here.
    head: u64,
    /// The log has nothing before it, the leader said.
    first: u64,
    /// Sequences that a page is expected to have: fewer where events are large.
    span: u64,
    riders: HashMap<Id, Rider, RandomState>,
    /// Those who miss a page, by where they go on.
    places: BTreeSet<(u64, Id)>,
    /// How many clients wait at each place.
    crowds: Crowds,
    /// Memory of what was found and not handed over.
    found: usize,
    /// Whether a part is being read.
    reading: bool,
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
            owed: 0,
            head: 0,
            first: 0,
            span: SPAN,
            riders: HashMap::default(),
            places: BTreeSet::new(),
            crowds: Crowds::default(),
            found: 0,
            reading: false,
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

    /// Searches since the start.
    pub const fn begun(&self) -> u64 {
        self.next_id
    }

    /// Begins a search, in a log that has everything that is searched. It goes on when it is [asked](Self::ask) for.
    pub fn begin(&mut self, search: Search) -> Id {
        self.head = self.head.max(search.upto());
        let id = self.next_id;
        self.next_id += 1;
        self.riders.insert(id, Rider { search, place: None, answer: None });
        id
    }

    /// Whether there is this search, for this listener, who has everything up to there.
    pub fn is(&self, id: Id, listener: &Arc<dyn Listens>, after: u64) -> bool {
        self.riders.get(&id).is_some_and(|rider| rider.search.is(listener, after))
    }

    /// Its client waits for what comes of a search: for as much as is enough, or for what there is when it
    /// [claims](Self::claim) that. The answer may be there at once.
    pub fn ask(&mut self, id: Id) -> Receiver<Answer> {
        let (answer, receiver) = channel();
        if let Some(mut rider) = self.take(id) {
            rider.answer = Some(answer);
            self.go_on(id, rider);
        }
        receiver
    }

    /// What was found, if the search came on, to a client that does not wait any longer. It goes on.
    pub fn claim(&mut self, id: Id) -> Option<Found> {
        let mut rider = self.take(id)?;
        rider.answer = None;
        let found = rider.search.has_come_on().then(|| rider.search.hand_over(self.first));
        self.put(id, rider);
        found
    }

    /// Ends a search.
    pub fn withdraw(&mut self, id: Id) {
        self.take(id);
    }

    /// Lets a search go on as far as what is kept reaches, and answers its client when it has enough.
    fn go_on(&mut self, id: Id, mut rider: Rider) {
        rider.place = self.advance(&mut rider.search);
        if rider.place.is_none()
            && let Some(answer) = rider.answer.take()
        {
            let found = rider.search.hand_over(self.first);
            // One that was trimmed ends, too: where its client goes on is not sure.
            let over = found.trimmed || rider.search.is_over();
            // A client that left meanwhile needs no more.
            if answer.send(Ok(found)).is_err() || over {
                return;
            }
            rider.place = self.advance(&mut rider.search);
        }
        self.put(id, rider);
    }

    /// Goes along the pages that are kept; where a page is missed, or `None` when the client is to be answered.
    fn advance(&mut self, search: &mut Search) -> Option<u64> {
        loop {
            let place = search.goes_on().filter(|place| *place >= self.first)?;
            let Some(page) = self.kept.get(place) else { return Some(place) };
            search.look(&page);
        }
    }

    fn put(&mut self, id: Id, rider: Rider) {
        self.found += rider.search.bytes();
        if let Some(place) = rider.place {
            self.places.insert((place, id));
            if rider.answer.is_some() {
                self.crowds.join(place);
            }
        }
        self.riders.insert(id, rider);
    }

    fn take(&mut self, id: Id) -> Option<Rider> {
        let rider = self.riders.remove(&id)?;
        self.found -= rider.search.bytes();
        if let Some(place) = rider.place {
            self.places.remove(&(place, id));
            if rider.answer.is_some() {
                self.crowds.leave(place);
            }
        }
        Some(rider)
    }

    /// The next part to read, if one is due; [`finish`](Self::finish) must follow.
    pub fn next_read(&mut self) -> Option<Read> {
        if self.reading || self.serving.len() >= SERVING {
            return None;
        }
        let wanted = self.next_place()?;
        let from = self.start(wanted);
        let limit = self.kept.after(wanted).map_or(self.head, |start| start - 1);
        let upto = limit.min(self.head).min(from.saturating_add(self.span - 1)).max(wanted);
        let read = Read { generation: self.generation, from, upto };
        self.position = upto + 1;
        self.reading = true;
        Some(read)
    }

    /// Where the sweep goes on, if somebody waits for it. It goes back for those below where that costs those above
    /// less than a sweep of their own would take. And only after it went on by as much as it went back before: who comes
    /// late does not keep all others for ever.
    fn next_place(&mut self) -> Option<u64> {
        let (lowest, above) = (self.missed(0), self.missed(self.position));
        let front = above.unwrap_or(self.position);
        if let Some(lowest) = lowest.filter(|lowest| *lowest < self.position && self.position >= self.owed) {
            let way = front - lowest;
            if way < self.head.saturating_sub(front) {
                self.owed = front + way;
                return Some(lowest);
            }
        }
        // Those who are on a page that came go on where it ends.
        let boarding = self.serving.iter().any(|page| self.crowds.is_at(page.range()));
        if boarding && above != Some(self.position) {
            return None;
        }
        if above.is_none() {
            self.owed = 0;
        }
        above.or(lowest)
    }

    /// The lowest place at or above `place` where a client waits for a page that did not come.
    fn missed(&self, place: u64) -> Option<u64> {
        let mut place = place;
        loop {
            let missed = self.crowds.next(place)?;
            match self.serving.iter().map(|page| page.range()).find(|range| range.contains(&missed)) {
                Some(range) => place = range.end() + 1,
                None => return Some(missed),
            }
        }
    }

    /// Where a page with `wanted` begins: where the part before it ends, when that is near. Else
    /// clients that follow each other would leave splinters between their pages.
    fn start(&self, wanted: u64) -> u64 {
        let end = self.kept.before(wanted);
        end.map(|end| end + 1).filter(|start| wanted - start < self.span).unwrap_or(wanted)
    }

    /// Takes what came of a read.
    pub fn finish(&mut self, read: Read, result: Result<Page, LogError>) {
        if read.generation != self.generation {
            return;
        }
        self.reading = false;
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
            let Some(mut rider) = self.take(id) else { continue };
            // It may be kept no longer.
            if rider.search.goes_on().is_some_and(|place| place >= self.first) {
                rider.search.look(&page);
            }
            self.go_on(id, rider);
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

    /// Together they hold too much: those whose clients wait hand over what they have. If most of it is not
    /// waited for, its clients are slow, and it is read again when they come.
    fn hand_out(&mut self) {
        let held = self.riders.iter().filter(|(_, rider)| rider.search.bytes() > 0);
        let (waits, slow): (Vec<_>, Vec<_>) =
            held.map(|(id, rider)| (*id, rider.answer.is_some())).partition(|held| held.1);
        for (id, _) in waits {
            let Some(mut rider) = self.take(id) else { continue };
            let found = rider.search.hand_over(self.first);
            if rider.answer.take().is_some_and(|answer| answer.send(Ok(found)).is_ok()) {
                self.put(id, rider);
            }
        }
        if self.found > FOUND_BYTES / 2 {
            for (id, _) in slow {
                let Some(mut rider) = self.take(id) else { continue };
                rider.search.go_back();
                rider.place = None;
                self.put(id, rider);
            }
        }
    }

    /// Tells those who miss a part that it could not be read. Who found something before has that. Nobody goes on
    /// before it is asked for again.
    fn fail(&mut self, range: RangeInclusive<u64>, error: &LogError) {
        for id in self.ids(range, usize::MAX) {
            let Some(mut rider) = self.take(id) else { continue };
            rider.place = None;
            if let Some(answer) = rider.answer.take() {
                let came = rider.search.has_come_on();
                let told = if came { Ok(rider.search.hand_over(self.first)) } else { Err(error.clone()) };
                if answer.send(told).is_err() {
                    continue;
                }
            }
            self.put(id, rider);
        }
    }

    /// Forgets everything: the log is another one. Who waits is told, and what is being read is void.
    pub fn forget(&mut self) {
        for answer in self.riders.drain().filter_map(|(_, rider)| rider.answer) {
            let _ = answer.send(Err(LogError::Remade));
        }
        let (generation, next_id) = (self.generation + 1, self.next_id);
        *self = Self { generation, next_id, ..Self::default() };
    }
}

/// How many clients wait at each place of the log.
#[derive(Default)]
struct Crowds(BTreeMap<u64, usize>);

impl Crowds {
    fn join(&mut self, place: u64) {
        *self.0.entry(place).or_default() += 1;
    }

    fn leave(&mut self, place: u64) {
        if let Entry::Occupied(mut crowd) = self.0.entry(place) {
            *crowd.get_mut() -= 1;
            if *crowd.get() == 0 {
                crowd.remove();
            }
        }
    }

    /// The lowest place at or above this one.
    fn next(&self, place: u64) -> Option<u64> {
        self.0.range(place..).next().map(|(place, _)| *place)
    }

    /// Whether there is one in this range.
    fn is_at(&self, range: RangeInclusive<u64>) -> bool {
        self.0.range(range).next().is_some()
    }
}

#[cfg(test)]
mod tests;
