//! Single-use tokens: minted for an identity, redeemed by exactly one request, on any pod.
//!
//! Where there is a log, tokens are in a [`bucket`] beside it. Without one, on core NATS alone, each pod
//! keeps those that it minted, and the others ask it ([`shared`]). Either way what is kept goes by a digest
//! of the token, so who can read it can not open streams.

mod bucket;
pub mod shared;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::auth::{Identity, Unauthorized};
use crate::nats::now;
use crate::subject::{Pattern, Token as SubjectToken};
use shared::Shared;

/// Why a token could not be minted or redeemed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    #[error("NATS did not answer")]
    Unavailable,
}

/// Where the tokens of a gateway are.
#[derive(Clone)]
pub enum Tokens {
    Bucket(Arc<Store>),
    Shared(Arc<Shared>),
}

impl Tokens {
    /// Mints a token for `identity`: 128 random bits in hex.
    ///
    /// # Errors
    ///
    /// When NATS does not acknowledge it in time, or there are more than a pod may keep.
    pub async fn mint(&self, identity: &Identity, ttl: Duration) -> Result<String, TokenError> {
        let token = format!("{:032x}", rand::random::<u128>());
        let (key, record) = (key(&token), Record::of(identity, ttl));
        match self {
            Self::Bucket(store) => bucket::put(store, &key, &record).await?,
            Self::Shared(shared) => shared.put(key, record)?,
        }
        Ok(token)
    }

    /// Redeems a token, once.
    ///
    /// # Errors
    ///
    /// When it is not a token, was redeemed before, has expired, or NATS does not answer in time.
    pub async fn redeem(&self, token: &str) -> Result<Identity, TokenError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if token.len() != 32 || !token.bytes().all(hex) {
            return Err(Unauthorized::Token.into());
        }
        let key = key(token);
        let record = match self {
            Self::Bucket(store) => bucket::take(store, &key).await?,
            Self::Shared(shared) => shared.take(&key).await?,
        };
        record.identity()
    }
}

/// What is kept of a token: who may redeem it, and until when. Never the JWT.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    tenant: String,
    user: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    topics: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    /// Expiry of the token, in milliseconds since 1970: a bucket's own age limit is coarser.
    until: u64,
    /// Expiry of the credential that it was minted for, in seconds since 1970.
    expires: u64,
}

impl Record {
    fn of(identity: &Identity, ttl: Duration) -> Self {
        Self {
            tenant: identity.tenant.decode().unwrap_or_default(),
            user: identity.user.decode().unwrap_or_default(),
            topics: identity.topics.clone(),
            tags: identity.tags.clone(),
            until: now() + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            expires: identity.expires,
        }
    }

    fn is_expired(&self) -> bool {
        self.until <= now()
    }

    fn identity(self) -> Result<Identity, TokenError> {
        let tenant = SubjectToken::encode(&self.tenant).map_err(|_| Unauthorized::Token)?;
        let user = SubjectToken::encode(&self.user).map_err(|_| Unauthorized::Token)?;
        let Self { topics, tags, expires, .. } = self;
        // A token opens a stream, and does nothing else.
        Ok(Identity { tenant, user, topics, publish: Vec::new(), tags, expires })
    }
}

/// Name of a token's record: a digest, which can not be redeemed.
fn key(token: &str) -> String {
    let mut key = String::with_capacity(64);
    for byte in Sha256::digest(token.as_bytes()) {
        // A write into a String can not fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}
