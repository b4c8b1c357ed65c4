//! How many streams there may be: per user and per pod. A slot is taken in one step, and given back
//! when it is dropped, on whatever way out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Identity;
use crate::subject::Token;

/// The counts of a pod.
pub struct Limits {
    per_user: u32,
    per_pod: u32,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: u32,
    users: HashMap<(Token, Token), u32>,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("Too many concurrent SSE connections.")]
    User,
    #[error("This pod has no room for another connection.")]
    Pod,
}

/// The right to one stream.
pub struct Slot {
    limits: Arc<Limits>,
    user: (Token, Token),
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
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= self.per_pod {
            return Err(Full::Pod);
        }
        let user = (identity.tenant.clone(), identity.user.clone());
        let count = counts.users.entry(user.clone()).or_default();
        if *count >= self.per_user {
            return Err(Full::User);
        }
        *count += 1;
        counts.total += 1;
        Ok(Slot { limits: self.clone(), user })
    }

    /// Open streams of this pod.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).total
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
        let mut counts = self.limits.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(count) = counts.users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: &str) -> Identity {
        let token = |text| Token::encode(text).expect("a short id");
        Identity {
            tenant: token("t"),
            user: token(user),
            topics: Vec::new(),
            publish: Vec::new(),
            tags: std::collections::BTreeMap::new(),
            expires: 0,
        }
    }

    #[test]
    fn of_many_racers_as_many_win_as_there_are_slots() {
        let limits = Limits::new(10, 15);
        let race = |user: &'static str| {
            let limits = limits.clone();
            std::thread::spawn(move || limits.take(&identity(user)))
        };
        let racers: Vec<_> = (0..40).map(|_| race("a")).collect();
        let slots: Vec<_> =
            racers.into_iter().filter_map(|racer| racer.join().expect("no panic").ok()).collect();
        assert_eq!((slots.len(), limits.total()), (10, 10));
        assert_eq!(limits.take(&identity("a")).err(), Some(Full::User));
        let others: Vec<_> = (0..5).map(|_| limits.take(&identity("b"))).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(limits.take(&identity("c")).err(), Some(Full::Pod));
        drop((slots, others));
        assert_eq!(limits.total(), 0);
        assert!(limits.counts.lock().expect("no panic").users.is_empty());
    }
}
