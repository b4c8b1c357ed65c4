//! What the rest of the process, and the operator, may know of NATS.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::token::Tokens;

/// Shared, cheap to read.
#[derive(Default)]
pub struct Status {
    connected: AtomicBool,
    reached: AtomicBool,
    cursor_interval_ms: AtomicU64,
    last_sequence: Mutex<(u64, Option<Instant>)>,
    tokens: RwLock<Option<Tokens>>,
    last_error: Mutex<Option<String>>,
    problems: Mutex<BTreeMap<&'static str, String>>,
    server: Mutex<Server>,
}

/// What was found of the server while it serves: pods stay ready with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Why it can not do all that the configuration promises.
    pub unfit: Option<String>,
    /// What it did not permit.
    pub denied: Option<String>,
}

/// A reason why the gateway is not ready, as the operator shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub reason: String,
    pub message: String,
}

impl Problem {
    #[must_use]
    pub fn new(reason: &str, message: String) -> Self {
        Self { reason: reason.into(), message }
    }
}

impl Status {
    /// Whether handshakes can be served: connected, with stream and bucket at hand.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub fn set_connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
        self.reached.store(true, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Handshakes are refused from now on; the operator is told why.
    pub fn set_disconnected(&self, why: String) {
        self.connected.store(false, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Why handshakes are refused; `None` while they are not.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether NATS was reached, and stream and bucket were there, at least once.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// How often a quiet stream is told its position, so that no cursor ages out of the log.
    #[must_use]
    pub fn cursor_interval(&self) -> Duration {
        match self.cursor_interval_ms.load(Ordering::Relaxed) {
            0 => MAX_CURSOR_INTERVAL,
            ms => Duration::from_millis(ms),
        }
    }

    /// Takes how long the log holds a message. Answers whether that is so much less than before that streams that
    /// sleep until they are to be told of their place would sleep too long.
    #[must_use]
    pub fn set_span(&self, span: Duration) -> bool {
        let interval = (span / 4).clamp(Duration::from_secs(1), MAX_CURSOR_INTERVAL);
        let before = self.cursor_interval();
        let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.cursor_interval_ms.store(ms, Ordering::Relaxed);
        interval < before / 2
    }

    /// Last sequence of the stream that the leader spoke of.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.leader_had().0
    }

    /// Whether the leader, asked later than `since`, had nothing as late as `sequence`.
    #[must_use]
    pub fn leader_lacks(&self, sequence: u64, since: Instant) -> bool {
        let (last, asked) = self.leader_had();
        last < sequence && asked.is_some_and(|asked| asked > since)
    }

    /// Takes what the leader said when it was asked then.
    pub fn set_last_sequence(&self, sequence: u64, asked: Instant) {
        *self.last_sequence.lock().unwrap_or_else(PoisonError::into_inner) = (sequence, Some(asked));
    }

    fn leader_had(&self) -> (u64, Option<Instant>) {
        *self.last_sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where tokens are, once that was reached.
    #[must_use]
    pub fn tokens(&self) -> Option<Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_tokens(&self, tokens: Tokens) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Some(tokens);
    }

    /// Notes a problem; one for each reason.
    pub fn set_problem(&self, reason: &'static str, message: String) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).insert(reason, message);
    }

    pub fn clear_problem(&self, reason: &'static str) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).remove(reason);
    }

    #[must_use]
    pub fn server(&self) -> Server {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_server(&self, server: Server) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.iter().map(|(reason, message)| Problem::new(reason, message.clone())).collect()
    }
}

const MAX_CURSOR_INTERVAL: Duration = Duration::from_mins(1);
