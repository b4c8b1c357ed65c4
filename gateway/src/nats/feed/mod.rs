//! The live feed: one subscription to `<prefix>-live.>`, made contiguous.
//!
//! NATS republishes what it stored at most once, so a message can be missing. Each carries its
//! sequence: a loss shows at the next message, and where none follows at the check of the leader's
//! last sequence every second. What is missing is read from the log before anything later enters the
//! hub; meanwhile later messages wait in the subscription, which is bounded, and not for long.
//!
//! After each connect the seam is an acknowledged publish into the stream on this connection:
//! everything stored after it comes through the subscription, everything before it is in the log.

mod repair;
mod tail;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::Context;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use super::dead::DeadLetters;
use super::log::Log;
use super::provision::{self, Facts, ProvisionError};
use super::status::Status;
use super::{Link, Parts};
use crate::config::Config;
use crate::event::{Entry, Message};
use crate::hub::Hub;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use tail::Tail;

/// How often the leader is asked for its last sequence.
const TAIL_CHECK: Duration = Duration::from_secs(1);
/// How long NATS may take for one answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Seams leave a message each in the log: a flapping connection makes at most one in this time.
const SEAM_PACE: Duration = Duration::from_secs(10);
/// Wait before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Messages that came together and go out together, at most.
const TOGETHER: u32 = 64;

/// Feeds the hub, for the life of the process.
pub struct Feed {
    link: Link,
    jetstream: Context,
    config: Arc<Config>,
    hub: Arc<Hub>,
    log: Arc<Log>,
    dead: Arc<DeadLetters>,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    /// Of the connection that the feed was last established over.
    generation: u64,
    /// Token of the subject that this pod's seams have.
    pod: String,
    subscriber: Option<Subscriber>,
    /// Up to here the log was read: live messages below it come twice.
    repaired: u64,
    last_seam: Option<Instant>,
    last_mark: Option<Instant>,
    /// Last sequence at the leader, at the last check.
    seen_at_leader: u64,
    /// When the leader answered last.
    answered: Instant,
}

/// Why the feed has to be established again.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error("the log could not be read: {0}")]
    Log(#[from] super::log::LogError),
    #[error("{0}")]
    Nats(String),
    #[error("the connection was made anew")]
    Reconnected,
    #[error("the stream is another one")]
    Remade,
}

impl Feed {
    /// A feed that nothing has come through yet.
    #[must_use]
    pub fn new(link: Link, parts: &Parts) -> Self {
        let Parts { config, hub, log, dead, metrics, status, pod, .. } = parts.clone();
        let jetstream = async_nats::jetstream::new(link.client());
        Self {
            link,
            jetstream,
            config,
            hub,
            log,
            dead,
            metrics,
            status,
            generation: 0,
            pod,
            subscriber: None,
            repaired: 0,
            last_seam: None,
            last_mark: None,
            seen_at_leader: 0,
            answered: Instant::now(),
        }
    }

    /// Feeds the hub, for ever.
    pub async fn run(mut self) {
        loop {
            self.generation = self.link.connected(&self.status).await;
            self.take_client();
            let broken = match self.establish().await {
                Ok(()) => {
                    self.answered = Instant::now();
                    self.clear_problems();
                    self.status.set_connected();
                    self.follow().await
                }
                Err(broken) => broken,
            };
            if let Broken::Provision(error) = &broken {
                self.status.set_problem(error.reason(), error.to_string());
            }
            match broken {
                Broken::Reconnected => self.status.set_disconnected(broken.to_string()),
                Broken::Remade => sleep(AGAIN / 5).await,
                broken => {
                    // Whom the server does not permit to ask, it does not answer.
                    let denied = self.link.state.borrow().denied.clone();
                    let why =
                        denied.map_or_else(|| broken.to_string(), |denied| format!("{broken}; {denied}"));
                    warn!(error = why, "The live feed is interrupted.");
                    self.status.set_disconnected(why);
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Goes on with the client of now, which may be another one.
    fn take_client(&mut self) {
        if let Some(client) = self.link.replaced() {
            self.subscriber = None;
            self.jetstream = async_nats::jetstream::new(client);
        }
    }

    fn clear_problems(&self) {
        ProvisionError::REASONS.into_iter().for_each(|reason| self.status.clear_problem(reason));
    }

    /// Stream, bucket, subscription, seam; then everything up to the seam is in the hub.
    async fn establish(&mut self) -> Result<(), Broken> {
        let asked = Instant::now();
        let facts = self.within(provision::stream(&self.jetstream, &self.config)).await??;
        let bucket = self.within(provision::bucket(&self.jetstream, &self.config)).await??;
        self.status.set_tokens(Tokens::Bucket(Arc::new(bucket)));
        let mut subscriber = match self.subscriber.take() {
            Some(subscriber) => subscriber,
            None => self.subscribe().await?,
        };
        let begun = self.begin(&facts, asked, &mut subscriber).await;
        self.subscriber = Some(subscriber);
        begun
    }

    async fn subscribe(&self) -> Result<Subscriber, Broken> {
        let subject = format!("{}-live.>", self.config.spec.nats.subject_prefix);
        let subscriber = self.link.client().subscribe(subject).await;
        subscriber.map_err(|error| Broken::Nats(error.to_string()))
    }

    /// Brings the hub to a seam.
    async fn begin(
        &mut self,
        facts: &Facts,
        asked: Instant,
        subscriber: &mut Subscriber,
    ) -> Result<(), Broken> {
        let seam = self.seam(facts).await?;
        match self.hub.epoch() {
            None if facts.fallen => {
                let renewed = provision::renew(&self.jetstream, &self.config, facts, facts.epoch);
                let epoch = self.within(renewed).await??;
                warn!(%epoch, "The log was lost while no gateway ran.");
                self.hub.begin(epoch, seam);
            }
            None => {
                info!(epoch = %facts.epoch, sequence = seam, "The live feed begins.");
                self.hub.begin(facts.epoch, seam);
            }
            Some(known) if facts.epoch != known || facts.fallen || seam < self.hub.head() => {
                let epoch =
                    self.within(provision::renew(&self.jetstream, &self.config, facts, known)).await??;
                warn!(%known, %epoch, "The log was made anew; open streams are told.");
                self.log.forget();
                (self.repaired, self.seen_at_leader) = (0, 0);
                self.hub.begin(epoch, seam);
            }
            Some(_) => self.repair(seam, subscriber).await?,
        }
        self.look_at(&facts.info, seam, asked);
        Ok(())
    }

    /// A sequence up to which the log has everything that this subscription may have missed.
    async fn seam(&mut self, facts: &Facts) -> Result<u64, Broken> {
        if self.last_seam.is_some_and(|at| at.elapsed() < SEAM_PACE) {
            return Ok(facts.info.state.last_sequence);
        }
        self.last_seam = Some(Instant::now());
        let subject = format!("{}._sys.{}", self.config.spec.nats.subject_prefix, self.pod);
        let acknowledged = async {
            let published = self.jetstream.publish(subject, "".into()).await;
            published.map_err(|e| Broken::Nats(e.to_string()))?.await.map_err(|e| Broken::Nats(e.to_string()))
        };
        Ok(self.within(acknowledged).await??.sequence)
    }

    /// Follows the feed until it has to be established again.
    async fn follow(&mut self) -> Broken {
        let Some(mut subscriber) = self.subscriber.take() else {
            return Broken::Nats("there is no subscription".into());
        };
        let link = self.link.clone();
        let mut lost = pin!(link.lost(self.generation));
        let mut ticks = interval(TAIL_CHECK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tail: Option<BoxFuture<'static, Tail>> = None;
        let mut then = (self.hub.head(), Instant::now());
        let broken = loop {
            let step = tokio::select! {
                biased;
                () = lost.as_mut() => Err(Broken::Reconnected),
                answer = async { match tail.as_mut() { Some(tail) => tail.await, None => std::future::pending().await } } => {
                    tail = None;
                    self.check_tail(answer, then, &mut subscriber).await
                }
                _ = ticks.tick(), if tail.is_none() => {
                    then = (self.hub.head(), Instant::now());
                    tail = Some(self.ask_tail().boxed());
                    Ok(())
                }
                message = subscriber.next() => match message {
                    Some(message) => self.receive_all(message, &mut subscriber).await,
                    // It is not put back: another has to be made.
                    None => return Broken::Nats("the subscription ended".into()),
                },
            };
            if let Err(broken) = step {
                break broken;
            }
        };
        self.subscriber = Some(subscriber);
        broken
    }

    /// What NATS answers. What it was asked over a connection that is lost it answers no more: that is
    /// not waited for.
    async fn answer<T>(&self, asked: impl Future<Output = T>) -> Result<T, Broken> {
        tokio::select! {
            biased;
            answer = asked => Ok(answer),
            () = self.link.lost(self.generation) => Err(Broken::Reconnected),
        }
    }

    /// The same, in time.
    async fn within<T>(&self, asked: impl Future<Output = T>) -> Result<T, Broken> {
        let answer = self.answer(timeout(DEADLINE, asked)).await?;
        answer.map_err(|_| Broken::Nats("NATS did not answer in time".into()))
    }

    /// Receives a message and those that came with it, which go out together.
    async fn receive_all(
        &mut self,
        message: async_nats::Message,
        subscriber: &mut Subscriber,
    ) -> Result<(), Broken> {
        let (mut next, mut left) = (Some(message), TOGETHER);
        let mut received = Ok(());
        while let Some(message) = next.take().filter(|_| received.is_ok()) {
            left -= 1;
            // The end of the subscription is seen at the next look.
            next = if left > 0 { subscriber.next().now_or_never().flatten() } else { None };
            if next.is_some() {
                self.hub.cork();
            }
            received = self.receive(message, subscriber).await;
        }
        self.hub.uncork();
        received
    }

    async fn receive(
        &mut self,
        message: async_nats::Message,
        subscriber: &mut Subscriber,
    ) -> Result<(), Broken> {
        let Some(message) = self.stored(message) else { return Ok(()) };
        let (sequence, head) = (message.sequence, self.hub.taken());
        if sequence <= head {
            // Read from the log already; or the log counts from the beginning again.
            return if sequence <= self.repaired { Ok(()) } else { self.look_back().await };
        }
        if sequence > head + 1 {
            let newest = self.newest_waiting(sequence, subscriber);
            if newest > sequence {
                return self.repair(newest, subscriber).await;
            }
            self.repair(sequence - 1, subscriber).await?;
        }
        self.dead.hand_over(&self.hub, Entry::new(message)).await;
        Ok(())
    }

    /// A message of the feed, under the subject that it was published to.
    fn stored(&self, message: async_nats::Message) -> Option<Message> {
        let headers = message.headers?;
        let prefix = &self.config.spec.nats.subject_prefix;
        let rest = message.subject.strip_prefix(prefix.as_str())?.strip_prefix("-live.")?;
        let subject = format!("{prefix}.{rest}").into();
        Message::annotated(Some(subject), &headers, &message.payload)
    }
}
