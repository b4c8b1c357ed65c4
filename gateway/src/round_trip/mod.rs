//! `sse-gateway round-trip`: what `helm test` runs in a pod. It declares a gateway as anybody would, and sees an event go
//! through it: a new key → an `SseGateway` → ready → two streams → publish → both have it → one comes back with its cursor and
//! gets what it missed, and nothing else.
//!
//! Whatever comes of it, what was made is removed: the gateway, its key, its log and its tokens. If the pod is killed, the first
//! two go with it, because it owns them, and the next round trip removes the others. A log of another gateway stays.

mod cluster;
mod viewer;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::ConnectOptions;
use async_nats::jetstream::context::{
    DeleteStreamError, DeleteStreamErrorKind, GetStreamError, PublishError,
};
use async_nats::jetstream::{self, ErrorCode};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use sse_crds::SecretKeyRef;
use sse_crds::auth::Algorithm;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::config::{self, Config, ConfigError, GatewayName};
use crate::nats::link::{self, ConnectError};
use crate::nats::provision;
use crate::subject::Token;
use cluster::{Cluster, ClusterError};
use viewer::{Viewer, ViewerError};

/// What is removed has to be gone within this time.
const REMOVAL: Duration = Duration::from_mins(1);
/// How often the gateway's status is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Whose event it is.
const TENANT: &str = "helm-test";
const USER: &str = "round-trip";
/// Seconds that the credential is good, beyond the deadline of the whole.
const VALID: u64 = 60;

/// Why there was no round trip. The text is for who ran `helm test`.
#[derive(Debug, thiserror::Error)]
pub enum RoundTripError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("auth.issuers: the first must take HS256 by a keySecretRef, for which a key is made")]
    NoKey,
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    #[error("the gateway did not become ready: {0}")]
    NotReady(String),
    #[error("the JWT can not be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
    #[error("NATS: {0}")]
    Connect(#[from] ConnectError),
    #[error("the log did not take the event: {0}")]
    Publish(#[from] PublishError),
    #[error("{0}")]
    Viewer(#[from] ViewerError),
    #[error("{0} was not seen in time")]
    Late(&'static str),
    #[error("a stream got {got:?} instead of {wanted:?}")]
    Another { got: String, wanted: String },
    #[error("the log can not be looked at: {0}")]
    Look(#[from] GetStreamError),
    #[error("{0} can not be removed from NATS: {1}")]
    Kept(String, DeleteStreamError),
}

type Result<T> = std::result::Result<T, RoundTripError>;

/// Makes the round trip, and removes what it needed.
///
/// # Errors
///
/// With what did not happen within the time, or could not be removed.
pub async fn run(file: &Path, secrets_dir: &Path, name: GatewayName, time: Duration) -> Result<()> {
    let text = config::text(file)?;
    let trip = Trip {
        spec: config::value(&text)?,
        config: Config::parse(&text, secrets_dir, name.clone(), 0)?,
        cluster: Cluster::own(&name)?,
        until: Instant::now() + time,
    };
    // Of one that was killed.
    trip.withdraw().await?;
    let made = trip.make(time).await;
    let removed = trip.remove().await;
    if let (Err(_), Err(error)) = (&made, &removed) {
        println!("Not everything was removed: {error}");
    }
    made.and(removed)
}

struct Trip {
    /// The declaration, as it was given.
    spec: Value,
    config: Config,
    cluster: Cluster,
    until: Instant,
}

impl Trip {
    async fn make(&self, time: Duration) -> Result<()> {
        let (issuer, secret) = self.issuer()?;
        let key = random();
        self.cluster.create_secret(&secret.name, &secret.key, &key).await?;
        self.cluster.create_gateway(&self.spec).await?;
        println!("{} is declared.", self.config.name);
        let base = self.ready().await?;
        println!("It is ready: {base}");

        let jwt = self.sign(issuer, &key, time)?;
        let mut one = self.opened(|| Viewer::by_token(&base, &jwt)).await?;
        let mut other = self.opened(|| Viewer::by_jwt(&base, &jwt, None)).await?;
        println!("Two streams are open.");
        let nats = self.nats().await?;
        let first = self.publish(&nats).await?;
        let cursor = self.expect(&mut one, &first).await?;
        self.expect(&mut other, &first).await?;
        println!("Both got what was published, as {cursor}.");

        drop(one);
        let second = self.publish(&nats).await?;
        let mut back = self.opened(|| Viewer::by_jwt(&base, &jwt, Some(&cursor))).await?;
        self.expect(&mut back, &second).await?;
        println!("One that came back with that cursor got what it had missed, and nothing else.");
        Ok(())
    }

    fn issuer(&self) -> Result<(&sse_crds::auth::Issuer, &SecretKeyRef)> {
        let issuer = self.config.spec.auth.issuers.first().ok_or(RoundTripError::NoKey)?;
        let secret = issuer.key_secret_ref.as_ref().filter(|_| issuer.algorithms.contains(&Algorithm::HS256));
        Ok((issuer, secret.ok_or(RoundTripError::NoKey)?))
    }

    /// Waits for the gateway, and answers where it is.
    async fn ready(&self) -> Result<String> {
        let mut why = "the operator has not looked at it".to_owned();
        while Instant::now() < self.until {
            match self.cluster.readiness().await {
                Ok(Ok(url)) => return Ok(url),
                Ok(Err(not)) => why = not,
                Err(error) => why = error.to_string(),
            }
            sleep(LOOK).await;
        }
        Err(RoundTripError::NotReady(why))
    }

    /// Opens a stream. A Service may know its pods a moment after the gateway is ready.
    async fn opened<F>(&self, open: impl Fn() -> F) -> Result<Viewer>
    where
        F: Future<Output = std::result::Result<Viewer, ViewerError>>,
    {
        loop {
            match self.within("a stream", async { Ok(open().await) }).await? {
                Ok(viewer) => return Ok(viewer),
                Err(error) if Instant::now() + LOOK > self.until => return Err(error.into()),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    fn sign(&self, issuer: &sse_crds::auth::Issuer, key: &str, time: Duration) -> Result<String> {
        let auth = &self.config.spec.auth;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut claims = json!({"iss": issuer.issuer, "exp": now + time.as_secs() + VALID});
        if !issuer.audiences.is_empty() {
            claims["aud"] = json!(issuer.audiences);
        }
        for claim in &auth.user_id_claims {
            claims[claim] = json!(USER);
        }
        claims[&auth.tenant_claim] = json!(TENANT);
        Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(key.as_bytes()))?)
    }

    /// A connection with what the gateway itself has.
    async fn nats(&self) -> Result<jetstream::Context> {
        let credentials = link::credentials(&self.config);
        let options = ConnectOptions::new().name(format!("round-trip {}", self.config.name));
        let options = link::login(&self.config, credentials.as_ref(), options)?;
        let client = options.connect(link::servers(&self.config)).await.map_err(ConnectError::from)?;
        Ok(jetstream::new(client))
    }

    /// Publishes an event that was never there before; answers its data.
    async fn publish(&self, nats: &jetstream::Context) -> Result<String> {
        let data = random();
        let token = |text| Token::encode(text).map_or_else(|_| String::new(), |token| token.to_string());
        let prefix = &self.config.spec.nats.subject_prefix;
        let subject = format!("{prefix}.{}.user.{}", token(TENANT), token(USER));
        self.within("the log's acknowledgement", async {
            nats.publish(subject, data.clone().into()).await?.await?;
            Ok(())
        })
        .await?;
        Ok(data)
    }

    /// The cursor of the stream's next event, which must be this.
    async fn expect(&self, stream: &mut Viewer, wanted: &str) -> Result<String> {
        let event = self.within("the event", async { Ok(stream.event().await?) }).await?;
        if event.data == wanted {
            return Ok(event.id);
        }
        Err(RoundTripError::Another { got: event.data, wanted: wanted.into() })
    }

    async fn within<T>(&self, what: &'static str, step: impl Future<Output = Result<T>>) -> Result<T> {
        timeout_at(self.until, step).await.map_err(|_| RoundTripError::Late(what))?
    }

    /// Removes everything. The pods go first: they would make the log anew.
    async fn remove(&self) -> Result<()> {
        self.withdraw().await?;
        let from_nats = async {
            let nats = self.nats().await?;
            for stream in [self.config.stream_name(), format!("KV_{}", self.config.token_bucket())] {
                if self.is_anothers(&nats, &stream).await? {
                    continue;
                }
                match nats.delete_stream(&stream).await {
                    Err(error) if !is_not_found(&error) => return Err(RoundTripError::Kept(stream, error)),
                    _ => {}
                }
            }
            Ok(())
        };
        timeout(REMOVAL, from_nats).await.map_err(|_| RoundTripError::Late("the end of the log"))??;
        println!("What was made is removed: the gateway, its key, its log and its tokens.");
        Ok(())
    }

    /// Whether it is the log of another gateway, whose prefix this one was given.
    async fn is_anothers(&self, nats: &jetstream::Context, stream: &str) -> Result<bool> {
        match nats.get_stream(stream).await {
            Ok(found) => {
                let owner = provision::owner(found.cached_info());
                Ok(stream == self.config.stream_name() && owner != Some(&self.config.name.to_string()))
            }
            Err(error) if provision::is_not_found(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn withdraw(&self) -> Result<()> {
        let secret = &self.issuer()?.1.name;
        let gone = async {
            self.cluster.delete_gateway().await?;
            self.cluster.delete_secret(secret).await?;
            while !self.cluster.is_gone().await? {
                sleep(LOOK).await;
            }
            Ok(())
        };
        timeout(REMOVAL, gone).await.map_err(|_| RoundTripError::Late("the end of the gateway"))?
    }
}

fn is_not_found(error: &DeleteStreamError) -> bool {
    matches!(error.kind(), DeleteStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// 128 bits that nobody guesses, in hex.
fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}
