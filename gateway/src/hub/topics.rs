//! Who is subscribed to which topics of one tenant: a tree of levels, so that an event finds the
//! patterns that it fits without looking at the others.

use std::collections::HashMap;

use crate::subject::Pattern;

/// Subscriptions, by pattern.
pub struct Topics<T> {
    root: Node<T>,
}

struct Node<T> {
    /// Of patterns that end here.
    here: Vec<T>,
    /// Of patterns that go on with `>`.
    rest: Vec<T>,
    /// Patterns that go on with `*`.
    any: Option<Box<Self>>,
    /// Patterns that go on with a level of this name.
    levels: HashMap<Box<str>, Self>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { here: Vec::new(), rest: Vec::new(), any: None, levels: HashMap::new() }
    }
}

impl<T> Default for Topics<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Topics<T> {
    pub fn insert(&mut self, pattern: &Pattern, receiver: T) {
        let mut node = &mut self.root;
        for level in pattern.levels() {
            node = match level {
                ">" => {
                    node.rest.push(receiver);
                    return;
                }
                "*" => node.any.get_or_insert_default(),
                level => node.levels.entry(level.into()).or_default(),
            };
        }
        node.here.push(receiver);
    }

    /// Takes out who is meant, and what that leaves empty.
    pub fn remove(&mut self, pattern: &Pattern, is_meant: impl Fn(&T) -> bool) {
        let levels: Vec<&str> = pattern.levels().collect();
        self.root.remove(&levels, &is_meant);
    }

    /// Calls `tell` with the receivers of each pattern that a topic fits.
    pub fn each(&self, topic: &str, tell: &mut impl FnMut(&[T])) {
        self.root.each(topic, tell);
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

// The recursion is as deep as a topic has levels, which `subject::topic` bounds.
impl<T> Node<T> {
    fn remove(&mut self, levels: &[&str], is_meant: &impl Fn(&T) -> bool) {
        match levels {
            [] => self.here.retain(|receiver| !is_meant(receiver)),
            [">"] => self.rest.retain(|receiver| !is_meant(receiver)),
            ["*", levels @ ..] => {
                if let Some(node) = &mut self.any {
                    node.remove(levels, is_meant);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
            [level, levels @ ..] => {
                if let Some(node) = self.levels.get_mut(*level) {
                    node.remove(levels, is_meant);
                    if node.is_empty() {
                        self.levels.remove(*level);
                    }
                }
            }
        }
    }

    fn each(&self, topic: &str, tell: &mut impl FnMut(&[T])) {
        tell(&self.rest);
        let (level, rest) = topic.split_once('.').map_or((topic, None), |(level, rest)| (level, Some(rest)));
        for node in [self.any.as_deref(), self.levels.get(level)].into_iter().flatten() {
            match rest {
                Some(rest) => node.each(rest, tell),
                None => tell(&node.here),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.rest.is_empty() && self.any.is_none() && self.levels.is_empty()
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
                    topics.insert(&pattern, i);
                    all.push((i, pattern));
                }
            }
            let (gone, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(i, _)| leaving[*i]);
            gone.iter().for_each(|(i, pattern)| topics.remove(pattern, |other| other == i));
            let topic = topic.join(".");
            let mut found = Vec::new();
            topics.each(&topic, &mut |receivers: &[usize]| found.extend_from_slice(receivers));
            found.sort_unstable();
            let fit: Vec<usize> = left.iter().filter(|(_, p)| p.matches(&topic)).map(|(i, _)| *i).collect();
            prop_assert_eq!(found, fit);
            left.iter().for_each(|(i, pattern)| topics.remove(pattern, |other| other == i));
            prop_assert!(topics.is_empty());
        }
    }
}
