//! The connection to NATS: one per pod, made again for ever.
//!
//! [`provision`] makes the stream and the token bucket, [`feed`] turns the republished messages into
//! a contiguous sequence, [`log`] reads what the feed or a client missed, [`control`] hears what back ends
//! ask of connections, [`dead`] publishes what was refused.

pub mod control;
pub mod dead;
pub mod feed;
pub mod live;
pub mod log;
pub mod provision;
pub mod status;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Client, ConnectOptions, Event};
use sse_crds::SecretKeyRef;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::hub::Hub;
use crate::secret::{Missing, SecretFile};
use crate::token::Tokens;
use crate::token::shared::Shared;
use dead::DeadLetters;
use feed::Feed;
use live::Live;
use log::Log;
use status::Status;

/// Live messages that may wait while a gap is filled from the log. More are dropped by the client
/// library, and found missing at the next message or tail check.
const FEED_CAPACITY: usize = 65_536;
/// Longest wait between two attempts to reach NATS.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Wait before the connection is begun again.
const AGAIN: Duration = Duration::from_millis(500);
/// Reason of the problem that the connection can not even be attempted.
const NOT_BEGUN: &str = "NatsMisconfigured";

/// State of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    pub connected: bool,
    /// Grows with each connection that is made.
    pub generation: u64,
    /// What kept the last attempt from succeeding.
    pub error: Option<String>,
}

impl LinkState {
    /// Why there is no connection, for the operator.
    #[must_use]
    pub fn why_not(&self) -> String {
        self.error.clone().unwrap_or_else(|| "not connected".into())
    }
}

/// The connection and its state.
#[derive(Clone)]
pub struct Link {
    pub client: Client,
    pub state: watch::Receiver<LinkState>,
}

impl Link {
    /// Waits until the connection of that generation is lost: what was asked over it is not answered.
    pub async fn lost(&self, generation: u64) {
        let mut state = self.state.clone();
        // An error means that the client has ended: it is lost, too.
        let _ = state.wait_for(|state| !state.connected || state.generation != generation).await;
    }
}

/// What the connection serves.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub hub: Arc<Hub>,
    pub log: Arc<Log>,
    pub dead: Arc<DeadLetters>,
    pub status: Arc<Status>,
    /// Token of the subject that this pod's seams have.
    pub pod: String,
}

/// Connects, and then feeds the hub, hears back ends and sends dead letters until it is cancelled. A
/// missing secret is waited for: the pod says which one, and heals when it appears.
pub async fn run(parts: Parts, cancel: CancellationToken) {
    // A task of its own: what clients read of the past does not hold up what is live.
    let scan = tokio::spawn({
        let (log, cancel) = (parts.log.clone(), cancel.clone());
        async move { log.serve(cancel).await }
    });
    let run = async {
        let Parts { config, hub, log, dead, status, .. } = parts.clone();
        let link = begun(&config, &status).await;
        log.attach(link.clone());
        let prefix = &config.spec.nats.subject_prefix;
        let others = async {
            tokio::join!(control::run(&link.client, prefix, &hub), dead.run(&link));
        };
        if config.spec.replay.enabled {
            tokio::join!(Feed::new(link.clone(), &parts).run(), others);
        } else {
            let shared = Arc::new(Shared::new(link.client.clone(), prefix, &config.name));
            status.set_tokens(Tokens::Shared(shared.clone()));
            let subjects = format!("{prefix}.>");
            let (link, hub, dead) = (link.clone(), hub.clone(), dead.clone());
            let live = Live { link, subjects, hub, dead, status };
            tokio::join!(live.run(), shared.run(), others);
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = run => {}
    }
    // Cancelled by the same token.
    let _ = scan.await;
}

/// The connection, once it can be begun.
async fn begun(config: &Config, status: &Status) -> Link {
    loop {
        match connect(config).await {
            Ok(link) => {
                status.clear_problem(NOT_BEGUN);
                return link;
            }
            // `missingSecrets` names it.
            Err(error @ ConnectError::Secret(_)) => warn!(%error, "A secret is missing; waiting for it."),
            Err(error) => {
                warn!(%error, "The connection to NATS can not be begun.");
                status.set_problem(NOT_BEGUN, error.to_string());
            }
        }
        sleep(AGAIN).await;
    }
}

/// Why the connection can not even be attempted.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Secret(#[from] Missing),
    #[error("nats.url: {0}")]
    Url(#[from] async_nats::ConnectError),
    #[error("nats.credentialsSecretRef: the content is not a NATS credentials file")]
    Credentials,
}

/// Starts the connection, which then keeps itself up. Returns before NATS was reached.
///
/// # Errors
///
/// When a secret is missing or the configuration can not be used.
pub async fn connect(config: &Config) -> Result<Link, ConnectError> {
    let nats = &config.spec.nats;
    let (sender, state) = watch::channel(LinkState::default());
    let sender = Arc::new(sender);
    let mut options = ConnectOptions::new()
        .name(format!("sse-gateway {}", config.name))
        .retry_on_initial_connect()
        .max_reconnects(None)
        .subscription_capacity(FEED_CAPACITY)
        .ping_interval(Duration::from_secs(10))
        .request_timeout(Some(Duration::from_secs(5)))
        .reconnect_delay_callback(|attempt| {
            let step =
                Duration::from_millis(50) * 2u32.saturating_pow(attempt.min(8).try_into().unwrap_or(8));
            step.min(MAX_RECONNECT_DELAY).mul_f64(0.5 + rand::random::<f64>() / 2.0)
        })
        .event_callback(move |event| {
            let sender = sender.clone();
            async move { note(&sender, &event) }
        });
    let secret = |field: &str, secret: &SecretKeyRef| {
        SecretFile::new(&config.secrets_dir, field.into(), secret.clone())
    };
    if let Some(reference) = &nats.credentials_secret_ref {
        let content = secret("nats.credentialsSecretRef", reference).load()?;
        let text = std::str::from_utf8(&content).map_err(|_| ConnectError::Credentials)?;
        options = options.credentials(text).map_err(|_| ConnectError::Credentials)?;
    }
    if let Some(reference) = &nats.tls.ca_secret_ref {
        let file = secret("nats.tls.caSecretRef", reference);
        file.load()?;
        options = options.add_root_certificates(file.path().to_owned());
    }
    if let Some(reference) = &nats.tls.cert_secret_ref {
        let path = |key: &str| Path::new(&config.secrets_dir).join(&reference.name).join(key);
        options = options.add_client_certificate(path("tls.crt"), path("tls.key"));
    }
    let servers: Vec<String> = nats.url.split(',').map(str::to_owned).collect();
    let client = options.connect(servers).await?;
    Ok(Link { client, state })
}

/// Waits for a connection, and answers which one it is; handshakes are refused meanwhile.
async fn connected(link: &mut watch::Receiver<LinkState>, status: &Status) -> u64 {
    loop {
        let state = link.borrow_and_update().clone();
        if state.connected {
            return state.generation;
        }
        status.set_disconnected(state.why_not());
        if link.changed().await.is_err() {
            // The client has ended, which only happens with the process.
            std::future::pending::<()>().await;
        }
    }
}

fn note(sender: &watch::Sender<LinkState>, event: &Event) {
    match event {
        Event::Connected => {
            sender.send_modify(|state| {
                state.connected = true;
                state.generation += 1;
                state.error = None;
            });
            info!("Connected to NATS.");
        }
        Event::Disconnected | Event::Closed => {
            sender.send_modify(|state| state.connected = false);
            warn!("Disconnected from NATS.");
        }
        Event::SlowConsumer(_) => warn!("The live feed overflowed; what was dropped is read from the log."),
        Event::LameDuckMode => info!("The NATS server is about to stop."),
        Event::ServerError(error) => {
            sender.send_modify(|state| state.error = Some(error.to_string()));
            warn!(%error, "The NATS server reports an error.");
        }
        Event::ClientError(error) => {
            sender.send_modify(|state| state.error = Some(error.to_string()));
            warn!(%error, "The NATS connection reports an error.");
        }
        Event::Draining => {}
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
