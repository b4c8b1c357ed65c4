//! What happens between NATS and a client: tokens, streams, replay, limits, topics, drain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The single-use tokens that `POST {basePath}/token` hands out.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Token {
    /// How long a token can be redeemed, in seconds.
    #[schemars(range(min = 5, max = 3600))]
    pub ttl_seconds: u32,
}

impl Default for Token {
    fn default() -> Self {
        Self { ttl_seconds: 30 }
    }
}

/// The life of a stream.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    /// Seconds without a write after which a heartbeat is written.
    #[schemars(range(min = 5, max = 3600))]
    pub heartbeat_interval_seconds: u32,
    /// Form of the heartbeat: a comment, or an event that a script can see.
    pub heartbeat_mode: HeartbeatMode,
    /// `event:` of an event whose publisher named none. `message` is what `onmessage` gets.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\r\n\x00]+$"))]
    pub default_event_type: String,
    /// `retry:` that a client is told once, at its connect, in milliseconds. Unset: none.
    #[schemars(range(min = 1, max = 86_400_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u32>,
    /// Events that each stream begins with. `{connectionId}` and `{time}` are filled in.
    #[schemars(length(max = 16))]
    pub welcome_events: Vec<WelcomeEvent>,
    /// Seconds after which a stream is ended, with up to a tenth of jitter. 0: never.
    #[schemars(range(min = 0, max = 31_536_000))]
    pub max_lifetime_seconds: u32,
    /// Whether a stream ends when the credential it was opened with expires.
    pub end_at_credential_expiry: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            heartbeat_interval_seconds: 15,
            heartbeat_mode: HeartbeatMode::Comment,
            default_event_type: "message".into(),
            retry_ms: None,
            welcome_events: Vec::new(),
            max_lifetime_seconds: 0,
            end_at_credential_expiry: true,
        }
    }
}

/// Form of a heartbeat.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeartbeatMode {
    /// `:heartbeat`, which parsers skip.
    #[default]
    Comment,
    /// `event: heartbeat`, with the connection's position as `id`.
    Event,
}

/// An event that each stream begins with.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WelcomeEvent {
    /// Its type.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\r\n\x00]+$"))]
    pub event: String,
    /// Its data.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub data: String,
}

/// What a client that comes back with a cursor is sent.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Replay {
    /// Whether there is a log at all. `false`: core NATS alone, no ids, at most once.
    pub enabled: bool,
    /// Most events that a client is replayed; one that missed more gets `reset`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_replay_events: u32,
    /// A service that knows events older than the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

impl Default for Replay {
    fn default() -> Self {
        Self { enabled: true, max_replay_events: 10_000, history: None }
    }
}

/// A service that answers, over a NATS request, with events older than the log.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// Subject of the request. Empty: nobody is asked.
    #[schemars(length(max = 256), regex(pattern = r"^([^\s*>.]+(\.[^\s*>.]+)*)?$"))]
    pub subject: String,
    /// Seconds that one request may take. A client that is not answered in time is served as if there were no history.
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: u32,
    /// Most events that are taken from the service for one connection; one that missed more gets `reset`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_events: u32,
    /// Whether a client without a cursor is given history too.
    pub on_first_connect: bool,
}

impl Default for History {
    fn default() -> Self {
        Self { subject: String::new(), timeout_seconds: 5, max_events: 1000, on_first_connect: false }
    }
}

/// Bounds on connections, buffers and payloads.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Most streams of one user of one tenant, at all pods: the next is answered with 429. The pods tell each other on
    /// `<subjectPrefix>-pods.<namespace>.<name>`, where the gateway's NATS user may publish and subscribe; what a pod knows of
    /// the others is a moment old, and one stream more than the limit is let in for it. Where they do not hear each other each counts its own.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_connections_per_user: u32,
    /// Most streams of one pod; the next is answered with 503.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_pod: u32,
    /// Events that wait for one slow client before `overflowPolicy` applies.
    #[schemars(range(min = 1, max = 100_000))]
    pub connection_buffer_size: u32,
    /// What happens to a client whose buffer is full.
    pub overflow_policy: OverflowPolicy,
    /// Largest payload of an event, in bytes.
    #[schemars(range(min = 1, max = 8_388_608))]
    pub max_payload_bytes: u32,
    /// Seconds after which a client that accepts no byte is closed.
    #[schemars(range(min = 1, max = 3600))]
    pub write_timeout_seconds: u32,
    /// Most topics of one stream.
    #[schemars(range(min = 0, max = 1000))]
    pub max_topics_per_connection: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections_per_user: 10,
            max_connections_per_pod: 15_000,
            connection_buffer_size: 100,
            overflow_policy: OverflowPolicy::CatchUp,
            max_payload_bytes: 16_384,
            write_timeout_seconds: 30,
            max_topics_per_connection: 20,
        }
    }
}

/// What happens to a client whose buffer is full.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverflowPolicy {
    /// It is refilled from the log at its own pace, and loses nothing. Without replay: `DropOldest`.
    #[default]
    CatchUp,
    /// The oldest waiting event is dropped and counted, and the client is told by a `reset`.
    DropOldest,
    /// The stream is ended; the client comes back with its cursor.
    Disconnect,
}

/// Topics that need no claim. Patterns may hold `*` (one level) and, at the end, `>` (the rest).
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topics {
    /// Topics that anyone in the tenant may subscribe to.
    #[schemars(length(max = 256), inner(length(min = 1, max = 256), regex(pattern = TOPICS)))]
    pub public: Vec<String>,
    /// Topics that every stream is subscribed to, without asking.
    #[schemars(length(max = 64), inner(length(min = 1, max = 256), regex(pattern = TOPICS)))]
    pub auto_join: Vec<String>,
}

/// Levels between dots, none of them empty, `>` only as the last.
const TOPICS: &str = r"^(([^.>][^.]*|>[^.]+)\.)*[^.]+$";

/// Publishing over HTTP.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Publish {
    /// Whether `POST {basePath}/events` exists.
    pub enabled: bool,
}

/// Events to every connection of every tenant.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlatformBroadcast {
    /// Whether `<prefix>._platform.all` is delivered.
    pub enabled: bool,
}

/// A name in ASCII or an IPv6 address, with or without a port. No `*`: it would never match.
const ORIGIN: &str = r"^https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$";

/// Cross-origin requests.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cors {
    /// Exact origins that may connect, with credentials, as browsers send them: `https://app.example.com`, in
    /// lower case and without a default port.
    #[schemars(length(max = 64), inner(length(min = 1, max = 512), regex(pattern = ORIGIN)))]
    pub allowed_origins: Vec<String>,
}

/// How a pod that ends lets go of its connections.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// Seconds over which the ends of a pod's streams are spread.
    #[schemars(range(min = 0, max = 3600))]
    pub window_seconds: u32,
}

impl Default for Drain {
    fn default() -> Self {
        Self { window_seconds: 30 }
    }
}
