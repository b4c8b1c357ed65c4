//! Fetches the key set of an issuer: one request, bounded in size and time, redirects not followed.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{Client, StatusCode};
use sse_crds::auth::Issuer;
use sse_otlp::https::{self, HttpsError};
use tokio::time::timeout;

use super::jwks::{KeySet, KeySetError};
use crate::secret::{Bytes, Missing, SecretFile};

/// An issuer has this long for its whole answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

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
    #[error("{0}")]
    Https(#[from] HttpsError),
    #[error("no answer within {DEADLINE:?}")]
    Deadline,
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("{0}")]
    KeySet(#[from] KeySetError),
}

impl Source {
    /// The source of issuer `i`, when it has a `jwksUri`.
    #[must_use]
    pub fn new(i: usize, issuer: &Issuer, secrets_dir: &Path) -> Option<Self> {
        let field = format!("auth.issuers[{i}].caSecretRef");
        let ca = issuer.ca_secret_ref.clone().map(|secret| SecretFile::new(secrets_dir, field, secret));
        Some(Self { uri: issuer.jwks_uri.clone()?, ca })
    }

    /// The authority as it is now, if one is named and there.
    #[must_use]
    pub fn authority(&self) -> Option<Bytes> {
        self.ca.as_ref()?.load().ok()
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
        let response =
            client.get(&self.uri).header(ACCEPT, accepted).send().await.map_err(HttpsError::from)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let max_age = max_age(response.headers());
        Ok(Fetched { keys: KeySet::parse(&https::body(response).await?)?, max_age })
    }

    /// A client for one request: the next one finds a changed authority, and no connection stays open.
    fn client(&self) -> Result<Client, FetchError> {
        let ca = self.ca.as_ref().map(SecretFile::load).transpose()?;
        Ok(https::client(ca.as_deref())?)
    }
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
