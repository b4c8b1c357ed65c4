//! The pods of a gateway tell each other how many streams they have: the console shows it, and a hot pod lets some go
//! ([`rebalance`]), where the spec has them do so.
//!
//! Over core NATS, on a subject of the gateway's own, `<prefix>-pods.<namespace>.<name>`: nothing is stored, and a pod
//! that is not heard is not counted. A pod without NATS says nothing, hears nothing and lets nobody go.

use std::time::Duration;

use async_nats::Message;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{info, warn};

use super::{Link, now};
use crate::config::GatewayName;
use crate::hub::Hub;
use crate::rebalance::{Fleet, LetGo, Streams, Verdict, Word};

/// How often the pod looks whether it is hot.
const LOOK: Duration = Duration::from_secs(1);
/// Streams that are younger stay, in milliseconds: who was just sent away is not sent again.
const YOUNG: u64 = 20_000;
/// Largest word that is listened to, in bytes.
const LONGEST: usize = 1024;
/// Wait before a subscription that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Where the pods of a gateway talk.
#[must_use]
pub fn subject(prefix: &str, name: &GatewayName) -> String {
    format!("{prefix}-pods.{}.{}", name.namespace, name.name)
}

/// This pod, and what it knows of the others.
pub struct Pods<'a> {
    pub subject: String,
    /// This one's name.
    pub own: String,
    pub hub: &'a Hub,
    /// Its streams, while it wants more.
    pub taking: &'a (dyn Fn() -> Option<u32> + Send + Sync),
    /// Where those of all pods are told, each second.
    pub heard: &'a watch::Sender<Streams>,
    /// Whether streams are let go of.
    pub rebalance: bool,
}

impl Pods<'_> {
    /// Tells, listens and lets go, for ever.
    pub async fn run(&self, link: &Link) {
        let mut fleet = Fleet::new(self.own.clone(), Instant::now());
        loop {
            let (client, replaced) = link.present();
            match client.subscribe(self.subject.clone()).await {
                Ok(words) => {
                    tokio::select! {
                        () = self.follow(link, &mut fleet, words) => {}
                        () = replaced => continue,
                    }
                }
                Err(error) => warn!(%error, "The other pods can not be heard; trying again."),
            }
            sleep(AGAIN).await;
        }
    }

    async fn follow(&self, link: &Link, fleet: &mut Fleet, mut words: async_nats::Subscriber) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut next_word, mut was_taking, mut last) = (Instant::now(), false, Verdict::Fair);
        loop {
            tokio::select! {
                word = words.next() => match word {
                    Some(word) => hear(fleet, &word),
                    None => return,
                },
                () = sleep_until(next_word) => {
                    next_word = Instant::now() + fleet.interval();
                    let streams = (self.taking)();
                    if streams.is_some() || was_taking {
                        self.tell(link, streams).await;
                    }
                    was_taking = streams.is_some();
                }
                _ = looks.tick() => {
                    self.heard.send_replace(fleet.streams(Instant::now()));
                    match (self.taking)() {
                        Some(streams) if self.rebalance => self.look(fleet, streams, &mut last),
                        // The others are told at once.
                        None if was_taking => next_word = Instant::now(),
                        _ => {}
                    }
                }
            }
        }
    }

    async fn tell(&self, link: &Link, streams: Option<u32>) {
        // What waits for a connection would be old when it comes.
        if !link.state.borrow().connected {
            return;
        }
        let word = Word { pod: self.own.clone(), streams };
        if let Ok(json) = serde_json::to_vec(&word) {
            // One that is not told is late for the others, and they wait.
            let _ = link.client().publish(self.subject.clone(), json.into()).await;
        }
    }

    fn look(&self, fleet: &mut Fleet, streams: u32, last: &mut Verdict) {
        let verdict = fleet.look(streams, Instant::now());
        match verdict {
            Verdict::LetGo(LetGo { count, mean, pods }) => {
                if *last == Verdict::Fair {
                    info!(
                        streams,
                        mean, pods, "The pod has more streams than others; it sends some to them."
                    );
                }
                fleet.let_go(self.hub.let_go(count, now().saturating_sub(YOUNG)));
            }
            Verdict::Rest if *last != Verdict::Rest => {
                warn!(
                    streams,
                    "Streams come back to this pod as fast as it lets them go; it stops for some minutes."
                );
            }
            Verdict::Fair | Verdict::Rest => {}
        }
        *last = verdict;
    }
}

fn hear(fleet: &mut Fleet, message: &Message) {
    if message.payload.len() <= LONGEST
        && let Ok(word) = serde_json::from_slice(&message.payload)
    {
        fleet.hear(word, Instant::now());
    }
}
