//! How many streams users have at the other pods of their gateway, as far as those tell.
//!
//! What was told is forgotten when it is not told again for a while, and with the pod that told it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::User;

/// What a pod tells, it tells again in less time.
const STALE: Duration = Duration::from_secs(90);
/// Users that are remembered.
const MOST: usize = 100_000;

/// What the other pods told.
#[derive(Default)]
pub(super) struct Elsewhere {
    users: HashMap<User, Vec<Told>>,
}

struct Told {
    pod: Arc<str>,
    streams: u32,
    at: Instant,
}

impl Elsewhere {
    /// Streams of a user at all of them.
    pub fn streams(&self, user: &User) -> u32 {
        let told = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        told.iter().fold(0, |sum, told| sum.saturating_add(told.streams))
    }

    /// Takes what a pod tells of a user. Answers whether that is the first that is known of the user.
    pub fn hear(&mut self, pod: &Arc<str>, user: &User, streams: u32, now: Instant) -> bool {
        let is_new = !self.users.contains_key(user);
        if is_new && (streams == 0 || self.users.len() >= MOST) {
            return false;
        }
        let told = self.users.entry(user.clone()).or_default();
        told.retain(|told| told.pod != *pod);
        if streams > 0 {
            told.push(Told { pod: pod.clone(), streams, at: now });
        } else if told.is_empty() {
            self.users.remove(user);
        }
        is_new
    }

    /// Forgets what is stale, and what those pods told.
    pub fn forget(&mut self, gone: impl Fn(&str) -> bool, now: Instant) {
        self.users.retain(|_, told| {
            told.retain(|told| now.duration_since(told.at) < STALE && !gone(&told.pod));
            !told.is_empty()
        });
        self.users.shrink_to(self.users.len() * 2);
    }
}
