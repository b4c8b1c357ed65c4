//! Replay: a stream fetches what it missed, from the ring or the log, at the pace of its client.
//!
//! It is the same for a client that comes back and for one that fell behind: page after page, until the
//! hub says under its lock that the stream is live. What the log has lost is asked of [`super::history`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::history::Past;
use super::{Connection, End};
use crate::cursor::Cursor;
use crate::event::Delivery;
use crate::hub::{Listener, Resume};
use crate::nats::log::{Found, Ride};
use crate::wire::Reset;

/// How long a client's cursor may be ahead of this pod's feed. Then the leader's word decides whether
/// it is forged: a feed can be behind for as long as NATS is slow.
const AHEAD: Duration = Duration::from_secs(5);

/// What a stream that reads the log listened to, and how far its search has come.
#[derive(Default)]
pub(super) struct Reading {
    listener: Option<Arc<Listener>>,
    ride: Option<Ride>,
}

impl Connection {
    /// Fetches the next of what was missed, and writes it.
    pub(super) async fn fetch(&mut self, after: u64) -> Result<(), End> {
        // Thousands of others' events may lie between two of this client's: let other tasks run.
        tokio::task::consume_budget().await;
        if let Some(walk) = self.past.take(after) {
            return self.go_back(walk).await;
        }
        let step = self.registration.resume(after);
        if !matches!(step, Resume::Ahead) {
            self.ahead_since = None;
        }
        match step {
            Resume::Nothing => Ok(()),
            Resume::Live { events, position } => {
                self.replay(&events).await?;
                (self.replayed, self.asked_limits) = (None, false);
                self.past = Past::default();
                self.pass(position);
                Ok(())
            }
            Resume::More { events, position } => {
                self.replay(&events).await?;
                self.pass(position);
                self.enough(position).await
            }
            Resume::Log { upto } => self.fetch_from_log(after, upto).await,
            Resume::Ahead => {
                let since = *self.ahead_since.get_or_insert_with(Instant::now);
                if since.elapsed() < AHEAD || !self.context.status.leader_lacks(after, since) {
                    return self.pause().await;
                }
                if self.look_back_from_nowhere(after) {
                    return Ok(());
                }
                let Some(position) = self.registration.skip_to_live(after) else { return Ok(()) };
                self.tell_reset(Reset::Invalid, position).await
            }
        }
    }

    async fn fetch_from_log(&mut self, after: u64, upto: u64) -> Result<(), End> {
        let mut reading = self.reading.take().unwrap_or_default();
        let Some(listener) = self.registration.listener(reading.listener.take()) else {
            return self.pause().await;
        };
        if let Some(limit) = self.context.per_subject.filter(|_| !self.asked_limits) {
            match self.context.log.lost_since(&listener.filters(), after, limit).await {
                Ok(true) => self.tell_gap(Reset::Expired).await?,
                Ok(false) => {}
                Err(error) => {
                    debug!(%error, "The log could not be asked for its gaps; trying again.");
                    return self.pause().await;
                }
            }
            self.asked_limits = true;
        }
        let log = &self.context.log;
        let found = tokio::select! {
            found = log.search(&mut reading.ride, listener.clone(), after, upto) => found,
            gone = self.registration.outbox.gone() => return Err(gone.into()),
        };
        reading.listener = Some(listener);
        self.reading = Some(reading);
        let Found { events, upto, trimmed } = match found {
            Ok(found) => found,
            Err(error) => {
                debug!(%error, "The log could not be read; trying again.");
                return self.pause().await;
            }
        };
        if trimmed && self.look_back(after, upto + 1) {
            return Ok(());
        }
        // A reset may have come while the log was read: then these are of a former life.
        if !self.registration.outbox.progress(after, upto) {
            return Ok(());
        }
        if trimmed {
            let epoch = self.registration.outbox.writer(|writer| writer.position()).epoch;
            return self.tell_reset(Reset::Expired, Cursor::new(epoch, upto)).await;
        }
        self.replay(&events).await?;
        self.pass(upto);
        self.enough(upto).await
    }

    /// Notes that what is up to there was written, or is not for this client.
    fn pass(&self, sequence: u64) {
        self.registration.outbox.writer(|writer| writer.pass(sequence));
    }

    async fn replay(&mut self, events: &[Arc<Delivery>]) -> Result<(), End> {
        if let Some(replayed) = &mut self.replayed {
            *replayed += u64::try_from(events.len()).unwrap_or(u64::MAX);
        }
        self.write_events(events).await
    }

    /// A client that missed more than is replayed is told so, and goes live. One that is only slow is
    /// not: it caught up before.
    async fn enough(&mut self, after: u64) -> Result<(), End> {
        if self.replayed.is_none_or(|replayed| replayed <= self.context.max_replay) {
            return Ok(());
        }
        match self.registration.skip_to_live(after) {
            Some(position) => self.tell_reset(Reset::Expired, position).await,
            None => Ok(()),
        }
    }
}
