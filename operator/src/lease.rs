//! Which of several operators works: the one that holds a Lease.
//!
//! The holder renews it every [`RETRY`], and is done when it could not for [`RENEW_WITHIN`]. Another
//! takes it when it is free, or when it has seen it unrenewed for [`DURATION`]: by its own clock, not
//! by the times in it, so clocks need not agree. What is between the two is for requests that were
//! under way. Every write is bound to the version that was read, so of two that try one succeeds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::memory::jittered;
use crate::notice::chain;

/// How long a Lease holds that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long the holder works on without having renewed it.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two tries, of the holder and of those who wait.
const RETRY: Duration = Duration::from_secs(2);
/// How long the API server may take for one try.
const ANSWER: Duration = Duration::from_secs(4);

/// Until when this process may change what the cluster holds.
#[derive(Debug, Default)]
pub struct Tenure(Mutex<Option<Instant>>);

impl Tenure {
    #[must_use]
    pub fn holds(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    #[cfg(test)]
    pub fn end(&self) {
        self.set(None);
    }

    /// One without an end.
    #[cfg(test)]
    pub fn forever() -> Self {
        Self(Mutex::new(Instant::now().checked_add(Duration::from_hours(1))))
    }
}

/// Why the Lease is not ours any more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("it was not renewed for {} s: {why}", RENEW_WITHIN.as_secs())]
    Unrenewed { why: String },
    #[error("{0} holds it")]
    Taken(String),
    #[error("it was deleted")]
    Deleted,
}

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("the API server refused")]
    Api(#[from] kube::Error),
    #[error("no answer within {} s", ANSWER.as_secs())]
    NoAnswer,
}

/// One who wants the Lease, and may hold it.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    /// Of this process, not of its pod: one that is started again has to win the Lease anew.
    identity: String,
    tenure: Arc<Tenure>,
    /// What the Lease said last, and since when it says it.
    seen: Option<(LeaseSpec, Instant)>,
    /// The Lease as this process wrote it last.
    held: Option<Lease>,
}

impl Candidate {
    /// A candidate for the Lease of that name in the client's own namespace.
    #[must_use]
    pub fn new(client: Client, name: &str, pod: &str, tenure: Arc<Tenure>) -> Self {
        Self {
            api: Api::default_namespaced(client),
            name: name.to_owned(),
            identity: format!("{pod}_{:08x}", rand::random::<u32>()),
            tenure,
            seen: None,
            held: None,
        }
    }

    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns when this process holds the Lease. `tell` hears after each try what keeps it from trying.
    pub async fn won(&mut self, tell: impl Fn(Option<String>)) {
        loop {
            let began = Instant::now();
            match in_time(self.take()).await {
                Ok(true) => return self.tenure.set(Some(began + RENEW_WITHIN)),
                Ok(false) => tell(None),
                Err(error) => {
                    let why = format!("Lease {} can not be had: {}", self.name, chain(&error));
                    debug!(error = why, "Not the leader.");
                    tell(Some(why));
                }
            }
            sleep(jittered(RETRY)).await;
        }
    }

    /// Renews the Lease; returns when it is lost. Can be dropped and called again.
    pub async fn lost(&mut self) -> Lost {
        let mut why = Error::NoAnswer;
        loop {
            let Some(until) = self.tenure.until() else { return Lost::Deleted };
            sleep(jittered(RETRY).min(until.saturating_duration_since(Instant::now()))).await;
            let began = Instant::now();
            match in_time(self.renew()).await {
                Ok(()) => self.tenure.set(Some(began + RENEW_WITHIN)),
                Err(Error::Lost(lost)) => return self.over(lost),
                Err(error) => {
                    warn!(lease = self.name, error = chain(&error), "The Lease was not renewed.");
                    why = error;
                }
            }
            if !self.tenure.holds() {
                return self.over(Lost::Unrenewed { why: chain(&why) });
            }
        }
    }

    fn over(&mut self, lost: Lost) -> Lost {
        self.tenure.set(None);
        self.held = None;
        lost
    }

    /// Lets another have the Lease at once. Nothing may be under way any more.
    pub async fn release(&mut self) {
        self.tenure.set(None);
        let Some(mut lease) = self.held.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams::default();
        let replaced = async { Ok(self.api.replace(&self.name, &params, &lease).await.map(drop)?) };
        if let Err(error) = in_time(replaced).await {
            warn!(lease = self.name, error = chain(&error), "The Lease was not released; it runs out.");
        }
    }

    /// Takes the Lease, if it is free.
    async fn take(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let params = PostParams::default();
        let written = match self.api.get_opt(&self.name).await? {
            Some(mut lease) => {
                let spec = lease.spec.unwrap_or_default();
                if !self.is_free(&spec, now) {
                    return Ok(false);
                }
                lease.spec = Some(self.claim(Some(&spec)));
                self.api.replace(&self.name, &params, &lease).await
            }
            // Deleted under its holder, who has to notice first.
            None if self.seen.as_ref().is_some_and(|(spec, since)| !self.runs_out(spec, *since, now)) => {
                return Ok(false);
            }
            None => {
                let name = Some(self.name.clone());
                let metadata = ObjectMeta { name, ..ObjectMeta::default() };
                self.api.create(&params, &Lease { metadata, spec: Some(self.claim(None)) }).await
            }
        };
        match written {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            // Another was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the Lease that says this can be taken; remembers since when it says it.
    fn is_free(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => now,
        };
        self.seen = Some((spec.clone(), since));
        self.runs_out(spec, since, now)
    }

    fn runs_out(&self, spec: &LeaseSpec, since: Instant, now: Instant) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        // Its own: the answer to the try before was not received.
        holder.is_empty() || holder == self.identity || now.duration_since(since) >= duration
    }

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0).saturating_add(1));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let Some(mut lease) = self.held.clone() else { return Err(Lost::Deleted.into()) };
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams::default();
        let renewed = match self.api.replace(&self.name, &params, &lease).await {
            // Someone wrote to it, or the answer to a renewal was not received.
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                let live = self.api.get_opt(&self.name).await?.ok_or(Lost::Deleted)?;
                let holder = live.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
                let holder = holder.unwrap_or_else(|| "nobody".into());
                if holder != self.identity {
                    return Err(Lost::Taken(holder).into());
                }
                lease.metadata.resource_version = live.resource_version();
                self.api.replace(&self.name, &params, &lease).await
            }
            renewed => renewed,
        };
        match renewed {
            Ok(lease) => self.held = Some(lease),
            Err(kube::Error::Api(status)) if status.is_not_found() => return Err(Lost::Deleted.into()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER, answer).await.unwrap_or(Err(Error::NoAnswer))
}

#[cfg(test)]
mod tests;
