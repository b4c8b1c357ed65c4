//! The life of a stream, from its registration in the hub to its one end.
//!
//! A loop over what the outbox says: write what waits, fetch what was missed, or wait for the hub, a
//! heartbeat, a deadline or the client's leave. Everything that is written goes through one place
//! with a deadline, so a client that accepts nothing is let go of, whatever was being written.

pub mod limits;
pub mod outbox;
mod replay;
pub mod sink;

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sse_crds::delivery::HeartbeatMode;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cursor::Cursor;
use crate::event::Delivery;
use crate::hub::{Hub, Registration};
use crate::nats::log::Log;
use crate::nats::status::Status;
use crate::telemetry::Telemetry;
use crate::wire::{self, Block, Field, Frame, Reset};
use outbox::{Item, Next};
use sink::{Chunk, Events, Sink, WriteError};

/// Bytes that frames which are ready share in one write.
const WRITE: usize = 16 * 1024;
/// Wait before the log is asked again, or this pod's feed is looked at again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the end of a stream waits for a client that is behind with reading.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Drain,
    Complete,
    Overflow,
    WriteTimeout,
    Lifetime,
    /// A back end asked for it.
    Control,
}

impl End {
    pub const ALL: [Self; 7] = [
        Self::Client,
        Self::Drain,
        Self::Complete,
        Self::Overflow,
        Self::WriteTimeout,
        Self::Lifetime,
        Self::Control,
    ];

    /// The reason in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Drain => "drain",
            Self::Complete => "complete",
            Self::Overflow => "overflow",
            Self::WriteTimeout => "write_timeout",
            Self::Lifetime => "lifetime",
            Self::Control => "control",
        }
    }
}

/// What all streams of a gateway have in common.
pub struct Context {
    pub hub: Arc<Hub>,
    pub log: Arc<Log>,
    pub telemetry: Arc<Telemetry>,
    pub status: Arc<Status>,
    /// Cancelled when the pod begins to let go of its streams.
    pub drain: CancellationToken,
    pub drain_window: Duration,
    pub heartbeat: Duration,
    /// Whether clients are told their place in the log: without a log there is none.
    pub ids: bool,
    /// Most events that a client which comes back is replayed.
    pub max_replay: u64,
    /// Messages that the log keeps of one subject; `None`: all that it has room for.
    pub per_subject: Option<u64>,
    /// Base of the `retry:` of a stream that is drained, in milliseconds.
    pub retry_ms: u32,
}

/// An open stream.
pub struct Connection {
    pub context: Arc<Context>,
    pub registration: Registration,
    pub sink: Sink,
    /// Everything up to here was written, or is not for this client.
    pub position: Cursor,
    pub heartbeat_mode: HeartbeatMode,
    /// When the stream must end: its longest life, or its credential's.
    pub ends_at: Option<Instant>,
}

/// What the loop keeps between its rounds.
struct Pace {
    last_write: Instant,
    told: Cursor,
    told_at: Instant,
    ends: Option<(Instant, End)>,
    draining: bool,
    /// Events replayed so far, until the stream is live for the first time.
    replayed: Option<u64>,
    /// Whether the log was asked, since the stream was live, what a limit per subject took from it.
    asked_limits: bool,
    ahead_since: Option<Instant>,
}

impl Connection {
    /// Runs the stream to its end. The head and the first bytes were written before.
    pub async fn run(mut self) -> End {
        let now = Instant::now();
        let mut pace = Pace {
            last_write: now,
            told: self.position,
            told_at: now,
            ends: self.ends_at.map(|at| (at, End::Lifetime)),
            draining: false,
            replayed: Some(0),
            asked_limits: false,
            ahead_since: None,
        };
        loop {
            if let Err(end) = self.round(&mut pace).await {
                return end;
            }
        }
    }

    async fn round(&mut self, pace: &mut Pace) -> Result<(), End> {
        self.tick(pace).await?;
        // Read before the queue is looked at: what is in neither is not for this client.
        let head = self.context.hub.head();
        match self.registration.outbox.next() {
            Next::Write(items) => self.write_items(pace, items).await,
            Next::Fetch(after) => self.fetch(pace, after).await,
            Next::End(end) => Err(end),
            Next::Ping => self.beat(pace).await,
            Next::Wait => {
                self.position.sequence = self.position.sequence.max(head);
                pace.replayed = None;
                self.wait(pace).await
            }
        }
    }

    async fn wait(&mut self, pace: &mut Pace) -> Result<(), End> {
        let due = self.next_due(pace);
        tokio::select! {
            () = self.registration.outbox.woken() => Ok(()),
            () = sleep_until(due) => Ok(()),
            () = self.sink.closed() => Err(End::Client),
            () = self.context.drain.cancelled(), if !pace.draining => Ok(()),
        }
    }

    /// Waits a moment for the log or the feed, without missing a deadline.
    async fn pause(&mut self, pace: &Pace) -> Result<(), End> {
        let due = self.next_due(pace).min(Instant::now() + AGAIN);
        tokio::select! {
            () = sleep_until(due) => Ok(()),
            () = self.sink.closed() => Err(End::Client),
        }
    }

    fn next_due(&self, pace: &Pace) -> Instant {
        let heartbeat = pace.last_write + self.context.heartbeat;
        let told = pace.told_at + self.context.status.cursor_interval();
        let due = heartbeat.min(told);
        pace.ends.map_or(due, |(at, _)| due.min(at))
    }

    /// Does what the clock asks for: the end, a heartbeat, a word about the position.
    async fn tick(&mut self, pace: &mut Pace) -> Result<(), End> {
        let now = Instant::now();
        if self.context.drain.is_cancelled() && !pace.draining {
            self.drain(pace);
        }
        if let Some((at, end)) = pace.ends
            && now >= at
        {
            if end == End::Drain {
                self.sink.hurry(LAST_WORD);
                let retry = jitter(self.context.retry_ms);
                self.write(pace, wire::retry(retry).into_bytes()).await?;
            }
            return Err(end);
        }
        if now >= pace.last_write + self.context.heartbeat {
            self.beat(pace).await?;
        }
        if now >= pace.told_at + self.context.status.cursor_interval() {
            pace.told_at = now;
            if pace.told != self.position && self.context.ids {
                pace.told = self.position;
                self.write(pace, wire::position(self.position).into_bytes()).await?;
            }
        }
        Ok(())
    }

    async fn beat(&mut self, pace: &mut Pace) -> Result<(), End> {
        let frame = self.heartbeat();
        if self.heartbeat_mode == HeartbeatMode::Event {
            pace.told = self.position;
            pace.told_at = Instant::now();
        }
        self.write(pace, frame.into_bytes()).await
    }

    /// Chooses when within the window this stream ends.
    fn drain(&self, pace: &mut Pace) {
        pace.draining = true;
        let at = Instant::now() + self.context.drain_window.mul_f64(rand::random::<f64>());
        if pace.ends.is_none_or(|(end, _)| at < end) {
            pace.ends = Some((at, End::Drain));
        }
    }

    fn heartbeat(&self) -> Frame {
        match self.heartbeat_mode {
            HeartbeatMode::Comment => wire::heartbeat(),
            HeartbeatMode::Event => {
                let data = format!(r#"{{"type":"heartbeat","timestamp":"{:.3}"}}"#, jiff::Timestamp::now());
                let id = self.context.ids.then_some(self.position);
                Block { id, event: Field::new("heartbeat"), retry: None, data: &data }.encode()
            }
        }
    }

    async fn write_items(&mut self, pace: &mut Pace, items: Vec<Item>) -> Result<(), End> {
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Event(delivery) => events.push(delivery),
                Item::Reset(reason, position) => {
                    self.write_events(pace, &events).await?;
                    events.clear();
                    self.tell_reset(pace, reason, position).await?;
                }
                Item::Gap(reason) => {
                    self.write_events(pace, &events).await?;
                    events.clear();
                    self.tell_gap(pace, reason).await?;
                }
            }
        }
        self.write_events(pace, &events).await
    }

    async fn tell_gap(&mut self, pace: &mut Pace, reason: Reset) -> Result<(), End> {
        self.context.telemetry.metrics.resets.inc(reason.as_str());
        self.write(pace, wire::reset(reason).into_bytes()).await
    }

    /// The gap is told before the new position: who reads only the first half keeps the old cursor.
    async fn tell_reset(&mut self, pace: &mut Pace, reason: Reset, position: Cursor) -> Result<(), End> {
        self.context.telemetry.metrics.resets.inc(reason.as_str());
        let frames = [wire::reset(reason), wire::position(position)];
        self.write(pace, join(&frames[..if self.context.ids { 2 } else { 1 }])).await?;
        self.position = position;
        pace.told = position;
        pace.told_at = Instant::now();
        Ok(())
    }

    async fn write_events(&mut self, pace: &mut Pace, events: &[Arc<Delivery>]) -> Result<(), End> {
        let mut rest = events;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = |delivery: &&Arc<Delivery>| {
                size += delivery.frame.as_bytes().len();
                size <= WRITE
            };
            let count = rest.iter().take_while(fits).count().max(1);
            // Nothing comes after an event that completes the stream.
            let complete = rest[..count].iter().position(|delivery| delivery.complete);
            let (now, later) = rest.split_at(complete.map_or(count, |at| at + 1));
            let frames: Vec<Frame> = now.iter().map(|delivery| delivery.frame.clone()).collect();
            self.room(pace).await?;
            let events = Events { events: now.into(), replayed: pace.replayed.is_some() };
            self.put(pace, Chunk { bytes: join(&frames), events: Some(events) })?;
            if let Some(last) = now.last() {
                self.position.sequence = last.sequence;
                pace.told = self.position;
                pace.told_at = Instant::now();
            }
            if complete.is_some() {
                return Err(End::Complete);
            }
            rest = later;
        }
        Ok(())
    }

    async fn write(&mut self, pace: &mut Pace, bytes: Bytes) -> Result<(), End> {
        self.room(pace).await?;
        self.put(pace, bytes.into())
    }

    fn put(&self, pace: &mut Pace, chunk: Chunk) -> Result<(), End> {
        self.sink.put(chunk)?;
        pace.last_write = Instant::now();
        Ok(())
    }

    /// Waits until the client has taken enough of what was written before. The end of the stream does
    /// not wait for that: it cuts a client that is too far behind.
    async fn room(&mut self, pace: &mut Pace) -> Result<(), End> {
        // Once: what wakes the loop must not put off the deadline.
        let mut room = pin!(self.sink.ready());
        loop {
            let ends = pace.ends;
            let late = async {
                let Some((at, end)) = ends else { return pending().await };
                sleep_until(at.max(pace.last_write) + LAST_WORD).await;
                end
            };
            tokio::select! {
                biased;
                room = room.as_mut() => return Ok(room?),
                end = late => {
                    self.sink.cut();
                    return Err(end);
                }
                () = self.registration.outbox.woken() => {
                    if let Some(end) = self.registration.outbox.ended() {
                        self.sink.cut();
                        return Err(end);
                    }
                }
                () = self.context.drain.cancelled(), if !pace.draining => self.drain(pace),
            }
        }
    }
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Closed => Self::Client,
            WriteError::TimedOut => Self::WriteTimeout,
        }
    }
}

/// Frames as one write; a single one is not copied.
fn join(frames: &[Frame]) -> Bytes {
    if let [one] = frames {
        return one.clone().into_bytes();
    }
    let mut bytes = BytesMut::with_capacity(frames.iter().map(|frame| frame.as_bytes().len()).sum());
    frames.iter().for_each(|frame| bytes.extend_from_slice(frame.as_bytes()));
    bytes.freeze()
}

/// From half to one and a half of `base`.
fn jitter(base: u32) -> u32 {
    base / 2 + rand::random_range(0..=base.max(1))
}

/// Holds a drain until every stream has ended, or the deadline has passed.
pub async fn drained(tracker: &tokio_util::task::TaskTracker, deadline: Duration) -> bool {
    tracker.close();
    tokio::select! {
        () = tracker.wait() => true,
        () = sleep(deadline) => false,
    }
}
