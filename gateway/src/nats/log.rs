//! Reading the log: what the live feed missed, and what a client missed that the ring no longer has.
//!
//! Clients are served from aligned blocks of the log, each read once for all that want it and kept
//! for a while: clients that come back together share their reads, whatever their cursors.
//!
//! Direct gets are fast but may hit a lagging replica. So a hole, or "nothing newer", is believed
//! only from the leader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::{Client, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use crate::event::{Entry, Message, Source};

/// Sequences in a block.
const BLOCK: u64 = 256;
/// Blocks that are kept.
const KEPT_BLOCKS: usize = 64;
/// Bytes of kept blocks.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// Reads at NATS at one time, for all clients of the pod.
const READS: usize = 4;
/// How long NATS may take for one answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Status of the message that ends a batch.
const END_OF_BATCH: u16 = 204;

/// Why the log could not be read. Worth another try.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("NATS did not answer in time")]
    TimedOut,
    #[error("NATS refused the read: {0}")]
    Refused(String),
}

/// A part of the log: every message that it still has from `from` to `upto`.
#[derive(Debug)]
pub struct Page {
    pub upto: u64,
    pub entries: Vec<Arc<Entry>>,
    /// First sequence that the log still has, where the page lacks what was trimmed before it.
    pub trimmed_to: Option<u64>,
}

/// The log of one prefix.
pub struct Log {
    /// Set once the connection to NATS was begun, which a missing secret can put off.
    client: OnceLock<Client>,
    name: String,
    /// `<prefix>.>`
    subjects: String,
    blocks: Mutex<VecDeque<Block>>,
    reads: Semaphore,
}

#[derive(Clone)]
struct Block {
    index: u64,
    upto: u64,
    page: Arc<OnceCell<Arc<Page>>>,
}

impl Log {
    #[must_use]
    pub fn new(name: String, prefix: &str) -> Self {
        Self {
            client: OnceLock::new(),
            name,
            subjects: format!("{prefix}.>"),
            blocks: Mutex::default(),
            reads: Semaphore::new(READS),
        }
    }

    /// The block that holds `sequence`, up to `head` at most. Shared by all that ask.
    ///
    /// # Errors
    ///
    /// When NATS does not answer; nothing is kept of a failed read.
    pub async fn block(&self, sequence: u64, head: u64) -> Result<Arc<Page>, LogError> {
        let index = sequence / BLOCK;
        let (from, upto) = (index * BLOCK, head.min(index * BLOCK + BLOCK - 1));
        let page = self.slot(index, upto);
        let read = || async {
            let permit = self.reads.acquire().await.map_err(|_| LogError::TimedOut)?;
            let page = self.read(from.max(1), upto).await.map(Arc::new);
            drop(permit);
            page
        };
        page.get_or_try_init(read).await.cloned()
    }

    /// Takes the connection to read through.
    pub fn attach(&self, client: Client) {
        // There is one connection for the life of the process.
        let _ = self.client.set(client);
    }

    fn client(&self) -> Result<&Client, LogError> {
        self.client.get().ok_or(LogError::TimedOut)
    }

    /// Forgets what was kept: the log is another one now.
    pub fn forget(&self) {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn slot(&self, index: u64, upto: u64) -> Arc<OnceCell<Arc<Page>>> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = blocks.iter().position(|b| b.index == index)
            && let Some(block) = blocks.remove(at)
            && block.upto >= upto
        {
            let page = block.page.clone();
            blocks.push_back(block);
            return page;
        }
        let page = Arc::new(OnceCell::new());
        blocks.push_back(Block { index, upto, page: page.clone() });
        let size = |b: &Block| b.page.get().map_or(0, |p| p.entries.iter().map(|m| m.message.size()).sum());
        let mut bytes: usize = blocks.iter().map(size).sum();
        while blocks.len() > KEPT_BLOCKS || (bytes > KEPT_BYTES && blocks.len() > 1) {
            bytes -= blocks.pop_front().as_ref().map_or(0, size);
        }
        page
    }

    /// Every message from `from` to `upto`, which must not be above the stream's last sequence.
    ///
    /// # Errors
    ///
    /// When NATS does not answer in time.
    pub async fn read(&self, from: u64, upto: u64) -> Result<Page, LogError> {
        let mut page = Page { upto, entries: Vec::new(), trimmed_to: None };
        let mut next = from;
        while next <= upto {
            let batch = self.direct(next, upto - next + 1).await?;
            let mut came = false;
            for message in batch {
                if !(next..=upto).contains(&message.sequence) {
                    continue;
                }
                came = true;
                if message.sequence > next {
                    self.fill(&mut page, next, message.sequence).await?;
                }
                next = message.sequence + 1;
                page.entries.push(Entry::new(message));
            }
            if !came {
                // The replica has nothing more up to `upto`: the leader must say so.
                next = self.fill(&mut page, next, upto + 1).await?;
            }
        }
        Ok(page)
    }

    /// Adds what the leader has from `next` up to, not including, `end`; returns where to go on.
    async fn fill(&self, page: &mut Page, next: u64, end: u64) -> Result<u64, LogError> {
        let mut at = next;
        while at < end {
            match self.next_stored(at).await? {
                Some(message) if message.sequence < end => {
                    self.note_hole(page, at, message.sequence).await?;
                    at = message.sequence + 1;
                    page.entries.push(Entry::new(message));
                }
                _ => {
                    self.note_hole(page, at, end).await?;
                    at = end;
                }
            }
        }
        Ok(at)
    }

    /// A hole may be the edge of the log, also one that moved while the page was read: clients must
    /// be told. Events that went by their own TTL leave holes behind the edge, which are none.
    async fn note_hole(&self, page: &mut Page, hole: u64, next: u64) -> Result<(), LogError> {
        if next > hole {
            let first = self.first_sequence().await?;
            if first > hole {
                page.trimmed_to = Some(first);
            }
        }
        Ok(())
    }

    async fn first_sequence(&self) -> Result<u64, LogError> {
        let stream = self.stream().await?;
        let info = timeout(DEADLINE, stream.get_info()).await.map_err(|_| LogError::TimedOut)?;
        Ok(info.map_err(|e| LogError::Refused(e.to_string()))?.state.first_sequence)
    }

    async fn stream(&self) -> Result<Stream<()>, LogError> {
        let jetstream = jetstream::new(self.client()?.clone());
        let stream = timeout(DEADLINE, jetstream.get_stream_no_info(&self.name)).await;
        stream.map_err(|_| LogError::TimedOut)?.map_err(|e| LogError::Refused(e.to_string()))
    }

    /// The first message at or after `sequence`, from the leader.
    async fn next_stored(&self, sequence: u64) -> Result<Option<Message>, LogError> {
        let stream = self.stream().await?;
        let request =
            stream.raw_message_builder().sequence(sequence).next_by_subject(self.subjects.as_str()).send();
        match timeout(DEADLINE, request).await.map_err(|_| LogError::TimedOut)? {
            Ok(found) => Ok(Some(Message::new(
                found.sequence,
                found.subject,
                &found.headers,
                found.payload,
                Source::Stored,
            ))),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(LogError::Refused(error.to_string())),
        }
    }

    /// A batched direct get (NATS ADR-31): messages from `from` on, until the server ends the batch.
    async fn direct(&self, from: u64, count: u64) -> Result<Vec<Message>, LogError> {
        let client = self.client()?;
        let inbox = client.new_inbox();
        let refused = |e: &dyn std::fmt::Display| LogError::Refused(e.to_string());
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| refused(&e))?;
        let request =
            serde_json::json!({"seq": from, "batch": count.min(BLOCK), "next_by_subj": self.subjects});
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
        let payload = Bytes::from(request.to_string());
        client.publish_with_reply(subject, inbox, payload).await.map_err(|e| refused(&e))?;
        let mut messages = Vec::new();
        loop {
            let answer = timeout(DEADLINE, answers.next()).await.map_err(|_| LogError::TimedOut)?;
            let answer = answer.ok_or(LogError::TimedOut)?;
            match answer.status {
                None => messages.extend(annotated(answer)),
                // Nothing there.
                Some(StatusCode::NOT_FOUND) => return Ok(messages),
                Some(status) if status.as_u16() == END_OF_BATCH => return Ok(messages),
                Some(status) => {
                    return Err(LogError::Refused(format!(
                        "{status} {}",
                        answer.description.unwrap_or_default()
                    )));
                }
            }
        }
    }
}

/// A message with the server's headers: of a direct get. `None` when they are not there.
fn annotated(message: async_nats::Message) -> Option<Message> {
    let headers = message.headers?;
    let sequence = headers.get_last("Nats-Sequence")?.as_str().parse().ok()?;
    let subject = headers.get_last("Nats-Subject")?.as_str().into();
    Some(Message::new(sequence, subject, &headers, message.payload, Source::Annotated))
}
