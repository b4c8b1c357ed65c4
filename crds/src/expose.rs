//! How clients reach the pods: TLS, Service, Ingress, HTTPRoute, network policy, console.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{bounded_map, objects, rule};

/// TLS on the public port.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// Secret of type `kubernetes.io/tls`. Empty: plain HTTP (HTTP/1.1 and h2c).
    #[schemars(length(max = 253), regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))]
    pub secret_name: String,
}

/// How clients reach the pods.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Expose {
    /// The Service.
    pub service: Service,
    /// An Ingress.
    pub ingress: Ingress,
    /// An HTTPRoute of the Gateway API.
    pub http_route: HttpRoute,
}

/// The Service in front of the pods.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: ServiceType,
    /// Which families of addresses it has: both where the cluster does, or as said here.
    pub ip_family_policy: IpFamilyPolicy,
    /// Its annotations.
    #[schemars(schema_with = "bounded_map")]
    pub annotations: BTreeMap<String, String>,
}

/// Type of a Service.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

impl ServiceType {
    /// The name in the Kubernetes API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Families of addresses of a Service.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamilyPolicy {
    SingleStack,
    #[default]
    PreferDualStack,
    RequireDualStack,
}

impl IpFamilyPolicy {
    /// The name in the Kubernetes API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SingleStack => "SingleStack",
            Self::PreferDualStack => "PreferDualStack",
            Self::RequireDualStack => "RequireDualStack",
        }
    }
}

/// An Ingress for the gateway.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(extend("x-kubernetes-validations" = rule(
    "!self.enabled || self.host.size() > 0",
    "spec.expose.ingress.host: must be set when spec.expose.ingress.enabled is true"
)))]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    /// Whether there is one.
    pub enabled: bool,
    /// Its IngressClass. Empty: the cluster's default.
    #[schemars(length(max = 253))]
    pub class_name: String,
    /// Host that it answers for. It leads requests below `endpoints.basePath` to the Service.
    #[schemars(length(max = 253))]
    pub host: String,
    /// Secret with the certificate of the host. Empty: plain HTTP.
    #[schemars(length(max = 253))]
    pub tls_secret_name: String,
    /// Annotations, which win over those that the operator sets for streams.
    #[schemars(schema_with = "bounded_map")]
    pub annotations: BTreeMap<String, String>,
}

/// An HTTPRoute for the gateway.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[schemars(extend("x-kubernetes-validations" = rule(
    "!self.enabled || self.parentRefs.size() > 0",
    "spec.expose.httpRoute.parentRefs: must be set when spec.expose.httpRoute.enabled is true"
)))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// Whether there is one. The Gateway API has to be installed.
    pub enabled: bool,
    /// Gateways that it hangs on, as in the Gateway API.
    #[schemars(schema_with = "objects")]
    pub parent_refs: Vec<serde_json::Value>,
    /// Hosts that it answers for.
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub hostnames: Vec<String>,
    /// Its annotations.
    #[schemars(schema_with = "bounded_map")]
    pub annotations: BTreeMap<String, String>,
}

/// Who may reach the pods' ports.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Whether there is a NetworkPolicy: the public port from anywhere, the admin port from the
    /// operator and `metricsFrom`.
    pub enabled: bool,
    /// Peers that may scrape the admin port, as in a NetworkPolicy's `from`.
    #[schemars(schema_with = "objects")]
    pub metrics_from: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, metrics_from: Vec::new() }
    }
}

/// The console page at `/`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Console {
    /// Whether it is served. Whoever has a credential of the gateway sees there how many streams each pod has. The pods
    /// tell each other on `<subjectPrefix>-pods.<namespace>.<name>`, where the gateway's NATS user may publish and subscribe.
    pub enabled: bool,
    /// Where a trace is shown, with `{traceId}` in the place of its id. Empty: the console shows the id alone.
    #[schemars(length(max = 2048), regex(pattern = r"^(https?://[^\s@]*\{traceId\}[^\s@]*)?$"))]
    pub trace_url: String,
}
