//! Dead letters: each event that was refused is published again to `<prefix>-dead.<tenant>`, with the
//! reason and its sequence, so that its publisher can find out. At least once: every pod does it, and does
//! it again when the connection was lost; the sequence is the key that tells copies apart.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Link;
use crate::cursor::{Cursor, Epoch};
use crate::event::{Entry, Message, Refusal};
use crate::hub::Hub;
use crate::seldom::Seldom;
use crate::subject;
use crate::telemetry::metrics::Counter;

/// Letters that may wait. Whoever brings one more waits, so none is lost.
const WAITING: usize = 1024;
/// How long NATS may take to take one.
const DEADLINE: Duration = Duration::from_secs(5);

/// An event that was refused.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub sequence: u64,
    pub subject: Subject,
    pub payload: Bytes,
    pub refusal: Refusal,
}

/// Where refused events go.
pub struct DeadLetters {
    /// `<prefix>`
    prefix: String,
    sender: mpsc::Sender<(Epoch, DeadLetter)>,
    /// Taken by [`DeadLetters::run`].
    receiver: Mutex<mpsc::Receiver<(Epoch, DeadLetter)>>,
    refused: Counter,
}

impl DeadLetters {
    #[must_use]
    pub fn new(prefix: String, refused: Counter) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        Arc::new(Self { prefix, sender, receiver: Mutex::new(receiver), refused })
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
        // The receiver lives as long as `self`.
        let _ = self.sender.send((epoch, letter)).await;
    }

    /// Publishes what comes, for ever.
    pub async fn run(&self, link: &Link) {
        let mut receiver = self.receiver.lock().await;
        let lines = Seldom::default();
        while let Some((epoch, letter)) = receiver.recv().await {
            let DeadLetter { sequence, refusal, .. } = letter;
            debug!(sequence, reason = %refusal, "Refused an event.");
            if let Some(others) = lines.turn() {
                warn!(sequence, reason = %refusal, others, "Refused an event; it is a dead letter.");
            }
            self.deliver(link, epoch, &letter).await;
        }
    }

    /// Publishes a letter over a connection that lived through it.
    async fn deliver(&self, link: &Link, epoch: Epoch, letter: &DeadLetter) {
        loop {
            let before = link.state.borrow().clone();
            let published = timeout(DEADLINE, self.publish(link, epoch, letter)).await;
            let after = link.state.borrow().clone();
            if matches!(published, Ok(Ok(()))) && before.connected && before == after {
                return;
            }
            link.up().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn publish(&self, link: &Link, epoch: Epoch, letter: &DeadLetter) -> Result<(), String> {
        let tenant = subject::below(&self.prefix, &letter.subject).map(|(tenant, _)| tenant);
        // Not every token that can be published to can be published to from here.
        let tenant =
            tenant.filter(|tenant| !tenant.is_empty() && tenant.bytes().all(|b| b.is_ascii_graphic()));
        let tenant = tenant.unwrap_or("_unknown");
        let subject = format!("{}-dead.{tenant}", self.prefix);
        let key = Cursor::new(epoch, letter.sequence).to_string();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", key.as_str());
        headers.insert("Sse-Dead-Sequence", letter.sequence.to_string().as_str());
        headers.insert("Sse-Dead-Subject", letter.subject.as_str());
        headers.insert("Sse-Dead-Reason", letter.refusal.to_string().as_str());
        // The headers must fit beside it. What does not is in the log, under its sequence.
        let client = link.client();
        let room = client.server_info().max_payload.saturating_sub(4096);
        let payload = if letter.payload.len() <= room {
            letter.payload.clone()
        } else {
            headers.insert("Sse-Dead-Truncated", "true");
            Bytes::new()
        };
        let published = client.publish_with_headers(subject, headers, payload).await;
        published.map_err(|error| error.to_string())?;
        client.flush().await.map_err(|error| error.to_string())
    }
}
