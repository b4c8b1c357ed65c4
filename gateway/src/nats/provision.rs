//! The stream that is the log, and the bucket of tokens: made if they are missing, never deleted.
//!
//! The stream's metadata says who owns it, by which generation of its declaration, and which life it is
//! in (its epoch). Only the owner updates it, and a pod of an older generation, which lives on for a while
//! in a rollout, leaves it as the newer one wants it. The epoch is renewed when the stream is made, and when its last sequence is seen to
//! fall: then each gateway derives the same next epoch from the last, so that all pods agree without
//! asking each other.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind,
};
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::{Config as StreamConfig, Info, Republish, StorageType};
use async_nats::jetstream::{self, Context, ErrorCode};
use sha2::{Digest, Sha256};
use sse_crds::nats::{NatsStream, Storage};
use tracing::info;

use crate::config::Config;
use crate::cursor::Epoch;

const EPOCH: &str = "epoch";
const OWNER: &str = "owner";
const GENERATION: &str = "generation";
/// Last sequence that a gateway saw, of a stream in memory: what such a stream lost while no gateway ran
/// shows nowhere else.
const HEAD: &str = "head";

/// Why the stream or the bucket is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error(
        "nats.stream.managed: the stream {stream} belongs to {owner}; set it to false, or choose another nats.subjectPrefix"
    )]
    Owned { stream: String, owner: String },
    #[error("nats.stream.managed: is false, and there is no stream {0}")]
    NoStream(String),
    #[error(
        "nats.stream: the stream {stream} does not republish {prefix}.> to {prefix}-live.>, with payloads, or does not allow direct gets"
    )]
    Unsuitable { stream: String, prefix: String },
    #[error("nats.stream: the stream {0} lost its messages; its owner has not renewed it yet")]
    Fallen(String),
    #[error(
        "nats.stream.maxBytes: NATS has no room for a stream of this size: lower it, or let the server (max_file_store, \
         max_memory_store) or the account hold more. {0}"
    )]
    NoRoom(jetstream::Error),
    #[error("nats: the stream {0} has no leader at the moment")]
    NoLeader(String),
    #[error("nats.stream: {0}")]
    Create(CreateStreamError),
    #[error("nats: {0}")]
    Get(#[from] GetStreamError),
    #[error("nats: the token bucket can not be used: {0}")]
    Bucket(String),
}

impl From<CreateStreamError> for ProvisionError {
    fn from(error: CreateStreamError) -> Self {
        const NO_ROOM: [ErrorCode; 4] = [
            ErrorCode::STORAGE_RESOURCES_EXCEEDED,
            ErrorCode::MEMORY_RESOURCES_EXCEEDED,
            ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
            ErrorCode::INSUFFICIENT_RESOURCES,
        ];
        match error.kind() {
            CreateStreamErrorKind::JetStream(error) if NO_ROOM.contains(&error.error_code()) => {
                Self::NoRoom(error)
            }
            _ => Self::Create(error),
        }
    }
}

impl ProvisionError {
    /// Every reason that there is.
    pub const REASONS: [&str; 4] = ["StreamOwned", "StreamMissing", "StreamUnsuitable", "StreamError"];

    /// Reason of the problem, as the operator shows it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Owned { .. } => "StreamOwned",
            Self::NoStream(_) | Self::Fallen(_) => "StreamMissing",
            Self::Unsuitable { .. } => "StreamUnsuitable",
            Self::NoRoom(_) | Self::NoLeader(_) | Self::Create(_) | Self::Get(_) | Self::Bucket(_) => {
                "StreamError"
            }
        }
    }
}

/// What is known of the stream after it was looked at.
#[derive(Clone, Debug)]
pub struct Facts {
    pub epoch: Epoch,
    pub info: Info,
    /// Whether the stream counts from the beginning again, though its epoch is still the old one.
    pub fallen: bool,
}

/// Makes or updates the stream, as far as this gateway may.
///
/// # Errors
///
/// When the stream is another's, is missing and not managed, or NATS refuses.
pub async fn stream(jetstream: &Context, config: &Config) -> Result<Facts, ProvisionError> {
    let name = config.stream_name();
    let spec = &config.spec.nats.stream;
    let found = match jetstream.get_stream(&name).await {
        Ok(stream) if !has_leader(stream.cached_info()) => return Err(ProvisionError::NoLeader(name)),
        Ok(stream) => Some(stream.cached_info().clone()),
        Err(error) if is_not_found(&error) => None,
        Err(error) => return Err(error.into()),
    };
    let info = match found {
        None if !spec.managed => return Err(ProvisionError::NoStream(name)),
        None => {
            let epoch = Epoch(rand::random());
            match jetstream.create_stream(wanted(config, epoch)).await {
                Ok(stream) => {
                    info!(stream = %name, %epoch, "The stream was made.");
                    stream.cached_info().clone()
                }
                // Another pod of this gateway was faster.
                Err(_) if jetstream.get_stream(&name).await.is_ok() => {
                    jetstream.get_stream(&name).await?.cached_info().clone()
                }
                Err(error) => return Err(error.into()),
            }
        }
        Some(info) if spec.managed => update(jetstream, config, info).await?,
        Some(info) => info,
    };
    check(config, &info)?;
    let fallen = number(&info, HEAD) > info.state.last_sequence;
    Ok(Facts { epoch: epoch_of(&info), info, fallen })
}

async fn update(jetstream: &Context, config: &Config, info: Info) -> Result<Info, ProvisionError> {
    let owner = owner(&info).map_or("no gateway", String::as_str);
    if owner != config.name.to_string() {
        let owner = owner.to_owned();
        return Err(ProvisionError::Owned { stream: config.stream_name(), owner });
    }
    let mut wanted = wanted(config, epoch_of(&info));
    if let Some(head) = info.config.metadata.get(HEAD) {
        wanted.metadata.insert(HEAD.into(), head.clone());
    }
    if number(&info, GENERATION) > config.generation || is_as(&info.config, &wanted) {
        return Ok(info);
    }
    info!(stream = %config.stream_name(), "The stream was updated.");
    Ok(jetstream.update_stream(wanted).await?)
}

/// Whether what the gateway decides about a stream is as wanted. A generation that wants the same as the
/// one before leaves no mark: a file's configuration is not written without need.
fn is_as(is: &StreamConfig, wanted: &StreamConfig) -> bool {
    is.subjects == wanted.subjects
        && is.max_bytes == wanted.max_bytes
        && is.max_age == wanted.max_age
        && is.num_replicas == wanted.num_replicas
        && is.allow_direct == wanted.allow_direct
        && is.allow_message_ttl == wanted.allow_message_ttl
        && is.republish == wanted.republish
        && is.max_messages_per_subject == wanted.max_messages_per_subject
}

fn check(config: &Config, info: &Info) -> Result<(), ProvisionError> {
    let prefix = &config.spec.nats.subject_prefix;
    let republishes = info.config.republish.as_ref().is_some_and(|republish| {
        republish.destination == format!("{prefix}-live.>") && !republish.headers_only
    });
    if republishes && info.config.allow_direct {
        return Ok(());
    }
    Err(ProvisionError::Unsuitable { stream: config.stream_name(), prefix: prefix.clone() })
}

fn republish(prefix: &str) -> Republish {
    Republish { source: format!("{prefix}.>"), destination: format!("{prefix}-live.>"), headers_only: false }
}

fn wanted(config: &Config, epoch: Epoch) -> StreamConfig {
    let prefix = &config.spec.nats.subject_prefix;
    let NatsStream { replicas, storage, max_age_seconds, max_bytes, max_messages_per_subject, .. } =
        config.spec.nats.stream;
    StreamConfig {
        name: config.stream_name(),
        description: Some("Events of the SSE gateways with this prefix.".into()),
        subjects: vec![format!("{prefix}.>")],
        max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
        max_messages_per_subject: max_messages_per_subject.map_or(-1, i64::from),
        max_age: Duration::from_secs(max_age_seconds),
        num_replicas: replicas.into(),
        storage: match storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        allow_direct: true,
        allow_message_ttl: true,
        republish: Some(republish(prefix)),
        metadata: HashMap::from([
            (EPOCH.into(), epoch.to_string()),
            (OWNER.into(), config.name.to_string()),
            (GENERATION.into(), config.generation.to_string()),
        ]),
        ..StreamConfig::default()
    }
}

/// The epoch of a stream; one that nobody gave an epoch is named by its creation.
fn epoch_of(info: &Info) -> Epoch {
    let named = info.config.metadata.get(EPOCH).and_then(|text| text.parse().ok());
    named.unwrap_or_else(|| digest(&format!("{} {}", info.config.name, info.created.unix_timestamp())))
}

/// The gateway whose stream it is, as `<namespace>/<name>`.
#[must_use]
pub fn owner(info: &Info) -> Option<&String> {
    info.config.metadata.get(OWNER).filter(|owner| !owner.is_empty())
}

/// Whether the leader of the stream said this: while there is none, any server answers with what it has.
#[must_use]
pub fn has_leader(info: &Info) -> bool {
    info.cluster.as_ref().is_none_or(|cluster| cluster.leader.as_ref().is_some_and(|name| !name.is_empty()))
}

/// A number in the stream's metadata; 0 when there is none.
fn number(info: &Info, name: &str) -> u64 {
    info.config.metadata.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether the stream is this gateway's, as an older generation wanted it.
#[must_use]
pub fn is_outdated(config: &Config, info: &Info) -> bool {
    let own = owner(info) == Some(&config.name.to_string());
    let wanted = wanted(config, epoch_of(info));
    config.spec.nats.stream.managed
        && own
        && number(info, GENERATION) < config.generation
        && !is_as(&info.config, &wanted)
}

/// Notes how far a stream in memory has come, for gateways that start after it was lost.
///
/// # Errors
///
/// When NATS refuses the update.
pub async fn mark(jetstream: &Context, config: &Config, info: &Info) -> Result<(), ProvisionError> {
    let current =
        number(info, GENERATION) == config.generation && owner(info) == Some(&config.name.to_string());
    let last = info.state.last_sequence;
    let new = last > number(info, HEAD);
    if info.config.storage == StorageType::Memory && config.spec.nats.stream.managed && current && new {
        let mut marked = info.config.clone();
        marked.metadata.insert(HEAD.into(), last.to_string());
        jetstream.update_stream(marked).await?;
    }
    Ok(())
}

fn digest(text: &str) -> Epoch {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(text.as_bytes()));
    Epoch(u32::from_be_bytes([a, b, c, d]))
}

/// The epoch that follows `known` when the stream is seen to have fallen behind it, noted in the
/// stream by its owner.
///
/// # Errors
///
/// When NATS refuses the update.
pub async fn renew(
    jetstream: &Context,
    config: &Config,
    facts: &Facts,
    known: Epoch,
) -> Result<Epoch, ProvisionError> {
    if facts.epoch != known {
        return Ok(facts.epoch);
    }
    if !config.spec.nats.stream.managed {
        return Err(ProvisionError::Fallen(config.stream_name()));
    }
    let next = digest(&format!("after {known}"));
    // Whichever generation the rest is of: it stays as it is.
    let mut renewed = facts.info.config.clone();
    renewed.metadata.insert(EPOCH.into(), next.to_string());
    renewed.metadata.remove(HEAD);
    jetstream.update_stream(renewed).await?;
    Ok(next)
}

/// The bucket of tokens. No direct gets: a lagging replica would refuse good tokens.
///
/// # Errors
///
/// When NATS refuses.
pub async fn bucket(jetstream: &Context, config: &Config) -> Result<Store, ProvisionError> {
    let name = config.token_bucket();
    // Twice the life of a token: a marker of a redeemed one outlives every record that it replaced.
    let max_age = Duration::from_secs(u64::from(config.spec.token.ttl_seconds) * 2);
    let wanted = StreamConfig {
        name: format!("KV_{name}"),
        description: Some("Single-use tokens of an SSE gateway.".into()),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age,
        num_replicas: config.spec.nats.stream.replicas.into(),
        allow_rollup: true,
        deny_delete: true,
        allow_direct: false,
        duplicate_window: max_age.min(Duration::from_mins(2)),
        discard: jetstream::stream::DiscardPolicy::New,
        ..StreamConfig::default()
    };
    let failed = |error: &dyn std::fmt::Display| ProvisionError::Bucket(error.to_string());
    match jetstream.get_stream(&wanted.name).await {
        Ok(stream) => {
            let is = &stream.cached_info().config;
            if is.max_age != wanted.max_age || is.num_replicas != wanted.num_replicas || is.allow_direct {
                jetstream.update_stream(wanted).await.map_err(|e| failed(&e))?;
            }
        }
        Err(error) if is_not_found(&error) => {
            jetstream.get_or_create_stream(wanted).await.map_err(|e| failed(&e))?;
        }
        Err(error) => return Err(error.into()),
    }
    jetstream.get_key_value(&name).await.map_err(|e| failed(&e))
}

/// Whether NATS said that there is no such stream.
#[must_use]
pub fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
