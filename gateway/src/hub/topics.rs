//! Who is subscribed to which topics of one tenant: a tree of levels, so that an event finds the
//! patterns that it fits without looking at the others.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

use crate::subject::Pattern;

/// Subscriptions, by pattern: receivers by what takes them out again, since thousands may leave one topic at once.
pub struct Topics<K, T> {
    root: Node<K, T>,
}

/// Receivers of one pattern.
type Receivers<K, T> = HashMap<K, T, RandomState>;

struct Node<K, T> {
    /// Of patterns that end here.
    here: Receivers<K, T>,
    /// Of patterns that go on with `>`.
    rest: Receivers<K, T>,
    /// Patterns that go on with `*`.
    any: Option<Box<Self>>,
    /// Patterns that go on with a level of this name.
    levels: HashMap<Box<str>, Self>,
}

impl<K, T> Default for Node<K, T> {
    fn default() -> Self {
        Self { here: HashMap::default(), rest: HashMap::default(), any: None, levels: HashMap::new() }
    }
}

impl<K, T> Default for Topics<K, T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<K: Eq + Hash, T> Topics<K, T> {
    pub fn insert(&mut self, pattern: &Pattern, key: K, receiver: T) {
        let mut node = &mut self.root;
        for level in pattern.levels() {
            node = match level {
                ">" => {
                    node.rest.insert(key, receiver);
                    return;
                }
                "*" => node.any.get_or_insert_default(),
                level => node.levels.entry(level.into()).or_default(),
            };
        }
        node.here.insert(key, receiver);
    }

    /// Takes out who is meant, and what that leaves empty.
    pub fn remove(&mut self, pattern: &Pattern, key: &K) {
        let levels: Vec<&str> = pattern.levels().collect();
        self.root.remove(&levels, key);
    }

    /// Calls `tell` with the receivers of each pattern that a topic fits.
    pub fn each(&self, topic: &str, tell: &mut impl FnMut(&T)) {
        self.root.each(topic, tell);
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

// The recursion is as deep as a topic has levels, which `subject::topic` bounds.
impl<K: Eq + Hash, T> Node<K, T> {
    fn remove(&mut self, levels: &[&str], key: &K) {
        match levels {
            [] => take(&mut self.here, key),
            [">"] => take(&mut self.rest, key),
            ["*", levels @ ..] => {
                if let Some(node) = &mut self.any {
                    node.remove(levels, key);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
            [level, levels @ ..] => {
                if let Some(node) = self.levels.get_mut(*level) {
                    node.remove(levels, key);
                    if node.is_empty() {
                        self.levels.remove(*level);
                    }
                }
            }
        }
    }

    fn each(&self, topic: &str, tell: &mut impl FnMut(&T)) {
        self.rest.values().for_each(&mut *tell);
        let (level, rest) = topic.split_once('.').map_or((topic, None), |(level, rest)| (level, Some(rest)));
        for node in [self.any.as_deref(), self.levels.get(level)].into_iter().flatten() {
            match rest {
                Some(rest) => node.each(rest, tell),
                None => node.here.values().for_each(&mut *tell),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.rest.is_empty() && self.any.is_none() && self.levels.is_empty()
    }
}

/// Takes one out, and gives back the room of a crowd that has left.
fn take<K: Eq + Hash, T>(receivers: &mut Receivers<K, T>, key: &K) {
    receivers.remove(key);
    if receivers.len() < receivers.capacity() / 8 {
        receivers.shrink_to(receivers.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec!["a", "b", "*", ">"])
    }

    proptest! {
        /// The tree finds whom looking at each pattern would find, and keeps nothing of those who left.
        #[test]
        fn the_tree_is_the_patterns(
            patterns in proptest::collection::vec(proptest::collection::vec(level(), 1..4), 0..12),
            topic in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c"]), 1..5),
            leaving in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let mut topics = Topics::default();
            let mut all: Vec<(usize, Pattern)> = Vec::new();
            for (i, levels) in patterns.iter().enumerate() {
                if let Ok(pattern) = Pattern::parse(&levels.join(".")) {
                    topics.insert(&pattern, i, i);
                    all.push((i, pattern));
                }
            }
            let (gone, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(i, _)| leaving[*i]);
            gone.iter().for_each(|(i, pattern)| topics.remove(pattern, i));
            let topic = topic.join(".");
            let mut found = Vec::new();
            topics.each(&topic, &mut |receiver: &usize| found.push(*receiver));
            found.sort_unstable();
            let fit: Vec<usize> = left.iter().filter(|(_, p)| p.matches(&topic)).map(|(i, _)| *i).collect();
            prop_assert_eq!(found, fit);
            left.iter().for_each(|(i, pattern)| topics.remove(pattern, i));
            prop_assert!(topics.is_empty());
        }
    }
}
