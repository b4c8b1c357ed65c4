//! The connection to NATS: kept up by the client library, and the library's client by us.
//!
//! A client can die: it panics over a header with a lone CR, which a server stores and hands out. And it
//! holds on to the credentials that it was made with. So there is a [`Keeper`], which makes another when one
//! has died or its secrets have changed. Whoever needs it asks the [`Link`] for the present one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Subscriber};
use futures::StreamExt;
use sse_crds::SecretKeyRef;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::events::Teller;
use super::status::Status;
use crate::config::Config;
use crate::secret::{Bytes, Missing, SecretFile};
use crate::telemetry::metrics::Metrics;

/// Live messages that may wait while a gap is filled from the log. More are dropped by the client
/// library, and found missing at the next message or tail check.
const FEED_CAPACITY: usize = 65_536;
/// Longest wait between two attempts to reach NATS.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Wait before the connection is begun again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the secrets are looked at.
const SECRETS: Duration = Duration::from_secs(5);
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
    /// What the server did not permit over this connection: such a request is not answered.
    pub denied: Option<String>,
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
    client: watch::Receiver<Client>,
    pub state: watch::Receiver<LinkState>,
}

impl Link {
    /// A way to the client that is the present one, and to the state of its connection.
    #[must_use]
    pub const fn new(client: watch::Receiver<Client>, state: watch::Receiver<LinkState>) -> Self {
        Self { client, state }
    }

    /// The client of now. What it is asked for is not answered after [`lost`](Self::lost).
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// Another client, if one has taken the place of the last since this was asked.
    pub fn replaced(&mut self) -> Option<Client> {
        let replaced = self.client.has_changed().unwrap_or(false);
        replaced.then(|| self.client.borrow_and_update().clone())
    }

    /// The client of now, and what returns when another has taken its place.
    pub fn present(&self) -> (Client, impl Future<Output = ()> + Send + use<>) {
        let mut clients = self.client.clone();
        let client = clients.borrow_and_update().clone();
        let replaced = async move {
            if clients.changed().await.is_err() {
                // The keeper has ended, which only happens with the process.
                std::future::pending::<()>().await;
            }
        };
        (client, replaced)
    }

    /// Waits until the connection of that generation is lost: what was asked over it is not answered.
    pub async fn lost(&self, generation: u64) {
        let mut state = self.state.clone();
        // An error means that the client has ended: it is lost, too.
        let _ = state.wait_for(|state| !state.connected || state.generation != generation).await;
    }

    /// Waits for a connection, and answers which one it is.
    pub async fn up(&self) -> u64 {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| state.connected).await.map(|state| state.generation);
        match connected {
            Ok(generation) => generation,
            // The keeper has ended, which only happens with the process.
            Err(_) => std::future::pending().await,
        }
    }

    /// The same; handshakes are refused meanwhile, for the reason that there is at the time.
    pub async fn connected(&mut self, status: &Status) -> u64 {
        loop {
            let state = self.state.borrow_and_update().clone();
            if state.connected {
                return state.generation;
            }
            status.set_disconnected(state.why_not());
            if self.state.changed().await.is_err() {
                // The keeper has ended, which only happens with the process.
                std::future::pending::<()>().await;
            }
        }
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

/// Sees to it that there is a client that lives.
pub struct Keeper {
    config: Arc<Config>,
    credentials: Option<SecretFile>,
    /// What the present client was made with.
    made_with: Option<Bytes>,
    /// Ends with the client.
    pulse: Option<Subscriber>,
    clients: watch::Sender<Client>,
    states: Arc<watch::Sender<LinkState>>,
    metrics: Arc<Metrics>,
    /// Which client counts: what others tell is of the past.
    present: Arc<AtomicU64>,
}

impl Keeper {
    /// Begins the connection, as soon as it can be: a missing secret is waited for. NATS itself need not be
    /// there yet.
    pub async fn begin(config: Arc<Config>, status: Arc<Status>, metrics: Arc<Metrics>) -> (Self, Link) {
        let credentials = credentials(&config);
        let states = Arc::new(watch::channel(LinkState::default()).0);
        let present = Arc::new(AtomicU64::new(0));
        let mut told = None;
        loop {
            let made_with = credentials.as_ref().and_then(|file| file.load().ok());
            match connect(&config, credentials.as_ref(), &states, &present, &metrics).await {
                Ok(client) => {
                    status.clear_problem(NOT_BEGUN);
                    let (clients, client) = watch::channel(client);
                    let link = Link::new(client, states.subscribe());
                    let keeper = Self {
                        config,
                        credentials,
                        made_with,
                        pulse: None,
                        clients,
                        states,
                        metrics,
                        present,
                    };
                    return (keeper, link);
                }
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        warn!(%error, "The connection to NATS can not be begun; trying again.");
                    }
                    // `missingSecrets` names it.
                    if !matches!(error, ConnectError::Secret(_)) {
                        status.set_problem(NOT_BEGUN, text.clone());
                    }
                    told = Some(text);
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Keeps a client alive, for ever.
    pub async fn run(mut self) {
        loop {
            if self.pulse.is_none() {
                let client = self.clients.borrow().clone();
                // Nobody publishes there: all that comes is the end.
                self.pulse = client.subscribe(client.new_inbox()).await.ok();
            }
            let died = async {
                match self.pulse.as_mut() {
                    Some(pulse) => while pulse.next().await.is_some() {},
                    None => sleep(AGAIN).await,
                }
            };
            tokio::select! {
                () = died => {
                    error!("The NATS client has died; making another.");
                    self.renew().await;
                }
                () = sleep(SECRETS) => {
                    if self.has_new_credentials() {
                        info!("The NATS credentials have changed; connecting with the new ones.");
                        self.renew().await;
                    }
                }
            }
        }
    }

    fn has_new_credentials(&self) -> bool {
        let now = self.credentials.as_ref().and_then(|file| file.load().ok());
        now.is_some() && now != self.made_with
    }

    /// Puts another client in the place of the present one, if one can be made.
    async fn renew(&mut self) {
        let made_with = self.credentials.as_ref().and_then(|file| file.load().ok());
        match connect(&self.config, self.credentials.as_ref(), &self.states, &self.present, &self.metrics)
            .await
        {
            Ok(client) => {
                (self.made_with, self.pulse) = (made_with, None);
                self.clients.send_replace(client);
            }
            Err(error) => {
                warn!(%error, "The connection to NATS can not be begun; trying again.");
                self.pulse = None;
                sleep(AGAIN).await;
            }
        }
    }
}

fn secret(config: &Config, field: &str, secret: &SecretKeyRef) -> SecretFile {
    SecretFile::new(&config.secrets_dir, field.into(), secret.clone())
}

/// What says to the server who the client is.
#[must_use]
pub fn credentials(config: &Config) -> Option<SecretFile> {
    let at = config.spec.nats.credentials_secret_ref.as_ref()?;
    Some(secret(config, "nats.credentialsSecretRef", at))
}

/// The servers of `nats.url`.
#[must_use]
pub fn servers(config: &Config) -> Vec<String> {
    config.spec.nats.url.split(',').map(str::to_owned).collect()
}

/// Options with what the server wants to know of a client, and the client of the server.
///
/// # Errors
///
/// When a secret is missing, or is not what it should be.
pub fn login(
    config: &Config,
    credentials: Option<&SecretFile>,
    mut options: ConnectOptions,
) -> Result<ConnectOptions, ConnectError> {
    let tls = &config.spec.nats.tls;
    if let Some(file) = credentials {
        let content = file.load()?;
        let text = std::str::from_utf8(&content).map_err(|_| ConnectError::Credentials)?;
        options = options.credentials(text).map_err(|_| ConnectError::Credentials)?;
    }
    if let Some(reference) = &tls.ca_secret_ref {
        let file = secret(config, "nats.tls.caSecretRef", reference);
        file.load()?;
        options = options.add_root_certificates(file.path().to_owned());
    }
    if let Some(reference) = &tls.cert_secret_ref {
        let path = |key: &str| Path::new(&config.secrets_dir).join(&reference.name).join(key);
        options = options.add_client_certificate(path("tls.crt"), path("tls.key"));
    }
    Ok(options)
}

/// Makes a client, which connects by itself, again and again.
async fn connect(
    config: &Config,
    credentials: Option<&SecretFile>,
    states: &Arc<watch::Sender<LinkState>>,
    present: &Arc<AtomicU64>,
    metrics: &Arc<Metrics>,
) -> Result<Client, ConnectError> {
    let options = ConnectOptions::new()
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
        });
    let options = login(config, credentials, options)?;
    let this = present.fetch_add(1, Ordering::Relaxed) + 1;
    states.send_modify(|state| state.connected = false);
    let teller =
        Arc::new(Teller::new(&config.spec.nats, states.clone(), metrics.clone(), present.clone(), this));
    let events = teller.clone();
    let options = options
        .event_callback(move |event| {
            let events = events.clone();
            async move { events.note(&event) }
        })
        // Which server is next is the library's choice.
        .reconnect_to_server_callback(move |servers, _| {
            teller.note_attempts(&servers);
            std::future::ready(None)
        });
    Ok(options.connect(servers(config)).await?)
}
