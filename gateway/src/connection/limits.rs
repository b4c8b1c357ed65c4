//! How many streams there may be: per user and per pod. A slot is taken in one step, and given back
//! when it is dropped, on whatever way out.
//!
//! A user has streams at several pods, which [tell each other](crate::nats::pods). A pod tells of a user who has more
//! than one stream there, and of whom another pod tells: most have one, and cost nothing. What it hears is a moment
//! old, so a user may have one stream more than the limit across pods: the one that took the place of another.

mod elsewhere;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::auth::Identity;
use crate::subject::Token;
use elsewhere::Elsewhere;

/// Up to this limit a pod tells of each user, since few streams are many then.
const LOW: u32 = 3;
/// Users that may wait until they are told of.
const MOST_NEWS: usize = 100_000;

/// A tenant and one of its users.
pub type User = (Token, Token);

/// The counts of a pod.
pub struct Limits {
    per_user: u32,
    per_pod: u32,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: u32,
    users: HashMap<User, u32>,
    elsewhere: Elsewhere,
    /// Users whose streams are to be told to the other pods.
    news: HashSet<User>,
}

impl Counts {
    fn own(&self, user: &User) -> u32 {
        self.users.get(user).copied().unwrap_or_default()
    }

    /// Notes that a user is to be told of.
    fn note(&mut self, user: &User) {
        if self.news.len() < MOST_NEWS {
            self.news.insert(user.clone());
        }
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("Too many concurrent SSE connections.")]
    User,
    /// With those at other pods, as far as is known: they may have ended, with their pod.
    #[error("Too many concurrent SSE connections.")]
    Elsewhere,
    #[error("This pod has no room for another connection.")]
    Pod,
}

/// The right to one stream.
pub struct Slot {
    limits: Arc<Limits>,
    user: User,
}

impl Limits {
    #[must_use]
    pub fn new(per_user: u32, per_pod: u32) -> Arc<Self> {
        Arc::new(Self { per_user, per_pod, counts: Mutex::default() })
    }

    /// Streams that the pod may have.
    #[must_use]
    pub const fn per_pod(&self) -> u32 {
        self.per_pod
    }

    /// Whether the pod has room for another stream at the moment.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn check_room(&self) -> Result<(), Full> {
        if self.total() >= self.per_pod { Err(Full::Pod) } else { Ok(()) }
    }

    /// Takes a slot.
    ///
    /// # Errors
    ///
    /// When the user or the pod has as many streams as it may.
    pub fn take(self: &Arc<Self>, identity: &Identity) -> Result<Slot, Full> {
        let mut counts = self.counts();
        if counts.total >= self.per_pod {
            return Err(Full::Pod);
        }
        let user = (identity.tenant.clone(), identity.user.clone());
        let (own, elsewhere) = (counts.own(&user), counts.elsewhere.streams(&user));
        if own >= self.per_user {
            return Err(Full::User);
        }
        if elsewhere > 0 && own.saturating_add(elsewhere) > self.per_user {
            return Err(Full::Elsewhere);
        }
        counts.users.insert(user.clone(), own + 1);
        counts.total += 1;
        if self.are_worth_telling(own + 1, elsewhere) {
            counts.note(&user);
        }
        Ok(Slot { limits: self.clone(), user })
    }

    /// Open streams of this pod.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.counts().total
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams of a user of whom the others are told, whatever they have of him.
    const fn worth_telling(&self) -> u32 {
        if self.per_user <= LOW { 1 } else { 2 }
    }

    /// Whether the others are told of a user with so many streams here and at them.
    const fn are_worth_telling(&self, own: u32, elsewhere: u32) -> bool {
        own >= self.worth_telling() || elsewhere > 0
    }

    /// Takes users, at most so many, of whom the other pods are to be told, and how many streams each has here.
    #[must_use]
    pub fn news(&self, most: usize) -> Vec<(User, u32)> {
        let mut counts = self.counts();
        let users: Vec<User> = counts.news.iter().take(most).cloned().collect();
        for user in &users {
            counts.news.remove(user);
        }
        if counts.news.is_empty() {
            // A storm is no reason to keep room for the next one.
            counts.news = HashSet::new();
        }
        users.into_iter().map(|user| (user.clone(), counts.own(&user))).collect()
    }

    /// Makes news of all users whom it is worth telling of: another pod may not know them.
    pub fn tell_again(&self) {
        let mut counts = self.counts();
        let Counts { users, elsewhere, news, .. } = &mut *counts;
        let told = users
            .iter()
            .filter(|(user, own)| self.are_worth_telling(**own, elsewhere.streams(user)))
            .map(|(user, _)| user);
        for user in told.take(MOST_NEWS) {
            news.insert(user.clone());
        }
    }

    /// Takes what another pod tells.
    pub fn hear(&self, pod: &str, told: impl IntoIterator<Item = (User, u32)>, now: Instant) {
        let (pod, mut counts) = (Arc::from(pod), self.counts());
        for (user, streams) in told {
            let is_new = counts.elsewhere.hear(&pod, &user, streams, now);
            // Where others have none of him, one of ours was not worth telling.
            if is_new && (1..self.worth_telling()).contains(&counts.own(&user)) {
                counts.note(&user);
            }
        }
    }

    /// Forgets what pods told that are gone, and what is old.
    pub fn forget(&self, gone: impl Fn(&str) -> bool, now: Instant) {
        self.counts().elsewhere.forget(gone, now);
    }
}

impl Slot {
    /// Tenant of the one whose it is.
    #[must_use]
    pub const fn tenant(&self) -> &Token {
        &self.user.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.limits.counts();
        counts.total -= 1;
        let own = counts.own(&self.user);
        if own > 1 {
            counts.users.insert(self.user.clone(), own - 1);
        } else {
            counts.users.remove(&self.user);
        }
        if self.limits.are_worth_telling(own, counts.elsewhere.streams(&self.user)) {
            counts.note(&self.user);
        }
    }
}

#[cfg(test)]
mod tests;
