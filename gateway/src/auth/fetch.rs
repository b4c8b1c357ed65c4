//! Fetches the key set of an issuer: one request, bounded in size and time, redirects not followed.
//!
//! The image has no certificates of its own: Mozilla's authorities are built in, and with
//! `caSecretRef` that authority counts and no other.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use sse_crds::auth::Issuer;
use tokio::time::timeout;

use super::jwks::{KeySet, KeySetError};
use crate::secret::{Missing, SecretFile};

/// An issuer has this long for its whole answer.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Where the key set of an issuer is.
pub struct Source {
    uri: String,
    ca: Option<SecretFile>,
}

/// A key set as it was just fetched.
pub struct Fetched {
    pub keys: KeySet,
    /// How long the issuer says that it is good.
    pub max_age: Option<Duration>,
}

/// Why a key set could not be fetched. The text is for who runs the gateway.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("missing secret: {0}")]
    Secret(#[from] Missing),
    #[error("caSecretRef does not hold a certificate (PEM)")]
    Authority,
    #[error("no TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{}", chain(.0))]
    Request(reqwest::Error),
    #[error("no answer within {DEADLINE:?}")]
    Deadline,
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
    #[error("{0}")]
    KeySet(#[from] KeySetError),
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        Self::Request(error.without_url())
    }
}

/// An error with what caused it: the outermost alone says little.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Source {
    /// The source of issuer `i`, when it has a `jwksUri`.
    #[must_use]
    pub fn new(i: usize, issuer: &Issuer, secrets_dir: &Path) -> Option<Self> {
        let field = format!("auth.issuers[{i}].caSecretRef");
        let ca = issuer.ca_secret_ref.clone().map(|secret| SecretFile::new(secrets_dir, field, secret));
        Some(Self { uri: issuer.jwks_uri.clone()?, ca })
    }

    /// Fetches the set as it is now.
    ///
    /// # Errors
    ///
    /// When the issuer does not answer in time, or not with a key set.
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        let client = self.client()?;
        timeout(DEADLINE, self.ask(&client)).await.map_err(|_| FetchError::Deadline)?
    }

    async fn ask(&self, client: &Client) -> Result<Fetched, FetchError> {
        let accepted = "application/jwk-set+json, application/json";
        let response = client.get(&self.uri).header(ACCEPT, accepted).send().await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let max_age = max_age(response.headers());
        Ok(Fetched { keys: KeySet::parse(&body(response).await?)?, max_age })
    }

    /// A client for one request: the next one finds a changed authority, and no connection stays open.
    fn client(&self) -> Result<Client, FetchError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("sse-gateway/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(client)
    }

    fn roots(&self) -> Result<RootCertStore, FetchError> {
        let Some(ca) = &self.ca else {
            return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&ca.load()?) {
            let certificate = certificate.map_err(|_| FetchError::Authority)?;
            roots.add(certificate).map_err(|_| FetchError::Authority)?;
        }
        if roots.is_empty() { Err(FetchError::Authority) } else { Ok(roots) }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(FetchError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// `max-age` of `Cache-Control` (RFC 9111).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(CACHE_CONTROL)?.to_str().ok()?;
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_read_where_there_is_one() {
        let age = |text: &str| {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, text.parse().expect("a header value"))]);
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age("public, max-age=300, must-revalidate"), Some(300));
        assert_eq!(age("no-store"), None);
        assert_eq!(age("max-age=soon"), None);
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
