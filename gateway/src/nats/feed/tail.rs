//! What the leader says of the end of the log. Nothing else would show that the last message before a silence was lost.

use std::time::{Duration, SystemTime};

use async_nats::Subscriber;
use async_nats::jetstream::stream::Info;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::{Broken, DEADLINE, Feed};
use crate::nats::provision;

/// How often the place of a log in memory is noted.
const MARK: Duration = Duration::from_secs(30);
/// How long the leader may be silent, as it is while another is elected, before handshakes are refused.
const SILENCE: Duration = Duration::from_secs(10);

/// What the leader says of the stream.
pub(super) enum Tail {
    At(Box<Info>),
    Gone,
    Unknown,
}

impl Feed {
    pub(super) fn ask_tail(&mut self) -> impl Future<Output = Tail> + 'static {
        let (jetstream, name) = (self.jetstream.clone(), self.config.stream_name());
        let config = self.config.clone();
        let mark = self.last_mark.is_none_or(|at| at.elapsed() >= MARK);
        if mark {
            self.last_mark = Some(Instant::now());
        }
        async move {
            match timeout(DEADLINE, jetstream.get_stream(name)).await {
                Ok(Ok(stream)) if provision::has_leader(stream.cached_info()) => {
                    let info = stream.cached_info();
                    if mark
                        && let Ok(Err(error)) =
                            timeout(DEADLINE, provision::mark(&jetstream, &config, info)).await
                    {
                        warn!(%error, "The place in the log could not be noted.");
                    }
                    Tail::At(Box::new(info.clone()))
                }
                Ok(Err(error)) if provision::is_not_found(&error) => Tail::Gone,
                _ => Tail::Unknown,
            }
        }
    }

    /// Compares what the leader has with what came. Nothing else would show that the last message
    /// before a silence was lost. What the leader had at the last check has had time to come; what it
    /// has now may still be on its way. And what came since it was asked, with `head_then` in the hub,
    /// may be more than it speaks of.
    pub(super) async fn check_tail(
        &mut self,
        tail: Tail,
        (head_then, asked): (u64, Instant),
        subscriber: &mut Subscriber,
    ) -> Result<(), Broken> {
        let info = match tail {
            Tail::At(info) => info,
            Tail::Gone => return Err(Broken::Remade),
            Tail::Unknown => {
                if self.answered.elapsed() > SILENCE && self.status.is_connected() {
                    warn!("The leader of the stream does not answer.");
                    self.status.set_disconnected("the leader of the stream does not answer".into());
                }
                return Ok(());
            }
        };
        self.answered = Instant::now();
        if !self.status.is_connected() {
            info!("The leader of the stream answers again.");
            self.status.set_connected();
        }
        let last = info.state.last_sequence;
        self.look_at(&info, last, asked);
        let epoch = info.config.metadata.get("epoch").map(String::as_str);
        let known = self.hub.epoch().map(|epoch| epoch.to_string());
        if provision::is_outdated(&self.config, &info) {
            // A pod of an older generation put it back, in the moment in which it was updated.
            return Err(Broken::Remade);
        }
        if last < head_then || epoch.is_some_and(|epoch| Some(epoch) != known.as_deref()) {
            return Err(Broken::Remade);
        }
        let due = std::mem::replace(&mut self.seen_at_leader, last);
        self.repair(due, subscriber).await
    }

    pub(super) fn look_at(&self, info: &Info, last: u64, asked: Instant) {
        self.status.set_last_sequence(last, asked);
        if info.state.messages > 0 {
            let since = SystemTime::from(info.state.first_timestamp);
            let kept = SystemTime::now().duration_since(since).unwrap_or_default();
            // One that is young will hold longer than it has been there.
            let room = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX) / info.state.bytes.max(1);
            let will = kept.saturating_mul(u32::try_from(room).unwrap_or(u32::MAX).max(1));
            let age = Some(info.config.max_age).filter(|age| !age.is_zero());
            if self.status.set_span(age.map_or(will, |age| will.min(age))) {
                self.hub.nudge();
            }
        }
    }

    /// A sequence that came before, out of the blue: does the log count from the beginning again?
    pub(super) async fn look_back(&mut self) -> Result<(), Broken> {
        self.hub.uncork();
        let tail = self.ask_tail();
        match self.answer(tail).await? {
            Tail::At(info) if info.state.last_sequence >= self.hub.head() => Ok(()),
            Tail::At(_) | Tail::Gone => Err(Broken::Remade),
            Tail::Unknown => Err(Broken::Nats("the leader did not answer".into())),
        }
    }
}
