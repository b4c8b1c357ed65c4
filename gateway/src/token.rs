//! Single-use tokens: minted for an identity, redeemed by exactly one request, on any pod.
//!
//! The bucket holds a digest of the token, so who can read the bucket can not open streams. A token
//! is read from the leader (a lagging replica would refuse good tokens) and purged on condition that
//! it is still the revision that was read: of any number of racers one purge succeeds. A purge whose
//! acknowledgement does not come fails closed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, PurgeErrorKind, Store};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::auth::{Identity, Unauthorized};
use crate::nats::now;
use crate::subject::{Pattern, Token as SubjectToken};

/// How long NATS may take for one step, before the request is answered with 503.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why a token could not be minted or redeemed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    #[error("NATS did not answer")]
    Unavailable,
}

/// What the bucket holds of a token: who may redeem it, and until when. Never the JWT.
#[derive(Serialize, Deserialize)]
struct Record {
    tenant: String,
    user: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    topics: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    /// Expiry of the token, in milliseconds since 1970: the bucket's own age limit is coarser.
    until: u64,
    /// Expiry of the credential that it was minted for, in seconds since 1970.
    expires: u64,
}

/// Mints a token for `identity`: 128 random bits in hex.
///
/// # Errors
///
/// When NATS does not acknowledge it in time.
pub async fn mint(bucket: &Store, identity: &Identity, ttl: Duration) -> Result<String, TokenError> {
    let token = format!("{:032x}", rand::random::<u128>());
    let until = now() + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let record = Record {
        tenant: identity.tenant.decode().unwrap_or_default(),
        user: identity.user.decode().unwrap_or_default(),
        topics: identity.topics.clone(),
        tags: identity.tags.clone(),
        until,
        expires: identity.expires,
    };
    let value = serde_json::to_vec(&record).map_err(|_| TokenError::Unavailable)?;
    match timeout(DEADLINE, bucket.put(key(&token), value.into())).await {
        Ok(Ok(_)) => Ok(token),
        _ => Err(TokenError::Unavailable),
    }
}

/// Redeems a token, once.
///
/// # Errors
///
/// When it is not a token, was redeemed before, has expired, or NATS does not answer in time.
pub async fn redeem(bucket: &Store, token: &str) -> Result<Identity, TokenError> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if token.len() != 32 || !token.bytes().all(hex) {
        return Err(Unauthorized::Token.into());
    }
    let key = key(token);
    let entry = match timeout(DEADLINE, bucket.entry(key.as_str())).await {
        Ok(Ok(entry)) => entry.ok_or(Unauthorized::Token)?,
        _ => return Err(TokenError::Unavailable),
    };
    if entry.operation != Operation::Put {
        return Err(Unauthorized::Token.into());
    }
    let record: Record = serde_json::from_slice(&entry.value).map_err(|_| Unauthorized::Token)?;
    if record.until <= now() {
        return Err(Unauthorized::Token.into());
    }
    match timeout(DEADLINE, bucket.purge_expect_revision(key.as_str(), Some(entry.revision))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.kind() == PurgeErrorKind::WrongLastRevision => {
            return Err(Unauthorized::Token.into());
        }
        _ => return Err(TokenError::Unavailable),
    }
    let tenant = SubjectToken::encode(&record.tenant).map_err(|_| Unauthorized::Token)?;
    let user = SubjectToken::encode(&record.user).map_err(|_| Unauthorized::Token)?;
    let Record { topics, tags, expires, .. } = record;
    Ok(Identity { tenant, user, topics, tags, expires })
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
