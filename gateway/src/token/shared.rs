//! Tokens in the memory of the pod that minted them, for gateways on core NATS alone. A pod that is shown a
//! token of another asks all; the one that has it takes it out and answers. So exactly one request wins, and
//! an answer that is lost fails closed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::Request;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::warn;

use super::{Record, TokenError};
use crate::auth::Unauthorized;
use crate::config::GatewayName;
use crate::nats::Link;
use crate::nats::question::Unanswered;

/// How long the pod that minted a token may take to answer. A token that nobody knows takes as long.
const DEADLINE: Duration = Duration::from_secs(1);
/// Tokens that other pods are asked for at one time: anybody can show one that nobody minted.
const ASKED: usize = 1024;
/// Tokens that one pod keeps.
const MOST: usize = 100_000;
/// Wait before a subscription that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The tokens that this pod minted, and the way to those of others.
pub struct Shared {
    link: Link,
    subject: String,
    records: Mutex<HashMap<String, Record>>,
    /// One for each token that other pods are asked for.
    asking: Semaphore,
}

impl Shared {
    #[must_use]
    pub fn new(link: Link, prefix: &str, name: &GatewayName) -> Self {
        let subject = format!("{prefix}-tok.{}.{}", name.namespace, name.name);
        Self { link, subject, records: Mutex::default(), asking: Semaphore::new(ASKED) }
    }

    pub(super) fn put(&self, key: String, record: Record) -> Result<(), TokenError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= MOST {
            records.retain(|_, record| !record.is_expired());
        }
        if records.len() >= MOST {
            return Err(TokenError::Unavailable);
        }
        records.insert(key, record);
        Ok(())
    }

    pub(super) async fn take(&self, key: &str) -> Result<Record, TokenError> {
        if let Some(record) = self.take_own(key) {
            return Ok(record);
        }
        let _turn = self.asking.try_acquire().map_err(|_| TokenError::Unavailable)?;
        let question = Request::new().payload(key.to_owned().into());
        let answer = match self.link.ask(&self.subject, question, DEADLINE).await {
            Ok(answer) => answer,
            // Who has it may not have been asked.
            Err(Unanswered::Away) => return Err(TokenError::Unavailable),
            Err(_) => return Err(Unauthorized::Token.into()),
        };
        Ok(serde_json::from_slice(&answer.payload).map_err(|_| Unauthorized::Token)?)
    }

    fn take_own(&self, key: &str) -> Option<Record> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.remove(key).filter(|record| !record.is_expired())
    }

    /// Answers the other pods, for ever.
    pub async fn run(&self) {
        loop {
            let (client, replaced) = self.link.present();
            match client.subscribe(self.subject.clone()).await {
                Ok(mut questions) => {
                    let answer = async {
                        while let Some(question) = questions.next().await {
                            self.answer(question).await;
                        }
                    };
                    tokio::select! {
                        () = answer => {}
                        () = replaced => continue,
                    }
                }
                Err(error) => warn!(%error, "Other pods can not be answered; trying again."),
            }
            sleep(AGAIN).await;
        }
    }

    async fn answer(&self, question: async_nats::Message) {
        let key = std::str::from_utf8(&question.payload).ok();
        let Some((key, reply)) = key.zip(question.reply) else { return };
        // Who does not have it keeps silent: another does.
        let Some(record) = self.take_own(key) else { return };
        if let Ok(json) = serde_json::to_vec(&record)
            && let Err(error) = self.link.client().publish(reply, json.into()).await
        {
            warn!(%error, "Another pod could not be answered; its client needs a new token.");
        }
    }
}
