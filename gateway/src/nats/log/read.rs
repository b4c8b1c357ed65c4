//! Reading a part of the log at NATS.
//!
//! Batched direct gets are fast, but any replica answers them, also one that lags. So a hole, or
//! "nothing newer", is believed only from the leader, message by message.
//!
//! A message that the client library can not read ends the connection. So a read that lost the
//! connection goes on at the leader, whose answers wrap the message in JSON, and what turns out to
//! be unreadable is refused and remembered, and not asked for in a batch again.

use std::collections::{BTreeMap, btree_map};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::jetstream::stream::{Info, State};
use async_nats::{Request, StatusCode};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::warn;

use super::LogError;
use super::page::{Draft, Page};
use super::stored::{self, Stored};
use crate::event::{Entry, Message};
use crate::nats::question::Unanswered;
use crate::nats::{Link, provision};

/// Messages of a page, in bytes. One more message may come over it.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How long NATS may take for one answer, or to be there again.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the death of a client may take to be seen.
const DEATH: Duration = Duration::from_millis(200);
/// Questions to the leader at one time, of one read.
const QUESTIONS: usize = 4;
/// How often a question is asked when the connection is lost over it.
const ATTEMPTS: usize = 3;
/// Unreadable messages that are remembered.
const REMEMBERED: usize = 4096;
/// A batch ends at least this many sequences before an unreadable message.
const BERTH: u64 = 16;

/// Status of the message that ends a batch.
const END_OF_BATCH: u16 = 204;

/// Reads the stream of one prefix.
pub(super) struct Reader {
    /// Set once the connection to NATS was begun, which a missing secret can put off.
    link: OnceLock<Link>,
    pub name: String,
    pub prefix: String,
    unreadable: Mutex<BTreeMap<u64, Caution>>,
}

/// How near to an unreadable message batches may come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caution {
    /// Batches that end well before it are fine.
    Berth,
    /// There were so many holes before it that a batch ran into it: no batches.
    NoBatch,
}

/// What came of a direct get.
struct Batch {
    entries: Vec<Arc<Entry>>,
    /// The connection was lost over it.
    lost: bool,
}

impl Reader {
    pub fn new(name: String, prefix: &str) -> Self {
        let (link, unreadable) = (OnceLock::new(), Mutex::default());
        Self { link, name, prefix: prefix.into(), unreadable }
    }

    pub fn attach(&self, link: Link) {
        // There is one connection for the life of the process.
        let _ = self.link.set(link);
    }

    pub fn forget(&self) {
        self.unreadable().clear();
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeMap<u64, Caution>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> Result<&Link, LogError> {
        self.link.get().ok_or(LogError::NotConnected)
    }

    /// Every message from `from` on, up to `upto` or less, when they are large. `upto` must not be
    /// above the stream's last sequence.
    pub async fn read(&self, from: u64, upto: u64) -> Result<Page, LogError> {
        let mut draft = Draft::new(from);
        while draft.next <= upto && draft.size() < PAGE_BYTES {
            let next = draft.next;
            match self.caution(next, upto) {
                Some((at, caution)) if caution == Caution::NoBatch || at - next < 2 * BERTH => {
                    self.one_by_one(&mut draft, at).await?;
                }
                // A batch is counted in messages and passes over holes: half of the way is near enough.
                Some((at, _)) => self.batch(&mut draft, next + (at - next) / 2, upto).await?,
                None => self.batch(&mut draft, upto, upto).await?,
            }
        }
        let trimmed_to = self.trimmed_to(&draft, upto).await?;
        Ok(draft.finish(&self.prefix, trimmed_to))
    }

    /// The next unreadable message that is known.
    fn caution(&self, next: u64, upto: u64) -> Option<(u64, Caution)> {
        let known = self.unreadable();
        let mut known = known.range(next..=upto);
        known.next().map(|(at, caution)| (*at, *caution))
    }

    /// Reads a batch up to about `end`, in a part up to `upto`.
    async fn batch(&self, draft: &mut Draft, end: u64, upto: u64) -> Result<(), LogError> {
        let next = draft.next;
        let batch = self.direct(next, end - next + 1, PAGE_BYTES - draft.size()).await?;
        let Batch { mut entries, lost } = batch;
        entries.retain(|entry| (next..=upto).contains(&entry.message.sequence));
        let came = !entries.is_empty();
        self.complete(draft, entries).await?;
        if lost {
            return self.one_by_one(draft, upto).await;
        }
        if !came {
            // The replica has nothing more up to `upto`: the leader must say so.
            match self.next_stored(next).await?.filter(|found| found.sequence() <= upto) {
                Some(found) => self.take(draft, found),
                None => draft.skip_to(upto + 1),
            }
        }
        Ok(())
    }

    /// Adds the messages of a batch, and what it lacks and the leader has.
    async fn complete(&self, draft: &mut Draft, entries: Vec<Arc<Entry>>) -> Result<(), LogError> {
        let mut next = draft.next;
        let mut gaps = Vec::new();
        for sequence in entries.iter().map(|entry| entry.message.sequence) {
            if sequence > next {
                gaps.push((next, sequence));
            }
            next = sequence + 1;
        }
        if gaps.is_empty() {
            entries.into_iter().for_each(|entry| draft.push(entry));
            return Ok(());
        }
        let found = stream::iter(gaps).map(|(from, end)| self.between(from, end)).buffered(QUESTIONS);
        let found: Vec<Vec<Stored>> = found.try_collect().await?;
        let mut all: Vec<Stored> = entries.into_iter().map(Stored::Readable).collect();
        all.extend(found.into_iter().flatten());
        all.sort_by_key(Stored::sequence);
        all.into_iter().for_each(|stored| self.take(draft, stored));
        Ok(())
    }

    /// What the leader has from `from` up to, not including, `end`.
    async fn between(&self, from: u64, end: u64) -> Result<Vec<Stored>, LogError> {
        if from + 1 == end {
            return Ok(self.stored(from).await?.into_iter().collect());
        }
        let (mut found, mut next) = (Vec::new(), from);
        while next < end {
            let Some(stored) = self.next_stored(next).await?.filter(|found| found.sequence() < end) else {
                break;
            };
            next = stored.sequence() + 1;
            found.push(stored);
        }
        Ok(found)
    }

    /// Reads up to `upto` from the leader, until the page is full.
    async fn one_by_one(&self, draft: &mut Draft, upto: u64) -> Result<(), LogError> {
        let mut answers = stream::iter(draft.next..=upto)
            .map(|sequence| async move { (sequence, self.stored(sequence).await) })
            .buffered(QUESTIONS);
        while draft.size() < PAGE_BYTES
            && let Some((sequence, answer)) = answers.next().await
        {
            match answer? {
                Some(stored) => self.take(draft, stored),
                None => draft.skip_to(sequence + 1),
            }
        }
        Ok(())
    }

    fn take(&self, draft: &mut Draft, stored: Stored) {
        match stored {
            Stored::Readable(entry) => draft.push(entry),
            Stored::Unreadable(sequence, subject) => {
                self.remember(sequence);
                draft.refuse(sequence, subject);
            }
        }
    }

    /// Notes an unreadable message, which is logged once.
    fn remember(&self, sequence: u64) {
        let mut known = self.unreadable();
        if let btree_map::Entry::Vacant(new) = known.entry(sequence) {
            new.insert(Caution::Berth);
            warn!(sequence, "Refused an event whose headers or subject can not be read.");
        }
        while known.len() > REMEMBERED {
            known.pop_first();
        }
    }

    /// A batch ran into a message that was known.
    fn be_careful(&self, from: u64, upto: u64) {
        self.unreadable().range_mut(from..=upto).for_each(|(_, caution)| *caution = Caution::NoBatch);
    }

    /// A hole may be the edge of the log, also one that moved while the page was read: clients must
    /// be told. Events that went by their own TTL leave holes behind the edge, which are none.
    async fn trimmed_to(&self, draft: &Draft, upto: u64) -> Result<Option<u64>, LogError> {
        let Some(hole) = draft.hole else { return Ok(None) };
        let state = self.state().await?;
        if state.last_sequence < upto {
            // Not the log in which `upto` was seen.
            return Err(LogError::Remade);
        }
        Ok(Some(state.first_sequence).filter(|first| *first > hole))
    }

    /// Where the log begins, says the leader.
    pub async fn first(&self) -> Result<u64, LogError> {
        Ok(self.state().await?.first_sequence.max(1))
    }

    async fn state(&self) -> Result<State, LogError> {
        let info = self.info(&json!({})).await?;
        let info: Info = serde_json::from_value(info).map_err(|e| LogError::Refused(e.to_string()))?;
        if !provision::has_leader(&info) {
            return Err(LogError::Refused("the stream has no leader at the moment".into()));
        }
        Ok(info.state)
    }

    /// The leader's `STREAM.INFO`.
    pub async fn info(&self, request: &Value) -> Result<Value, LogError> {
        let answer = self.ask("STREAM.INFO", request).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|e| LogError::Refused(e.to_string()))?;
        match answer["error"]["description"].as_str() {
            None => Ok(answer),
            Some(error) => Err(LogError::Refused(error.to_owned())),
        }
    }

    /// The message with this sequence, from the leader.
    async fn stored(&self, sequence: u64) -> Result<Option<Stored>, LogError> {
        stored::read(&self.ask("STREAM.MSG.GET", &json!({"seq": sequence})).await?, &self.name)
    }

    /// The first message at or after `sequence`, from the leader.
    async fn next_stored(&self, sequence: u64) -> Result<Option<Stored>, LogError> {
        self.next_on(">", sequence).await
    }

    /// The first message at or after `sequence` on a subject, from the leader.
    pub async fn next_on(&self, subject: &str, sequence: u64) -> Result<Option<Stored>, LogError> {
        let request = json!({"seq": sequence, "next_by_subj": subject});
        stored::read(&self.ask("STREAM.MSG.GET", &request).await?, &self.name)
    }

    /// Asks the leader. What the loss of the connection cuts off is asked again.
    async fn ask(&self, api: &str, request: &Value) -> Result<Bytes, LogError> {
        let link = self.link()?;
        let subject = format!("$JS.API.{api}.{}", self.name);
        let payload = Bytes::from(request.to_string());
        for _ in 0..ATTEMPTS {
            let generation = connected(link).await?;
            let request = Request::new().payload(payload.clone());
            let refused = match link.ask(&subject, request, DEADLINE).await {
                Ok(answer) => return Ok(answer.payload),
                Err(Unanswered::Away) => continue,
                Err(Unanswered::Late) => return Err(LogError::TimedOut),
                Err(error) => error.to_string(),
            };
            // A client that has just died refuses everything.
            if timeout(DEATH, link.lost(generation)).await.is_err() {
                return Err(LogError::Refused(refused));
            }
        }
        Err(LogError::NotConnected)
    }

    /// A batched direct get (NATS ADR-31): messages from `from` on, until the server ends the batch.
    async fn direct(&self, from: u64, count: u64, bytes: usize) -> Result<Batch, LogError> {
        let link = self.link()?;
        let generation = connected(link).await?;
        let client = link.client();
        let inbox = client.new_inbox();
        let refused = |e: &dyn std::fmt::Display| LogError::Refused(e.to_string());
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| refused(&e))?;
        let request = json!({"seq": from, "batch": count, "max_bytes": bytes, "next_by_subj": ">"});
        let payload = Bytes::from(request.to_string());
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
        client.publish_with_reply(subject, inbox, payload).await.map_err(|e| refused(&e))?;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let lost = link.lost(generation);
        tokio::pin!(lost);
        loop {
            let answer = tokio::select! {
                // What came before the connection was lost was read well.
                biased;
                answer = timeout(DEADLINE, answers.next()) => answer.map_err(|_| LogError::TimedOut)?,
                () = &mut lost => return Ok(self.lost_over(entries, from, count)),
            };
            let Some(answer) = answer else { return Ok(self.lost_over(entries, from, count)) };
            // With those that came together with it, without a look at the clock for each.
            let mut next = Some(answer);
            while let Some(answer) = next {
                match annotated(&answer) {
                    Some(message) => entries.push(Entry::new(message)),
                    None if ended(&answer)? => return Ok(Batch { entries, lost: false }),
                    None => {}
                }
                next = answers.next().now_or_never().flatten();
            }
        }
    }

    fn lost_over(&self, entries: Vec<Arc<Entry>>, from: u64, count: u64) -> Batch {
        let next = entries.last().map_or(from, |last| last.message.sequence + 1);
        self.be_careful(next, next.saturating_add(2 * count));
        Batch { entries, lost: true }
    }
}

/// Waits for the connection; returns its generation.
async fn connected(link: &Link) -> Result<u64, LogError> {
    timeout(DEADLINE, link.up()).await.map_err(|_| LogError::NotConnected)
}

/// Whether an answer of the server itself ends the batch.
fn ended(answer: &async_nats::Message) -> Result<bool, LogError> {
    match answer.status {
        None => Ok(false),
        // Nothing there.
        Some(StatusCode::NOT_FOUND) => Ok(true),
        Some(status) if status.as_u16() == END_OF_BATCH => Ok(true),
        Some(status) => {
            let why = answer.description.as_deref().unwrap_or_default();
            Err(LogError::Refused(format!("{status} {why}")))
        }
    }
}

/// A message of a direct get. A status that has the server's headers is a publisher's, and means nothing.
fn annotated(answer: &async_nats::Message) -> Option<Message> {
    Message::annotated(None, answer.headers.as_ref()?, &answer.payload)
}

#[cfg(test)]
mod tests;
