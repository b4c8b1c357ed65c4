//! The keys of an issuer that publishes them: fetched in the background, one fetch at a time.
//!
//! Each issuer has a cache of its own, so a key id means nothing beyond its issuer. Keys are served
//! from memory and stay while the issuer is away; a key that the issuer removed goes with the next
//! fetch that succeeds. A token with an unknown key id asks for a fetch: all who wait share it, and
//! however many ask, the issuer sees at most one such fetch in ten seconds.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::Unauthorized;
use super::fetch::{DEADLINE, FetchError, Fetched, Source};
use super::jwks::KeySet;
use super::jwt::VerifyError;
use crate::secret::Bytes;

/// Time between two fetches that tokens asked for.
const ASK_GAP: Duration = Duration::from_secs(10);
/// A request waits this long for a fetch.
const WAIT: Duration = DEADLINE.saturating_add(Duration::from_secs(1));
/// Time between two fetches when the issuer does not say how long its keys are good.
const REFRESH: Duration = Duration::from_mins(10);
/// What an issuer says is honoured within these bounds.
const SHORTEST_REFRESH: Duration = Duration::from_mins(1);
const LONGEST_REFRESH: Duration = Duration::from_hours(1);
/// After a failure: the first pause, which doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// How often the authority is looked at after a failure.
const AUTHORITY: Duration = Duration::from_secs(2);

/// The cached keys of one issuer.
pub struct Remote {
    field: String,
    source: Source,
    state: watch::Sender<State>,
    /// Told by a request that a fetch is wanted.
    asked: Notify,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Why the last fetch failed; `None` when it did not.
    error: Option<String>,
    /// When the last fetch began.
    began: Option<Instant>,
    fetching: bool,
    /// How many fetches have ended.
    fetches: u64,
}

impl State {
    fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Option<DecodingKey> {
        self.keys.as_ref()?.find(algorithm, id).cloned()
    }

    /// Whether a request may ask for a fetch now.
    fn may_ask(&self) -> bool {
        self.began.is_none_or(|began| began.elapsed() >= ASK_GAP)
    }
}

impl Remote {
    /// `field` names the setting in what the operator reads.
    #[must_use]
    pub fn new(field: String, source: Source) -> Self {
        Self { field, source, state: watch::Sender::default(), asked: Notify::new() }
    }

    /// The key for a token with this header; waits for a fetch when it may bring the key.
    ///
    /// # Errors
    ///
    /// When the issuer has no such key, or could not be asked.
    pub async fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Result<DecodingKey, VerifyError> {
        let mut state = self.state.subscribe();
        let (found, fetching, may_ask, seen) = {
            let state = state.borrow();
            (state.find(algorithm, id), state.fetching, state.may_ask(), state.fetches)
        };
        if let Some(key) = found {
            return Ok(key);
        }
        if fetching || may_ask {
            if !fetching {
                self.asked.notify_one();
            }
            // Whether it came in time is seen in the state.
            let _ = timeout(WAIT, state.wait_for(|state| state.fetches > seen)).await;
        }
        let state = state.borrow();
        match state.find(algorithm, id) {
            Some(key) => Ok(key),
            // The token may be good, and its key new: only the issuer could tell.
            None if state.keys.is_none() || state.error.is_some() => Err(VerifyError::Unreachable),
            None => Err(Unauthorized::Key.into()),
        }
    }

    /// Keeps the keys fresh, for ever.
    pub async fn keep(&self) {
        let mut failures = 0_u32;
        loop {
            self.state.send_modify(|state| {
                state.fetching = true;
                state.began = Some(Instant::now());
            });
            let authority = self.source.authority();
            let fetched = self.source.fetch().await;
            let pause = if let Ok(fetched) = &fetched {
                failures = 0;
                fetched.max_age.map_or(REFRESH, |age| age.clamp(SHORTEST_REFRESH, LONGEST_REFRESH))
            } else {
                failures += 1;
                (FIRST_RETRY * (1 << (failures - 1).min(10))).min(LONGEST_RETRY)
            };
            self.take(fetched);
            // Pods that started together do not stay together.
            let rest = self.rest(pause.mul_f64(rand::random_range(0.8..=1.0)));
            tokio::select! {
                () = rest => {}
                () = self.other_authority(authority), if failures > 0 => failures = 0,
            }
        }
    }

    fn take(&self, fetched: Result<Fetched, FetchError>) {
        let field = &self.field;
        self.state.send_modify(|state| {
            state.fetching = false;
            state.fetches += 1;
            match fetched {
                Ok(Fetched { keys, .. }) => {
                    if state.keys.is_none() || state.error.is_some() {
                        info!(%field, keys = keys.len(), "The keys of the issuer were fetched.");
                    } else {
                        debug!(%field, keys = keys.len(), "The keys of the issuer were fetched again.");
                    }
                    state.error = None;
                    state.keys = Some(Arc::new(keys));
                }
                Err(error) => {
                    let error = error.to_string();
                    if state.error.as_ref() != Some(&error) {
                        warn!(%field, %error, "The keys of the issuer could not be fetched.");
                    }
                    state.error = Some(error);
                }
            }
        });
    }

    /// Rests until it is time, or until a request asks for a fetch and one may be.
    async fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.asked.notified() => if self.state.borrow().may_ask() {
                    return;
                }
            }
        }
    }

    /// Waits until the authority is another one: what failed with the last may not wait for its turn.
    async fn other_authority(&self, last: Option<Bytes>) {
        while self.source.authority() == last {
            sleep(AUTHORITY).await;
        }
    }

    /// Whether keys are at hand, be they old.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.state.borrow().keys.is_some()
    }

    /// Why the last fetch failed, with the field; `None` when it did not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.state.borrow().error.as_ref().map(|error| format!("{}: {error}", self.field))
    }
}
