//! Dead letters: each event that was refused is published again to `<prefix>-dead.<tenant>`, with the
//! reason and its sequence, so that its publisher can find out. At least once: every pod does it, and does
//! it again when the connection was lost; the sequence is the key that tells copies apart.
//!
//! A publish that was written is not one that arrived. So after some letters the server is asked something on the
//! same connection: what it answers it answers after it has read the letters.

use std::sync::Arc;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{HeaderMap, Request, Subject};
use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Link;
use super::question::Unanswered;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Entry, Message, Refusal};
use crate::hub::Hub;
use crate::seldom::Seldom;
use crate::subject::{self, MAX_TOKEN};
use crate::telemetry::metrics::Counter;

/// Letters that may wait. Whoever brings one more waits, so none is lost.
const WAITING: usize = 1024;
/// Memory of the payloads that may wait, in KiB.
const WAITING_KIB: u32 = 32 * 1024;
/// Letters that are published before the server is asked whether it has them.
const TOGETHER: usize = 64;
/// How long NATS may take to take them.
const DEADLINE: Duration = Duration::from_secs(5);
/// Wait before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// Bytes of a subject that are quoted in a letter. A longer one is in the log, under its sequence.
const QUOTED: usize = 1024;
/// Bytes that the headers of a letter may have.
const HEADERS: usize = 4096;

/// An event that was refused.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub sequence: u64,
    pub subject: Subject,
    pub payload: Bytes,
    pub refusal: Refusal,
}

/// A letter on its way, of a life of the log.
struct Waiting {
    epoch: Epoch,
    letter: DeadLetter,
    /// What its payload takes.
    _room: Option<OwnedSemaphorePermit>,
}

/// Where refused events go.
pub struct DeadLetters {
    /// `<prefix>`
    prefix: String,
    sender: mpsc::Sender<Waiting>,
    /// Taken by [`DeadLetters::run`].
    receiver: Mutex<mpsc::Receiver<Waiting>>,
    /// For payloads, in KiB.
    room: Arc<Semaphore>,
    refused: Counter,
}

/// Why a letter did not go out.
enum Undelivered {
    /// It never will.
    Impossible(String),
    Away,
}

impl DeadLetters {
    #[must_use]
    pub fn new(prefix: String, refused: Counter) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let room = Arc::new(Semaphore::new(WAITING_KIB as usize));
        Arc::new(Self { prefix, sender, receiver: Mutex::new(receiver), room, refused })
    }

    /// Events that were refused, since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Gives the hub its next message, and takes it when nobody may get it.
    pub async fn hand_over(&self, hub: &Hub, entry: Arc<Entry>) {
        if let Err(refusal) = hub.push(&entry) {
            let Message { sequence, subject, payload, .. } = entry.message.clone();
            self.refuse(hub, DeadLetter { sequence, subject, payload, refusal }).await;
        }
    }

    /// Takes a refused event; waits while too many wait.
    pub async fn refuse(&self, hub: &Hub, letter: DeadLetter) {
        let Some(epoch) = hub.epoch() else { return };
        // Events do not wait for the dead.
        hub.uncork();
        self.refused.inc();
        let kib = u32::try_from(letter.payload.len().div_ceil(1024)).unwrap_or(u32::MAX).min(WAITING_KIB);
        // Neither is ever closed: they live as long as `self`.
        let room = self.room.clone().acquire_many_owned(kib).await.ok();
        let _ = self.sender.send(Waiting { epoch, letter, _room: room }).await;
    }

    /// Publishes what comes, for ever. To `question` the server has an answer, whatever that is; without one a letter
    /// that was written counts as delivered.
    pub async fn run(&self, link: &Link, question: Option<String>) {
        let mut receiver = self.receiver.lock().await;
        let (lines, mut letters) = (Seldom::default(), Vec::with_capacity(TOGETHER));
        while receiver.recv_many(&mut letters, TOGETHER).await > 0 {
            for Waiting { letter: DeadLetter { sequence, refusal, .. }, .. } in &letters {
                debug!(sequence, reason = %refusal, "Refused an event.");
                if let Some(others) = lines.turn() {
                    warn!(sequence, reason = %refusal, others, "Refused an event; it is a dead letter.");
                }
            }
            self.deliver(link, &mut letters, question.as_deref()).await;
            letters.clear();
        }
    }

    /// Publishes letters over a connection that lived through it.
    async fn deliver(&self, link: &Link, letters: &mut Vec<Waiting>, question: Option<&str>) {
        loop {
            let generation = link.up().await;
            let delivered = tokio::select! {
                delivered = timeout(DEADLINE, self.publish_all(link, letters, question)) => matches!(delivered, Ok(Ok(()))),
                () = link.lost(generation) => false,
            };
            let state = link.state.borrow().clone();
            if delivered && state.connected && state.generation == generation {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    async fn publish_all(
        &self,
        link: &Link,
        letters: &mut Vec<Waiting>,
        question: Option<&str>,
    ) -> Result<(), Undelivered> {
        let mut at = 0;
        while let Some(Waiting { epoch, letter, .. }) = letters.get(at) {
            match self.publish(link, *epoch, letter).await {
                Ok(()) => at += 1,
                Err(Undelivered::Impossible(error)) => {
                    warn!(
                        sequence = letter.sequence,
                        error, "A dead letter can not be published; the log has the event."
                    );
                    letters.remove(at);
                }
                Err(away) => return Err(away),
            }
        }
        link.client().flush().await.map_err(|_| Undelivered::Away)?;
        let Some(question) = question else { return Ok(()) };
        match link.ask(question, Request::new(), DEADLINE).await {
            // That there is nobody to ask is the server's own answer.
            Ok(_) | Err(Unanswered::Absent) => Ok(()),
            Err(_) => Err(Undelivered::Away),
        }
    }

    async fn publish(&self, link: &Link, epoch: Epoch, letter: &DeadLetter) -> Result<(), Undelivered> {
        let tenant = subject::below(&self.prefix, &letter.subject).map(|(tenant, _)| tenant);
        // Not every token that can be published to can be published to from here.
        let fits = |tenant: &&str| {
            (1..=MAX_TOKEN).contains(&tenant.len()) && tenant.bytes().all(|b| b.is_ascii_graphic())
        };
        let subject = format!("{}-dead.{}", self.prefix, tenant.filter(fits).unwrap_or("_unknown"));
        let key = Cursor::new(epoch, letter.sequence).to_string();
        let quoted = letter.subject.floor_char_boundary(QUOTED);
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", key.as_str());
        headers.insert("Sse-Dead-Sequence", letter.sequence.to_string().as_str());
        headers.insert("Sse-Dead-Subject", &letter.subject[..quoted]);
        headers.insert("Sse-Dead-Reason", letter.refusal.to_string().as_str());
        // The headers must fit beside it. What does not is in the log, under its sequence.
        let client = link.client();
        let fits = letter.payload.len() <= client.server_info().max_payload.saturating_sub(HEADERS);
        if !fits || quoted < letter.subject.len() {
            headers.insert("Sse-Dead-Truncated", "true");
        }
        let payload = if fits { letter.payload.clone() } else { Bytes::new() };
        let published = client.publish_with_headers(subject, headers, payload).await;
        published.map_err(|error| match error.kind() {
            PublishErrorKind::Send => Undelivered::Away,
            _ => Undelivered::Impossible(error.to_string()),
        })
    }
}
