//! The truth: what the stream acknowledged and has, and whom each event is for. It is read from the
//! log by a consumer, and routed by rules of its own; nothing here is shared with the gateway's code.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures::StreamExt;
use sse_tests::publisher::Publisher;
use tokio::time::timeout;

use crate::plan::{Listener, Plan};
use crate::reader::Heard;

/// An event that the log has.
struct Stored {
    sequence: u64,
    /// Its number in the plan.
    n: usize,
    subject: String,
    headers: HeaderMap,
}

/// What must have been delivered.
pub struct Oracle {
    log: Vec<Stored>,
}

impl Oracle {
    /// Reads the log, which must have each planned event under the sequence that was acknowledged.
    pub async fn read(publisher: &Publisher, plan: &Plan, acknowledged: &[u64]) -> Result<Self> {
        let stream = publisher.jetstream.get_stream("SSE_sse").await?;
        let last = stream.cached_info().state.last_sequence;
        let consumer = stream.create_consumer(OrderedConfig::default()).await?;
        let mut messages = consumer.messages().await?;
        let (mut log, mut sequence) = (Vec::new(), 0);
        while sequence < last {
            let message = timeout(Duration::from_secs(20), messages.next()).await.context("the log")?;
            let message = message.context("the log ended")??;
            sequence = message.info().map_err(|error| anyhow::anyhow!("{error}"))?.stream_sequence;
            if message.subject.starts_with("sse._sys.") {
                continue;
            }
            let headers = message.headers.clone().context("headers")?;
            let id = headers.get("Nats-Msg-Id").context("a message id")?.as_str();
            let n = id.split_once(':').context("a number")?.1.parse()?;
            log.push(Stored { sequence, n, subject: message.subject.to_string(), headers });
        }
        let oracle = Self { log };
        oracle.has_all(plan, acknowledged)?;
        Ok(oracle)
    }

    /// Whether NATS itself kept its word: else nothing could be said of the gateway.
    fn has_all(&self, plan: &Plan, acknowledged: &[u64]) -> Result<()> {
        ensure!(acknowledged.len() == plan.events.len(), "{} acknowledgements", acknowledged.len());
        for stored in &self.log {
            let planned = plan.events.get(stored.n).context("an event that nobody planned")?;
            ensure!(stored.subject == planned.subject, "{} is stored as {}", planned.subject, stored.subject);
        }
        for (n, sequence) in acknowledged.iter().enumerate() {
            let at = self.log.binary_search_by_key(sequence, |stored| stored.sequence);
            let found = at.ok().map(|at| self.log[at].n);
            ensure!(found == Some(n), "NATS acknowledged {n} as {sequence}, and has {found:?} there");
        }
        Ok(())
    }

    /// Events that the log has more than once, in spite of their message ids: each is due as often.
    pub fn repeated(&self) -> usize {
        let numbers: BTreeSet<usize> = self.log.iter().map(|stored| stored.n).collect();
        self.log.len() - numbers.len()
    }

    /// Compares what a client heard with what is for it.
    pub fn check(&self, plan: &Plan, listener: &Listener, heard: &Heard) -> Result<()> {
        let after = |stored: &&Stored| stored.sequence > heard.start;
        let expected = self.log.iter().filter(after).filter(|stored| is_for(listener, stored));
        let expected: Vec<(u64, usize)> = expected.map(|stored| (stored.sequence, stored.n)).collect();
        if expected == heard.events {
            return Ok(());
        }
        let same = expected.iter().zip(&heard.events).take_while(|(a, b)| a == b).count();
        let describe = |at: Option<&(u64, usize)>| {
            at.map(|(sequence, n)| {
                format!("{sequence} ({} {:?})", plan.events[*n].subject, plan.events[*n].headers)
            })
        };
        anyhow::bail!(
            "{} of {} events; after {same}, {:?} came instead of {:?}; {} expected ones never came, {} came that were not for it",
            heard.events.len(),
            expected.len(),
            describe(heard.events.get(same)),
            describe(expected.get(same)),
            expected.iter().filter(|event| !heard.events.contains(event)).count(),
            heard.events.iter().filter(|event| !expected.contains(event)).count(),
        )
    }
}

/// Contract: the subjects, and the headers that carry lists.
fn is_for(listener: &Listener, stored: &Stored) -> bool {
    let tokens: Vec<&str> = stored.subject.split('.').collect();
    let list = |name: &str| {
        let list = stored.headers.get(name).map_or("", |value| value.as_str());
        list.split(',').map(|item| decode(item.trim())).collect::<Vec<_>>()
    };
    let ["sse", tenant, rest @ ..] = tokens.as_slice() else { return false };
    if decode(tenant) != listener.tenant {
        return false;
    }
    match rest {
        ["all"] => true,
        ["user", user] => decode(user) == listener.user,
        ["users"] => list("Sse-Users").iter().any(|user| user == listener.user),
        ["topic", levels @ ..] => wants(listener, &levels.join(".")),
        ["topics"] => list("Sse-Topics").iter().any(|topic| wants(listener, topic)),
        _ => false,
    }
}

/// `*` is any one level, `>` any number of them, but not none.
fn wants(listener: &Listener, topic: &str) -> bool {
    fn fits(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern, topic) {
            ([">"], [_, ..]) | ([], []) => true,
            ([level, pattern @ ..], [is, topic @ ..]) => {
                (*level == "*" || level == is) && fits(pattern, topic)
            }
            _ => false,
        }
    }
    let levels = |text: &'static str| text.split('.').collect::<Vec<_>>();
    let topic: Vec<&str> = topic.split('.').collect();
    listener.topics.iter().any(|pattern| fits(&levels(pattern), &topic))
}

fn decode(token: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = token.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
