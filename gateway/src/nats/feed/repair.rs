//! What the feed lost is read from the log, before anything later enters the hub.

use std::pin::pin;

use async_nats::Subscriber;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::FutureExt;
use tracing::{debug, warn};

use super::{Broken, Feed};
use crate::event::{Message, Refusal};
use crate::nats::dead::DeadLetter;
use crate::nats::log::Page;
use crate::subject::{self, Target};

/// Sequences that are read at once when the feed is repaired.
const REPAIR: u64 = 1024;

impl Feed {
    /// Reads what is missing up to `upto` from the log, into the hub.
    pub(super) async fn repair(&mut self, upto: u64) -> Result<(), Broken> {
        let head = self.hub.taken();
        if upto <= head {
            return Ok(());
        }
        // What is here already does not wait for what is missing.
        self.hub.uncork();
        let mut count = 0;
        let mut next = head + 1;
        while next <= upto {
            let page = self.read(next, upto.min(next + REPAIR - 1)).await?;
            if let Some(first) = page.trimmed_to {
                warn!(
                    from = next,
                    first, "The log was trimmed before it could be read; open streams are told."
                );
                self.hub.trimmed(first);
            }
            let (head, end) = (self.hub.head(), page.upto);
            let events = page.entries.iter().filter(|entry| !self.is_mark(&entry.message));
            count += events.count() + page.refused.len();
            let there = page.entries.len() + page.refused.len();
            if self.config.spec.nats.stream.max_messages_per_subject.is_some()
                && u64::try_from(there).is_ok_and(|there| there < page.span())
            {
                // Newer ones of their subjects may have pushed them out, and nobody got them.
                self.hub.lost();
            }
            for (sequence, subject) in page.refused {
                let (payload, refusal) = (Bytes::new(), Refusal::Unreadable);
                self.dead.refuse(&self.hub, DeadLetter { sequence, subject, payload, refusal }).await;
            }
            for entry in page.entries.into_iter().filter(|entry| entry.message.sequence > head) {
                self.dead.hand_over(&self.hub, entry).await;
            }
            self.hub.skip_to(end);
            next = self.hub.head() + 1;
            self.repaired = self.hub.head();
        }
        // The pods' own marks, one for each connection, are nothing that was lost.
        if count > 0 {
            self.metrics.gaps_repaired.inc();
        }
        debug!(count, upto, "Repaired the live feed from the log.");
        Ok(())
    }

    fn is_mark(&self, message: &Message) -> bool {
        subject::target(&self.config.spec.nats.subject_prefix, &message.subject) == Ok(Target::System)
    }

    /// Reads the log, which looks after a lost connection itself: the message that breaks it is read
    /// otherwise then. Handshakes are refused meanwhile.
    async fn read(&self, from: u64, upto: u64) -> Result<Page, Broken> {
        let mut read = pin!(self.log.read(from, upto));
        let page = tokio::select! {
            biased;
            page = read.as_mut() => page,
            () = self.link.lost(self.generation) => {
                self.status.set_disconnected(Broken::Reconnected.to_string());
                read.await
            }
        };
        Ok(page?)
    }

    /// The newest of the messages that wait, which are let go of: where one is missing, so may be
    /// others, and a read for each would be slower than they come. One read has them all.
    pub(super) fn newest_waiting(&self, mut newest: u64, subscriber: &mut Subscriber) -> u64 {
        for _ in 0..REPAIR {
            let Some(Some(message)) = subscriber.next().now_or_never() else { break };
            if let Some(message) = self.stored(message) {
                newest = newest.max(message.sequence);
            }
        }
        newest
    }
}
