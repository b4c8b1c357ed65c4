//! Events without a log, on core NATS alone: `replay.enabled: false`. At most once, without ids. What was
//! published while the connection was down is lost, and open streams are told that there is a gap.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use futures::StreamExt;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Link;
use super::dead::DeadLetters;
use super::status::Status;
use crate::cursor::Epoch;
use crate::event::{Entry, Message, Source};
use crate::hub::Hub;

/// Wait before a subscription that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Feeds the hub from core NATS.
pub struct Live {
    pub link: Link,
    /// `<prefix>.>`
    pub subjects: String,
    pub hub: Arc<Hub>,
    pub dead: Arc<DeadLetters>,
    pub status: Arc<Status>,
}

impl Live {
    /// Feeds the hub, for ever.
    pub async fn run(mut self) {
        loop {
            let generation = self.link.connected(&self.status).await;
            match self.link.client().subscribe(self.subjects.clone()).await {
                Ok(mut messages) => {
                    info!("Events come live, without a log.");
                    // A life of its own for each connection: what came between is told as a gap.
                    self.hub.begin(Epoch(rand::random()), 0);
                    self.status.set_connected();
                    self.follow(&mut messages, generation).await;
                    self.status.set_disconnected("the connection was lost".into());
                }
                Err(error) => {
                    warn!(%error, "Events can not be subscribed to; trying again.");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn follow(&mut self, messages: &mut async_nats::Subscriber, generation: u64) {
        loop {
            tokio::select! {
                biased;
                changed = self.link.state.changed() => {
                    let state = self.link.state.borrow_and_update();
                    if changed.is_err() || !state.connected || state.generation != generation {
                        return;
                    }
                }
                message = messages.next() => match message {
                    Some(message) => self.receive(message).await,
                    None => return,
                },
            }
        }
    }

    async fn receive(&self, message: async_nats::Message) {
        let none = HeaderMap::new();
        let headers = message.headers.as_ref().unwrap_or(&none);
        // A place of this pod's own: nobody sees it.
        let sequence = self.hub.head() + 1;
        // No server added a header to it: any that claims so is a forgery.
        let source = Source::Stored;
        let message = Message::new(sequence, message.subject.clone(), headers, message.payload, source);
        self.dead.hand_over(&self.hub, Entry::new(message)).await;
    }
}
