//! The life of a stream, from its registration in the hub to its one end.
//!
//! A stream waits for the hub, a heartbeat, a deadline or the client's leave, and while it waits it is
//! small: thousands do. What it then does (write what waits, fetch what was missed, wait for room) is made
//! for the occasion. Everything is written into one [`line`] with a deadline, so a client that accepts
//! nothing is let go of, whatever was being written.

pub mod body;
mod end;
mod history;
pub mod limits;
pub mod line;
pub mod outbox;
mod replay;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use sse_crds::delivery::HeartbeatMode;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::cursor::Cursor;
use crate::event::Delivery;
use crate::hub::{Hub, Registration};
use crate::nats::history::History;
use crate::nats::log::Log;
use crate::nats::status::Status;
use crate::telemetry::Telemetry;
use crate::wire::{self, Block, Field, Frame, Reset};
pub use end::End;
use history::Past;
pub use history::is_askable;
use outbox::{Item, Next, Outbox, Room};
use replay::Reading;
use writer::Writer;

/// Bytes that frames which are ready share in one write.
const WRITE: usize = 16 * 1024;
/// Wait before the log is asked again, or this pod's feed is looked at again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the end of a stream waits for a client that is behind with reading.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What all streams of a gateway have in common.
pub struct Context {
    pub hub: Arc<Hub>,
    pub log: Arc<Log>,
    /// Who knows events that are older than the log.
    pub history: Option<Arc<History>>,
    pub telemetry: Arc<Telemetry>,
    pub status: Arc<Status>,
    /// Cancelled when the pod begins to let go of its streams; see [`Context::drain`].
    pub drain: CancellationToken,
    pub drain_window: Duration,
    pub heartbeat: Duration,
    /// How long a client may accept nothing.
    pub write_deadline: Duration,
    /// Whether clients are told their place in the log: without a log there is none.
    pub ids: bool,
    /// Most events that a client which comes back is replayed.
    pub max_replay: u64,
    /// Messages that the log keeps of one subject; `None`: all that it has room for.
    pub per_subject: Option<u64>,
    /// Base of the `retry:` of a stream that is sent to another pod, in milliseconds.
    pub retry_ms: u32,
}

impl Context {
    /// Begins to let go of the streams.
    pub fn drain(&self) {
        self.drain.cancel();
        self.hub.nudge();
    }
}

/// A stream.
pub struct Connection {
    pub context: Arc<Context>,
    pub registration: Registration,
    pub heartbeat_mode: HeartbeatMode,
    /// When the stream must end, and why: its longest life, or its credential's; later a drain.
    ends: Option<(Instant, End)>,
    draining: bool,
    /// How long the client may accept nothing.
    deadline: Duration,
    /// Events replayed so far, until the stream is live for the first time.
    replayed: Option<u64>,
    /// Whether the log was asked, since the stream was live, what a limit per subject took from it.
    asked_limits: bool,
    ahead_since: Option<Instant>,
    /// Until the stream is live.
    reading: Option<Box<Reading>>,
    past: Past,
}

impl Connection {
    /// `ends_at`: when the stream must end, its longest life or its credential's.
    #[must_use]
    pub fn new(
        context: Arc<Context>,
        registration: Registration,
        heartbeat_mode: HeartbeatMode,
        ends_at: Option<Instant>,
    ) -> Self {
        let deadline = context.write_deadline;
        Self {
            context,
            registration,
            heartbeat_mode,
            ends: ends_at.map(|at| (at, End::Lifetime)),
            draining: false,
            deadline,
            replayed: Some(0),
            asked_limits: false,
            ahead_since: None,
            reading: None,
            past: Past::default(),
        }
    }

    /// Runs the stream, whose outbox has its line, until it is to end.
    pub async fn run(&mut self) -> End {
        loop {
            // On the heap while it lasts: most of the time there is nothing to do.
            let done = match Box::pin(self.work()).await {
                Ok(()) => self.wait().await,
                end => end,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Lets what was written go out, for as long as it may take, when the stream has ended for a reason of ours.
    pub async fn finish(outbox: &Outbox, end: End, deadline: Duration) {
        if matches!(end, End::Client | End::WriteTimeout) || timeout(deadline, outbox.ending()).await.is_err()
        {
            outbox.writer(Writer::cut);
        }
    }

    /// How long the last bytes may take.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    fn outbox(&self) -> &Outbox {
        &self.registration.outbox
    }

    /// Does what there is to do, until there is nothing.
    async fn work(&mut self) -> Result<(), End> {
        loop {
            self.tick().await?;
            if self.outbox().writer(|writer| writer.is_held_up()) {
                self.room().await?;
            }
            // Read before the queue is looked at: what is in neither is not for this client.
            let head = self.context.hub.head();
            match self.outbox().next(head) {
                Next::Write(items) => self.write_items(items).await?,
                Next::Fetch(after) => self.fetch(after).await?,
                Next::End(end) => {
                    if end == End::Rebalance {
                        self.send_back().await?;
                    }
                    return Err(end);
                }
                Next::Ping => self.beat().await?,
                Next::Wait => {
                    (self.replayed, self.reading) = (None, None);
                    return Ok(());
                }
            }
        }
    }

    async fn wait(&mut self) -> Result<(), End> {
        let due = self.next_due();
        let waited = tokio::select! {
            biased;
            woken = self.registration.outbox.woken() => woken,
            () = sleep_until(due) => Ok(()),
        };
        self.outbox().claim();
        Ok(waited?)
    }

    /// Waits a moment for the log or the feed, without missing a deadline.
    async fn pause(&mut self) -> Result<(), End> {
        let due = self.next_due().min(Instant::now() + AGAIN);
        tokio::select! {
            () = sleep_until(due) => Ok(()),
            gone = self.registration.outbox.gone() => Err(gone.into()),
        }
    }

    fn next_due(&self) -> Instant {
        let times = self.outbox().writer(|writer| writer.times());
        let heartbeat = times.written + self.context.heartbeat;
        let told = times.told + self.context.status.cursor_interval();
        let due = heartbeat.min(told);
        self.ends.map_or(due, |(at, _)| due.min(at))
    }

    /// Does what the clock asks for: the end, a heartbeat, a word about the position.
    async fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.notice_drain();
        if let Some((at, end)) = self.ends
            && now >= at
        {
            if end == End::Drain {
                self.send_back().await?;
            }
            return Err(end);
        }
        let times = self.outbox().writer(|writer| writer.times());
        if now >= times.written + self.context.heartbeat {
            self.beat().await?;
        }
        if now >= times.told + self.context.status.cursor_interval()
            && let Some(position) = self.outbox().writer(Writer::untold)
            && self.context.ids
        {
            self.write(&[wire::position(position)]).await?;
        }
        Ok(())
    }

    /// Tells the client when to come back, to whichever pod.
    async fn send_back(&mut self) -> Result<(), End> {
        self.deadline = self.deadline.min(LAST_WORD);
        let retry = jitter(self.context.retry_ms);
        self.write(&[wire::retry(retry)]).await
    }

    async fn beat(&mut self) -> Result<(), End> {
        let frame = self.heartbeat();
        self.write(&[frame]).await?;
        if self.heartbeat_mode == HeartbeatMode::Event {
            self.outbox().writer(Writer::told);
        }
        Ok(())
    }

    /// Chooses when within the window this stream ends, if the pod drains.
    fn notice_drain(&mut self) {
        if self.draining || !self.context.drain.is_cancelled() {
            return;
        }
        self.draining = true;
        let at = Instant::now() + self.context.drain_window.mul_f64(rand::random::<f64>());
        if self.ends.is_none_or(|(end, _)| at < end) {
            self.ends = Some((at, End::Drain));
        }
    }

    fn heartbeat(&self) -> Frame {
        match self.heartbeat_mode {
            HeartbeatMode::Comment => wire::heartbeat(),
            HeartbeatMode::Event => {
                let has_place = self.context.ids && !self.past.comes_first();
                heartbeat_event(has_place.then(|| self.outbox().writer(|writer| writer.position())))
            }
        }
    }

    async fn write_items(&mut self, items: Vec<Item>) -> Result<(), End> {
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Event(delivery) => events.push(delivery),
                Item::Reset(reason, position) => {
                    self.past = Past::default();
                    self.write_events(&events).await?;
                    events.clear();
                    self.tell_reset(reason, position).await?;
                }
                Item::Gap(reason) => {
                    self.write_events(&events).await?;
                    events.clear();
                    self.tell_gap(reason).await?;
                }
            }
        }
        self.write_events(&events).await
    }

    async fn tell_gap(&mut self, reason: Reset) -> Result<(), End> {
        self.context.telemetry.metrics.resets.inc(reason.as_str());
        self.write(&[wire::reset(reason)]).await
    }

    async fn tell_reset(&mut self, reason: Reset, position: Cursor) -> Result<(), End> {
        self.context.telemetry.metrics.resets.inc(reason.as_str());
        self.room().await?;
        let ids = self.context.ids;
        Ok(self.outbox().writer(|writer| writer.reset(reason, position, ids))?)
    }

    async fn write_events(&mut self, events: &[Arc<Delivery>]) -> Result<(), End> {
        let mut rest = events;
        while !rest.is_empty() {
            let (count, complete) = portion(rest);
            let (now, later) = rest.split_at(count);
            self.room().await?;
            let replayed = self.replayed.is_some();
            self.outbox().writer(|writer| writer.events(now, replayed))?;
            if complete {
                return Err(End::Complete);
            }
            rest = later;
        }
        Ok(())
    }

    async fn write(&mut self, frames: &[Frame]) -> Result<(), End> {
        self.room().await?;
        Ok(self.outbox().writer(|writer| writer.frames(frames))?)
    }

    /// Waits until the client has taken what was written before. One that takes little at a time is slow, one
    /// that takes nothing is stalled. The end of the stream does not wait for either: it cuts a client that is
    /// too far behind.
    async fn room(&mut self) -> Result<(), End> {
        let begun = Instant::now();
        loop {
            self.notice_drain();
            let times = self.outbox().writer(|writer| writer.times());
            let stalled = (times.accepted.max(begun) + self.deadline, End::WriteTimeout);
            let late = self.ends.map(|(at, end)| (at.max(times.written) + LAST_WORD, end));
            let (at, end) = late.filter(|late| late.0 < stalled.0).unwrap_or(stalled);
            let ended = tokio::select! {
                biased;
                room = self.registration.outbox.room() => match room {
                    Room::There => return Ok(()),
                    Room::Nudged => continue,
                    Room::Gone => End::Client,
                    Room::Ended(end) => end,
                },
                () = sleep_until(at) => {
                    let accepted = self.outbox().writer(|writer| writer.times()).accepted;
                    if end == End::WriteTimeout && accepted > times.accepted {
                        continue;
                    }
                    end
                }
            };
            self.outbox().writer(Writer::cut);
            return Err(ended);
        }
    }
}

/// How many of these share the next write, and whether the last of them completes the stream: nothing comes
/// after it.
fn portion(events: &[Arc<Delivery>]) -> (usize, bool) {
    let mut size = 0;
    let fits = |delivery: &&Arc<Delivery>| {
        size += delivery.frame.as_bytes().len();
        size <= WRITE
    };
    let count = events.iter().take_while(fits).count().max(1);
    let complete = events[..count].iter().position(|delivery| delivery.complete);
    (complete.map_or(count, |at| at + 1), complete.is_some())
}

/// From half to one and a half of `base`.
fn jitter(base: u32) -> u32 {
    base / 2 + rand::random_range(0..=base.max(1))
}

/// A heartbeat that a page sees, with the connection's place.
#[must_use]
pub fn heartbeat_event(id: Option<Cursor>) -> Frame {
    let data = format!(r#"{{"type":"heartbeat","timestamp":"{:.3}"}}"#, jiff::Timestamp::now());
    Block { id, event: Field::new("heartbeat"), retry: None, data: &data }.encode()
}
