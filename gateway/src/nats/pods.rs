//! The pods of a gateway tell each other how many streams they have: the console shows it, and a hot pod lets some go
//! ([`rebalance`]), where the spec has them do so. And they tell which users have several of them ([`limits`]).
//!
//! Over core NATS, on a subject of the gateway's own, `<prefix>-pods.<namespace>.<name>`: nothing is stored, and a pod
//! that is not heard is not counted. A pod without NATS says nothing, hears nothing and lets nobody go.
//!
//! [`rebalance`]: crate::rebalance
//! [`limits`]: crate::connection::limits

use std::time::Duration;

use async_nats::Message;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{info, warn};

use super::{Link, now};
use crate::config::GatewayName;
use crate::connection::limits::{Limits, User};
use crate::hub::Hub;
use crate::rebalance::{Fleet, LetGo, Streams, Verdict, Word};
use crate::subject::Token;

/// How often the pod looks whether it is hot.
const LOOK: Duration = Duration::from_secs(1);
/// Streams that are younger stay, in milliseconds: who was just sent away is not sent again.
const YOUNG: u64 = 20_000;
/// How often users are told of, and of how many at most.
const USERS: Duration = Duration::from_millis(250);
const MOST_USERS: usize = 500;
/// All of them are told of again after so long: a pod may have missed something.
const USERS_AGAIN: Duration = Duration::from_secs(30);
/// Largest word that is listened to, in bytes; one of users may be as large as so many of them.
const LONGEST: usize = 1024;
const LONGEST_OF_USERS: usize = 512 * 1024;
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
    /// Its streams by user, and what is known of those of the others.
    pub limits: &'a Limits,
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
        let (mut looks, mut users, mut again) = (interval(LOOK), interval(USERS), interval(USERS_AGAIN));
        for interval in [&mut looks, &mut users, &mut again] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let (mut next_word, mut was_taking, mut last) = (Instant::now(), false, Verdict::Fair);
        let mut pods = Streams::new();
        loop {
            tokio::select! {
                word = words.next() => match word {
                    Some(word) => self.hear(fleet, &word),
                    None => return,
                },
                _ = users.tick() => self.tell_users(link).await,
                _ = again.tick() => {
                    self.limits.tell_again();
                    self.limits.forget(|_| false, Instant::now());
                }
                () = sleep_until(next_word) => {
                    next_word = Instant::now() + fleet.interval();
                    let streams = (self.taking)();
                    if streams.is_some() || was_taking {
                        self.tell(link, streams).await;
                    }
                    was_taking = streams.is_some();
                }
                _ = looks.tick() => {
                    let before = std::mem::replace(&mut pods, fleet.streams(Instant::now()));
                    self.compare(&before, &pods);
                    self.heard.send_replace(pods.clone());
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

    /// Tells of the users whose streams are news. Who goes itself does not count any more.
    async fn tell_users(&self, link: &Link) {
        if !link.state.borrow().connected || (self.taking)().is_none() {
            return;
        }
        let news = self.limits.news(MOST_USERS);
        // To nobody else: who joins is told of all.
        if news.is_empty() || self.heard.borrow().keys().all(|pod| *pod == self.own) {
            return;
        }
        let told = |((tenant, user), streams): (User, u32)| (tenant.to_string(), user.to_string(), streams);
        let word = OfUsers { of: self.own.clone(), users: news.into_iter().map(told).collect() };
        if let Ok(json) = serde_json::to_vec(&word) {
            // One that is not told is told again.
            let _ = link.client().publish(self.subject.clone(), json.into()).await;
        }
    }

    fn hear(&self, fleet: &mut Fleet, message: &Message) {
        let (payload, now) = (&message.payload, Instant::now());
        if payload.len() <= LONGEST
            && let Ok(word) = serde_json::from_slice(payload)
        {
            fleet.hear(word, now);
        } else if payload.len() <= LONGEST_OF_USERS
            && let Ok(OfUsers { of, users }) = serde_json::from_slice(payload)
            && of != self.own
        {
            let user = |(tenant, user, streams): (String, String, u32)| {
                Some(((Token::read(&tenant)?, Token::read(&user)?), streams))
            };
            self.limits.hear(&of, users.into_iter().filter_map(user), now);
        }
    }

    /// Sees to it that pods which came know the users here, and that what those told that went is forgotten.
    fn compare(&self, before: &Streams, after: &Streams) {
        if after.keys().any(|pod| !before.contains_key(pod)) {
            self.limits.tell_again();
        }
        let gone = |pod: &str| before.contains_key(pod) && !after.contains_key(pod);
        if before.keys().any(|pod| gone(pod)) {
            self.limits.forget(gone, Instant::now());
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

/// What a pod tells of users: tenant, user and how many streams there are. Unlike a [`Word`], so that nothing takes
/// one for the other.
#[derive(Serialize, Deserialize)]
struct OfUsers {
    of: String,
    users: Vec<(String, String, u32)>,
}
