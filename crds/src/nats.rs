//! `spec.nats`: the server, how to reach it, and the stream that is the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::rule;
use crate::{SecretKeyRef, SecretRef};

/// The NATS server that events come from.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nats {
    /// Address of the server, or several, comma-separated: `nats://host:4222`, `tls://host:4222`.
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^(nats|tls)://[^\s,@]+(,(nats|tls)://[^\s,@]+)*$")
    )]
    pub url: String,

    /// Credentials file of a NATS user (JWT and seed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretKeyRef>,

    /// TLS towards NATS.
    #[serde(default)]
    pub tls: NatsTls,

    /// First token of every subject: publishers write to `<prefix>.<tenant>.…`. Gateways that share
    /// a prefix share a log. Can not be changed: cursors of connected clients belong to it.
    #[serde(default = "default_prefix")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z0-9_]+$"))]
    #[schemars(extend("x-kubernetes-validations" = rule(
    "self == oldSelf",
    "spec.nats.subjectPrefix: can not be changed; make another SseGateway"
)))]
    pub subject_prefix: String,

    /// The JetStream stream that keeps the events.
    #[serde(default)]
    pub stream: NatsStream,
}

fn default_prefix() -> String {
    "sse".into()
}

/// TLS towards NATS.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NatsTls {
    /// Certificate authority of the server (PEM), instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Client certificate: a Secret with `tls.crt` and `tls.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretRef>,
}

/// The JetStream stream that keeps the events.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NatsStream {
    /// Whether the gateway makes and updates the stream. Exactly one gateway of a prefix owns it;
    /// the others say `false`.
    pub managed: bool,
    /// Copies of the stream in a NATS cluster.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
    /// Where NATS keeps the stream. Can not be changed.
    #[schemars(extend("x-kubernetes-validations" = rule(
    "self == oldSelf",
    "spec.nats.stream.storage: can not be changed; make another SseGateway"
)))]
    pub storage: Storage,
    /// How long an event can be replayed, in seconds. 0: until `maxBytes` is reached.
    #[schemars(range(min = 0, max = 31_536_000))]
    pub max_age_seconds: u64,
    /// Size of the stream in bytes; the oldest events go first.
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776u64))]
    pub max_bytes: u64,
    /// Most events kept of one subject. Leaves holes in the log, so a cursor older than the
    /// subject's oldest kept event is answered with `reset`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages_per_subject: Option<u32>,
}

impl Default for NatsStream {
    fn default() -> Self {
        Self {
            managed: true,
            replicas: 1,
            storage: Storage::File,
            max_age_seconds: 86_400,
            max_bytes: 1_073_741_824,
            max_messages_per_subject: None,
        }
    }
}

/// Where NATS keeps a stream.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// On disk: survives a restart of NATS.
    #[default]
    File,
    /// In memory: lost with the NATS server; clients are told by `reset`.
    Memory,
}
