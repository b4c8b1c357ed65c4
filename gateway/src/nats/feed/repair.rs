//! What the feed lost is read from the log, before anything later enters the hub.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::FutureExt;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::{Broken, Feed};
use crate::event::{Message, Refusal};
use crate::nats::dead::DeadLetter;
use crate::nats::log::Page;
use crate::subject::{self, Target};

/// Sequences that are read at once when the feed is repaired.
const REPAIR: u64 = 1024;
/// How long a repair may take before what comes meanwhile is let go of: thousands of messages would wait, as large as they
/// like. They are in the log, too, and found missing like any other.
const SLOW: Duration = Duration::from_millis(250);

impl Feed {
    /// Reads what is missing up to `upto` from the log, into the hub.
    pub(super) async fn repair(&mut self, upto: u64, subscriber: &mut Subscriber) -> Result<(), Broken> {
        let head = self.hub.taken();
        if upto <= head {
            return Ok(());
        }
        // What is here already does not wait for what is missing.
        self.hub.uncork();
        let slow = Instant::now() + SLOW;
        let mut count = 0;
        let mut next = head + 1;
        while next <= upto {
            let page = self.read(next..=upto.min(next + REPAIR - 1), subscriber, slow).await?;
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
    /// otherwise then. Handshakes are refused meanwhile. From `slow` on, what comes is let go of.
    async fn read(
        &self,
        range: RangeInclusive<u64>,
        subscriber: &mut Subscriber,
        slow: Instant,
    ) -> Result<Page, Broken> {
        let mut read = pin!(self.log.read(*range.start(), *range.end()));
        let mut lost = pin!(self.link.lost(self.generation));
        let mut slow = pin!(sleep_until(slow));
        let (mut is_lost, mut is_slow, mut comes) = (false, false, true);
        loop {
            tokio::select! {
                biased;
                page = read.as_mut() => return Ok(page?),
                () = lost.as_mut(), if !is_lost => {
                    is_lost = true;
                    self.status.set_disconnected(Broken::Reconnected.to_string());
                }
                () = slow.as_mut(), if !is_slow => is_slow = true,
                message = subscriber.next(), if is_slow && comes => comes = message.is_some(),
            }
        }
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
