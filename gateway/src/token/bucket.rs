//! Tokens in a KV bucket. A token is read from the leader (a lagging replica would refuse good ones) and
//! purged on condition that it is still the revision that was read: of any number of racers one purge
//! succeeds. A purge whose acknowledgement does not come fails closed.

use std::time::Duration;

use async_nats::jetstream::kv::{Operation, PurgeErrorKind, Store};
use tokio::time::timeout;

use super::{Record, TokenError};
use crate::auth::Unauthorized;

/// How long NATS may take for one step, before the request is answered with 503.
const DEADLINE: Duration = Duration::from_secs(3);

pub async fn put(store: &Store, key: &str, record: &Record) -> Result<(), TokenError> {
    let value = serde_json::to_vec(record).map_err(|_| TokenError::Unavailable)?;
    match timeout(DEADLINE, store.put(key, value.into())).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(TokenError::Unavailable),
    }
}

pub async fn take(store: &Store, key: &str) -> Result<Record, TokenError> {
    let entry = match timeout(DEADLINE, store.entry(key)).await {
        Ok(Ok(entry)) => entry.ok_or(Unauthorized::Token)?,
        _ => return Err(TokenError::Unavailable),
    };
    if entry.operation != Operation::Put {
        return Err(Unauthorized::Token.into());
    }
    let record: Record = serde_json::from_slice(&entry.value).map_err(|_| Unauthorized::Token)?;
    if record.is_expired() {
        return Err(Unauthorized::Token.into());
    }
    match timeout(DEADLINE, store.purge_expect_revision(key, Some(entry.revision))).await {
        Ok(Ok(())) => Ok(record),
        Ok(Err(error)) if error.kind() == PurgeErrorKind::WrongLastRevision => {
            Err(Unauthorized::Token.into())
        }
        _ => Err(TokenError::Unavailable),
    }
}
