//! Asks the history service, over a plain NATS request, and takes its answer for what it may be worth.
//!
//! A pod asks so many questions at one time and holds so much of the answers; a client that gets no turn in
//! time is served as if there were no history. So neither a storm of clients that come back nor a service that
//! hangs costs more than a few requests, and nobody waits for anybody else's answer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::Request;
use sse_crds::delivery;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::Link;
use super::log::{Log, LogError};
use super::question::Unanswered;
use crate::cursor::{Cursor, Epoch};
use crate::history::{Outcome, Page, Question, Reply, Unusable};
use crate::hub::Membership;
use crate::seldom::Seldom;
use crate::telemetry::metrics::Metrics;

/// Questions at one time.
const QUESTIONS: usize = 64;
/// Memory of answers that were not written yet, in KiB.
const HELD: usize = 64 * 1024;
/// Largest answer, in bytes; or one of four large events.
const LARGEST: usize = 1024 * 1024;
/// All pages of one client may take so many times as long as one.
const PATIENCE: u32 = 10;
/// What a service says that follows NATS' own convention for errors.
const ERROR: &str = "Nats-Service-Error";

/// Why there is no answer that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("too many clients ask at the moment")]
    Busy,
    #[error("the service did not answer in time")]
    Late,
    #[error("nobody answers on the subject")]
    Absent,
    #[error("there is no connection to NATS")]
    Away,
    #[error("the beginning of the log is not known: {0}")]
    Log(#[from] LogError),
    #[error("the request failed: {0}")]
    Failed(String),
    #[error("the answer is larger than is taken")]
    TooLarge,
    #[error("the service has more than is taken, or events that have no place")]
    Gap,
    #[error("{0}")]
    Unusable(#[from] Unusable),
}

impl From<&HistoryError> for Outcome {
    fn from(error: &HistoryError) -> Self {
        match error {
            HistoryError::Busy => Self::Busy,
            HistoryError::Late => Self::Late,
            HistoryError::Absent => Self::Absent,
            HistoryError::Unusable(Unusable::Refused) => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// Where the log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The oldest that it keeps is this one.
    At(Cursor),
    /// Its leader is to be asked, in this life of the log.
    Unknown(Epoch),
}

/// An answer, and the room that it takes until it is written.
pub struct Answer {
    pub reply: Reply,
    /// The log began there when it was asked.
    pub before: Cursor,
    pub held: OwnedSemaphorePermit,
}

/// The history service of a gateway.
pub struct History {
    subject: String,
    timeout: Duration,
    /// Events of the service that one client gets, at most.
    pub most: usize,
    /// Whether clients without a cursor get history.
    pub on_first_connect: bool,
    largest: usize,
    log: Arc<Log>,
    link: OnceLock<Link>,
    turns: Semaphore,
    held: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    failures: Seldom,
    skips: Seldom,
}

impl History {
    /// `max_payload`: of an event, in bytes.
    #[must_use]
    pub fn new(
        spec: &delivery::History,
        max_payload: usize,
        log: Arc<Log>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            subject: spec.subject.clone(),
            timeout: Duration::from_secs(spec.timeout_seconds.into()),
            most: usize::try_from(spec.max_events).unwrap_or(usize::MAX),
            on_first_connect: spec.on_first_connect,
            largest: LARGEST.max(4 * max_payload),
            log,
            link: OnceLock::new(),
            turns: Semaphore::new(QUESTIONS),
            held: Arc::new(Semaphore::new(HELD)),
            metrics,
            failures: Seldom::default(),
            skips: Seldom::default(),
        })
    }

    /// Takes the connection to ask through.
    pub fn attach(&self, link: Link) {
        // There is one connection for the life of the process.
        let _ = self.link.set(link);
    }

    /// How long the service may take for all pages of one client.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.timeout * PATIENCE
    }

    /// Asks for what comes after an id and before the log.
    ///
    /// # Errors
    ///
    /// When there is no answer in time, within `patience` at most, or none that can be used.
    pub async fn ask(
        &self,
        of: &Membership,
        last_event_id: &str,
        edge: Edge,
        patience: Duration,
    ) -> Result<Answer, HistoryError> {
        let whole = self.timeout.min(patience);
        let begun = Instant::now();
        // Whoever gets a turn has time enough for an answer.
        let turn = timeout(whole / 2, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| HistoryError::Busy)?;
        let answered = timeout_at(begun + whole, async {
            let before = match edge {
                Edge::At(before) => before,
                Edge::Unknown(epoch) => Cursor::new(epoch, self.log.first().await?),
            };
            self.request(of, last_event_id, before).await
        });
        answered.await.map_err(|_| HistoryError::Late)?
    }

    async fn request(
        &self,
        of: &Membership,
        last_event_id: &str,
        before: Cursor,
    ) -> Result<Answer, HistoryError> {
        let failed = |error: &dyn std::fmt::Display| HistoryError::Failed(error.to_string());
        let link = self.link.get().ok_or(HistoryError::Away)?;
        let question =
            serde_json::to_vec(&Question::new(of, last_event_id, before)).map_err(|e| failed(&e))?;
        let request = Request::new().payload(question.into());
        let answer = link.ask(&self.subject, request, self.timeout).await.map_err(|error| match error {
            Unanswered::Away => HistoryError::Away,
            Unanswered::Late => HistoryError::Late,
            Unanswered::Absent => HistoryError::Absent,
            Unanswered::Failed(error) => failed(&error),
        })?;
        if answer.headers.is_some_and(|headers| headers.get(ERROR).is_some()) {
            return Err(Unusable::Refused.into());
        }
        let size = answer.payload.len();
        if size > self.largest {
            return Err(HistoryError::TooLarge);
        }
        let room = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX);
        let held = self.held.clone().try_acquire_many_owned(room).map_err(|_| HistoryError::Busy)?;
        Ok(Answer { reply: Reply::read(&answer.payload)?, before, held })
    }

    /// Notes how a client's way ended, and why it did not end well.
    pub fn ended(&self, outcome: Outcome, error: Option<&HistoryError>) {
        self.metrics.history.inc(outcome.as_str());
        let Some(error) = error else { return };
        if let Some(others) = self.failures.turn() {
            warn!(%error, others, "History was not served as asked for.");
        }
    }

    /// Notes what was left out of a page.
    pub fn skipped(&self, page: &Page) {
        let Some(first) = page.skipped.first() else { return };
        page.skipped.iter().for_each(|skip| self.metrics.history_skipped.inc(skip.as_str()));
        if let Some(others) = self.skips.turn() {
            let (reason, entries) = (first.as_str(), page.skipped.len());
            warn!(
                reason,
                entries, others, "The history service has events that can not be used; left them out."
            );
        }
    }
}
