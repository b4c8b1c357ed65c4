//! Where in a part of the log each subject occurs: a client's events are found without a look at
//! anybody else's.
//!
//! Positions are sequences. They are pushed in ascending order and leave from the oldest on, so the
//! same type serves a page of the log and the ring, which is a window that slides.
//!
//! A topic `<prefix>.<tenant>.topic.<…>` stands under its own subject and under its family
//! `<prefix>.<tenant>.topic`, for clients that listen to a pattern of topics.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use foldhash::fast::RandomState;

/// The positions of each subject. A subject that has none left is gone.
#[derive(Clone, Debug, Default)]
pub struct Postings {
    /// Thousands look here for a few subjects each: the standard hash would be a third of their time.
    lists: HashMap<Box<str>, VecDeque<u64>, RandomState>,
}

impl Postings {
    /// Adds a position, which is above all others.
    pub fn push(&mut self, position: u64, prefix: &str, subject: &str) {
        keys(prefix, subject).for_each(|key| match self.lists.get_mut(key) {
            Some(list) => list.push_back(position),
            None => {
                self.lists.insert(key.into(), VecDeque::from([position]));
            }
        });
    }

    /// Takes out the oldest position of all, which has this subject.
    pub fn pop_front(&mut self, position: u64, prefix: &str, subject: &str) {
        keys(prefix, subject).for_each(|key| {
            let Some(list) = self.lists.get_mut(key) else { return };
            if list.front() == Some(&position) {
                list.pop_front();
            }
            if list.is_empty() {
                self.lists.remove(key);
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

    /// The positions of all these subjects (a family of topics is one) above `after`, ascending, each once.
    pub fn merge<'a>(
        &'a self,
        subjects: impl IntoIterator<Item = &'a str>,
        after: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        // Where nothing is found, which is often, nothing is allocated.
        let found = subjects.into_iter().filter_map(|subject| {
            let list =
                self.lists.get(subject).filter(|list| list.back().is_some_and(|last| *last > after))?;
            Some(list.range(list.partition_point(|position| *position <= after)..).copied())
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
            log in vec((1u64..4, 0..SUBJECTS.len()), 0..60),
            popped in 0usize..60,
            wanted in vec(0..KEYS.len(), 0..6),
            after in 0u64..120,
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
            let keys: Vec<&str> = wanted.into_iter().map(|key| KEYS[key]).collect();
            let expected: Vec<u64> = naive
                .iter()
                .filter(|(position, subject)| *position > after && keys.iter().any(|key| is_under(subject, key)))
                .map(|(position, _)| *position)
                .collect();
            prop_assert_eq!(postings.merge(keys, after).collect::<Vec<_>>(), expected);
            naive.iter().for_each(|(position, subject)| postings.pop_front(*position, "p", subject));
            prop_assert!(postings.is_empty());
        }
    }
}
