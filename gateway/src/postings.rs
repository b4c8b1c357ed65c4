//! Where in a part of the log each subject occurs: a client's events are found without a look at
//! anybody else's.
//!
//! Positions are what its owner counts its entries by. They are pushed in ascending order and leave from the oldest on,
//! so the same type serves a page of the log and the ring, which is a window that slides.
//!
//! A topic `<prefix>.<tenant>.topic.<…>` stands under its own subject and under its family
//! `<prefix>.<tenant>.topic`, for clients that listen to a pattern of topics.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Of every subject, wherever it is looked up. The standard hash would be a third of the time of thousands who look.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// A subject to look up, on page after page: most have nothing on it, and that is seen without a look at the subject.
#[derive(Clone, Debug)]
pub struct Key {
    hash: u64,
    subject: Box<str>,
}

impl Key {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.subject
    }
}

impl From<String> for Key {
    fn from(subject: String) -> Self {
        Self { hash: HASH.hash_one(subject.as_str()), subject: subject.into() }
    }
}

/// The positions of each subject. A subject that has none left is gone.
#[derive(Clone, Debug, Default)]
pub struct Postings {
    lists: HashTable<List>,
}

#[derive(Clone, Debug)]
struct List {
    hash: u64,
    subject: Box<str>,
    positions: VecDeque<usize>,
}

impl Postings {
    /// Adds a position, which is above all others.
    pub fn push(&mut self, position: usize, prefix: &str, subject: &str) {
        keys(prefix, subject).for_each(|key| {
            let hash = HASH.hash_one(key);
            if let Some(list) = self.lists.find_mut(hash, |list| *list.subject == *key) {
                list.positions.push_back(position);
            } else {
                let list = List { hash, subject: key.into(), positions: VecDeque::from([position]) };
                self.lists.insert_unique(hash, list, |list| list.hash);
            }
        });
    }

    /// Takes out the oldest position of all, which has this subject.
    pub fn pop_front(&mut self, position: usize, prefix: &str, subject: &str) {
        keys(prefix, subject).for_each(|key| {
            let entry = self.lists.find_entry(HASH.hash_one(key), |list| *list.subject == *key);
            let Ok(mut entry) = entry else { return };
            let positions = &mut entry.get_mut().positions;
            if positions.front() == Some(&position) {
                positions.pop_front();
            }
            if positions.is_empty() {
                entry.remove();
            }
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.lists.clear();
    }

    /// Whether there is no position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// The positions of all these subjects (a family of topics is one) from `from` on, ascending, each once.
    pub fn merge(&self, keys: &[Key], from: usize) -> impl Iterator<Item = usize> {
        // Where nothing is found, which is often, nothing is allocated.
        let found = keys.iter().filter_map(|key| {
            let list = self.lists.find(key.hash, |list| list.subject == key.subject)?;
            let positions =
                Some(&list.positions).filter(|all| all.back().is_some_and(|last| *last >= from))?;
            Some(positions.range(positions.partition_point(|position| *position < from)..).copied())
        });
        let mut lists: Vec<_> = found.collect();
        let heads = lists.iter_mut().enumerate();
        let mut heap: BinaryHeap<_> =
            heads.filter_map(|(at, list)| Some(Reverse((list.next()?, at)))).collect();
        let mut last = None;
        std::iter::from_fn(move || {
            loop {
                let Reverse((position, at)) = heap.pop()?;
                heap.extend(lists[at].next().map(|next| Reverse((next, at))));
                if last.replace(position) != Some(position) {
                    return Some(position);
                }
            }
        })
    }
}

/// What a subject is found under.
fn keys<'a>(prefix: &str, subject: &'a str) -> impl Iterator<Item = &'a str> {
    [Some(subject), family(prefix, subject)].into_iter().flatten()
}

/// `<prefix>.<tenant>.topic`, of a subject `<prefix>.<tenant>.topic.<…>`.
fn family<'a>(prefix: &str, subject: &'a str) -> Option<&'a str> {
    let rest = subject.strip_prefix(prefix)?.strip_prefix('.')?;
    let (tenant, rest) = rest.split_once('.')?;
    rest.strip_prefix("topic.")?;
    Some(&subject[..prefix.len() + ".".len() + tenant.len() + ".topic".len()])
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SUBJECTS: [&str; 6] =
        ["p.t.all", "p.t.user.a", "p.t.user.b", "p.t.topic.x", "p.t.topic.x.y", "p.s.topic.x"];
    const KEYS: [&str; 8] = [
        "p.t.all",
        "p.t.user.a",
        "p.t.user.b",
        "p.t.topic.x",
        "p.t.topic.x.y",
        "p.s.topic.x",
        "p.t.topic",
        "p.s.topic",
    ];

    fn is_under(subject: &str, key: &str) -> bool {
        subject == key || family("p", subject) == Some(key)
    }

    #[test]
    fn a_family_holds_the_topics_of_one_tenant_and_nothing_else() {
        assert_eq!(family("p", "p.t.topic.x.y"), Some("p.t.topic"));
        for other in ["p.t.topics", "p.t.topic", "p.t.user.topic.x", "q.t.topic.x", "p.topic.x", "p"] {
            assert_eq!(family("p", other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn merging_finds_what_a_look_at_everything_finds(
            log in vec((1usize..4, 0..SUBJECTS.len()), 0..60),
            popped in 0usize..60,
            wanted in vec(0..KEYS.len(), 0..6),
            from in 0usize..120,
        ) {
            let (mut postings, mut naive, mut at) = (Postings::default(), Vec::new(), 0);
            for (step, subject) in log {
                at += step;
                postings.push(at, "p", SUBJECTS[subject]);
                naive.push((at, SUBJECTS[subject]));
            }
            for (position, subject) in naive.drain(..popped.min(naive.len())) {
                postings.pop_front(position, "p", subject);
            }
            let wanted: Vec<&str> = wanted.into_iter().map(|key| KEYS[key]).collect();
            let expected: Vec<usize> = naive
                .iter()
                .filter(|(position, subject)| *position >= from && wanted.iter().any(|key| is_under(subject, key)))
                .map(|(position, _)| *position)
                .collect();
            let keys: Vec<Key> = wanted.into_iter().map(|key| Key::from(key.to_owned())).collect();
            prop_assert_eq!(postings.merge(&keys, from).collect::<Vec<_>>(), expected);
            naive.iter().for_each(|(position, subject)| postings.pop_front(*position, "p", subject));
            prop_assert!(postings.is_empty());
        }
    }
}
