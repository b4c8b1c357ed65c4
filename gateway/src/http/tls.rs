//! TLS on the public port: certificate and key of `tls.secretName`, read again when they change. Open connections keep
//! what they began with. A pair that can not be used is told, and the last good one serves on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};
use sse_crds::SecretKeyRef;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::config::Config;
use crate::nats::status::Problem;
use crate::secret::{Bytes, SecretFile};

/// The field, in the spec.
const FIELD: &str = "tls.secretName";
/// Reason of the problem that the pair can not be used.
const UNUSABLE: &str = "CertificateUnusable";
/// What is spoken within, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate of the public port, with its key.
pub struct Certificate {
    secret: String,
    chain: SecretFile,
    key: SecretFile,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was read last, good or not.
    read: Option<(Bytes, Bytes)>,
    /// Made of the last good pair.
    good: Option<Arc<ServerConfig>>,
    /// What is wrong with the pair that was read last.
    error: Option<Unusable>,
}

/// Why a pair can not be used. Says nothing of the key.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("tls.crt holds no certificate (PEM)")]
    Certificate,
    #[error("tls.key holds no private key (PEM)")]
    Key,
    #[error("tls.key is not the key of tls.crt")]
    Mismatch,
    #[error("{0}")]
    Other(rustls::Error),
}

impl From<rustls::Error> for Unusable {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Self::Mismatch,
            other => Self::Other(other),
        }
    }
}

impl Certificate {
    /// That of the configuration, if it names one.
    #[must_use]
    pub fn new(config: &Config) -> Option<Arc<Self>> {
        let name = Some(&config.spec.tls.secret_name).filter(|name| !name.is_empty())?;
        let file = |key: &str| {
            let secret = SecretKeyRef { name: name.clone(), key: key.into() };
            SecretFile::new(&config.secrets_dir, FIELD.into(), secret)
        };
        let (chain, key, state) = (file("tls.crt"), file("tls.key"), Mutex::default());
        Some(Arc::new(Self { secret: name.clone(), chain, key, state }))
    }

    /// What makes TLS of a connection, by the pair as it is now; `None` as long as there was no good one.
    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.look().good.clone().map(TlsAcceptor::from)
    }

    /// What keeps the port from serving. A file that is missing is told by whoever tells of all secrets.
    pub fn problem(&self) -> Option<Problem> {
        let state = self.look();
        state.error.as_ref().filter(|_| state.good.is_none()).map(|error| self.told(error))
    }

    /// What is wrong with the present pair, while an older one serves.
    pub fn warning(&self) -> Option<Problem> {
        let state = self.look();
        state.error.as_ref().filter(|_| state.good.is_some()).map(|error| self.told(error))
    }

    fn told(&self, error: &Unusable) -> Problem {
        Problem { reason: UNUSABLE.into(), message: format!("{FIELD}: {}: {error}", self.secret) }
    }

    /// The state, by the files as they are now.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (Ok(chain), Ok(key)) = (self.chain.load(), self.key.load()) else { return state };
        let read = Some((chain, key));
        if state.read == read {
            return state;
        }
        state.read = read;
        let made = state.read.as_ref().map(|(chain, key)| make(chain, key)).transpose();
        state.error = match made {
            Ok(config) => {
                info!(field = FIELD, "The certificate of the public port was read.");
                state.good = config;
                None
            }
            Err(error) => {
                // A moment in which one file is new and the other is not heals within a second.
                warn!(field = FIELD, %error, "The certificate of the public port can not be used.");
                Some(error)
            }
        };
        state
    }
}

fn make(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, Unusable> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(Unusable::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Unusable::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(Vec::from).into();
    // Sessions are with their clients: many come back at once, and a pod has no room for all of them.
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}
