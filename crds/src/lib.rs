//! The `SseGateway` custom resource: what a user may declare, and what the operator answers.
//!
//! The operator and the gateway both read these types, and the gateway's configuration file is the
//! `spec` of the resource with the same names and defaults. A field's meaning and default are
//! written once, here; `kubectl explain`, the chart and the docs show this text.
//!
//! What the schema can refuse is refused at `kubectl apply`: bounds, patterns, and rules across
//! fields in CEL. [`validate`](SseGatewaySpec::validate) checks the same rules in process, for the
//! gateway (which has no API server in front of it) and for the operator (whose API server may
//! still hold objects from an older schema).

mod advice;
pub mod auth;
pub mod delivery;
pub mod encoding;
pub mod expose;
mod findings;
pub mod nats;
pub mod pod;
pub mod scaling;
mod schema;
pub mod status;
pub mod telemetry;
mod validate;

use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use findings::FieldError;
pub use scaling::Autoscaling;
pub use schema::crd;
pub use status::SseGatewayStatus;
pub use validate::is_valid_name;

/// The API group of the resource.
pub const GROUP: &str = "ssegateway.io";
/// The longest `metadata.name`: children add suffixes and must stay within 63 characters.
pub const MAX_NAME: usize = 40;
/// Seconds that a pod goes on accepting after SIGTERM: the endpoint's removal takes a moment to spread.
/// The gateway waits for them before its drain window, and the operator grants them.
pub const ENDPOINT_GRACE_SECONDS: u16 = 3;

/// A Server-Sent-Events gateway: pods that authenticate browsers and stream to each of them the
/// events that services publish to NATS for its tenant and user.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ssegateway.io",
    version = "v1alpha1",
    kind = "SseGateway",
    plural = "ssegateways",
    shortname = "ssegw",
    category = "all",
    namespaced,
    status = "SseGatewayStatus",
    derive = "PartialEq",
    doc = "A Server-Sent-Events gateway: pods that authenticate browsers and stream to each of them the events that services publish to NATS for its tenant and user.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether this generation is fully rolled out, available and connected to NATS."),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas", description = "Pods that are ready."),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connections", description = "Open streams over all pods."),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where clients connect."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
    printcolumn(name = "NATS", type_ = "string", json_path = ".status.conditions[?(@.type==\"NatsConnected\")].status", priority = 1, description = "Whether all pods are connected to NATS."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1, description = "Why the gateway is ready or not."),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: must be a DNS-1035 label (lower-case letters, digits and '-', beginning with a letter) of at most 40 characters")
)]
#[x_kube(
    validation = Rule::new("!has(self.autoscaling) || self.autoscaling.targetConnections <= self.limits.maxConnectionsPerPod")
        .message("spec.autoscaling.targetConnections: must not be above spec.limits.maxConnectionsPerPod"),
    validation = Rule::new("self.replay.enabled || !self.publish.enabled")
        .message("spec.publish.enabled: needs spec.replay.enabled: what is published over HTTP is acknowledged by the log"),
    validation = Rule::new("self.replay.enabled || !self.scaling.rebalance")
        .message("spec.scaling.rebalance: needs spec.replay.enabled: what comes while a client goes to another pod is read from the log"),
    validation = Rule::new("self.replay.enabled || !has(self.replay.history)")
        .message("spec.replay.history: needs spec.replay.enabled: history ends where the log begins"),
    validation = Rule::new("!has(self.replay.history) || !self.replay.history.subject.startsWith(self.nats.subjectPrefix + '.')")
        .message("spec.replay.history.subject: must not begin with spec.nats.subjectPrefix: the log would take the requests for events")
)]
#[serde(rename_all = "camelCase")]
pub struct SseGatewaySpec {
    /// Number of gateway pods. Ignored while `autoscaling` is set.
    #[serde(default = "defaults::replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: u32,

    /// Scale on the number of connections, with a HorizontalPodAutoscaler, instead of `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// What becomes of the streams when pods are added.
    #[serde(default)]
    pub scaling: scaling::Scaling,

    /// Where the gateway's endpoints are.
    #[serde(default)]
    pub endpoints: Endpoints,

    /// The NATS server that events come from.
    pub nats: nats::Nats,

    /// Who may connect, and as whom.
    pub auth: auth::Auth,

    /// The single-use tokens that `POST {basePath}/token` hands out.
    #[serde(default)]
    pub token: delivery::Token,

    /// The life of a stream.
    #[serde(default)]
    pub stream: delivery::Stream,

    /// What a client that comes back with a cursor is sent.
    #[serde(default)]
    pub replay: delivery::Replay,

    /// Bounds on connections, buffers and payloads.
    #[serde(default)]
    pub limits: delivery::Limits,

    /// Topics that need no claim.
    #[serde(default)]
    pub topics: delivery::Topics,

    /// Publishing over HTTP.
    #[serde(default)]
    pub publish: delivery::Publish,

    /// Events to every connection of every tenant.
    #[serde(default)]
    pub platform_broadcast: delivery::PlatformBroadcast,

    /// Cross-origin requests.
    #[serde(default)]
    pub cors: delivery::Cors,

    /// How a pod that ends lets go of its connections.
    #[serde(default)]
    pub drain: delivery::Drain,

    /// TLS on the public port.
    #[serde(default)]
    pub tls: expose::Tls,

    /// How clients reach the pods.
    #[serde(default)]
    pub expose: expose::Expose,

    /// Traces and metrics.
    #[serde(default)]
    pub telemetry: telemetry::Telemetry,

    /// Logs of the gateway pods.
    #[serde(default)]
    pub logging: telemetry::Logging,

    /// Who may reach the pods' ports.
    #[serde(default)]
    pub network_policy: expose::NetworkPolicy,

    /// The console page at `/`.
    #[serde(default)]
    pub console: expose::Console,

    /// Settings of the pods themselves: a closed list of what may differ from the operator's own.
    #[serde(default)]
    pub pod: pod::Pod,
}

/// Where the gateway's endpoints are.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// Prefix of the token, stream and events endpoints: begins with `/`, does not end with one.
    #[schemars(length(max = 128), regex(pattern = r"^(/[A-Za-z0-9._~-]+)+$"))]
    pub base_path: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { base_path: "/api/v1/sse".into() }
    }
}

/// A key of a Secret in the gateway's namespace.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key within the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A Secret of type `kubernetes.io/tls` in the gateway's namespace.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

impl SseGatewaySpec {
    /// Every reference to a key of a Secret, with the path of the field that makes it.
    ///
    /// The operator mounts these, the gateway reads them; both name the field when one is missing.
    #[must_use]
    pub fn secret_refs(&self) -> Vec<(String, SecretKeyRef)> {
        let mut refs = Vec::new();
        let mut add = |field: String, key: Option<&SecretKeyRef>| {
            if let Some(key) = key {
                refs.push((field, key.clone()));
            }
        };
        add("nats.credentialsSecretRef".into(), self.nats.credentials_secret_ref.as_ref());
        add("nats.tls.caSecretRef".into(), self.nats.tls.ca_secret_ref.as_ref());
        for (i, issuer) in self.auth.issuers.iter().enumerate() {
            add(format!("auth.issuers[{i}].keySecretRef"), issuer.key_secret_ref.as_ref());
            add(format!("auth.issuers[{i}].caSecretRef"), issuer.ca_secret_ref.as_ref());
        }
        add("telemetry.otlpHeadersSecretRef".into(), self.telemetry.otlp_headers_secret_ref.as_ref());
        add("telemetry.caSecretRef".into(), self.telemetry.ca_secret_ref.as_ref());
        let mut add_pair = |field: &str, name: &str| {
            for key in ["tls.crt", "tls.key"] {
                refs.push((field.into(), SecretKeyRef { name: name.into(), key: key.into() }));
            }
        };
        if let Some(cert) = &self.nats.tls.cert_secret_ref {
            add_pair("nats.tls.certSecretRef", &cert.name);
        }
        if !self.tls.secret_name.is_empty() {
            add_pair("tls.secretName", &self.tls.secret_name);
        }
        refs
    }
}

mod defaults {
    pub const fn replicas() -> u32 {
        2
    }
}
