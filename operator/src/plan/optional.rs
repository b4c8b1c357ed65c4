//! APIs that a cluster may lack, because they come with others' definitions.

use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use serde_json::Value;

/// A kind of child that needs one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Optional {
    HttpRoute,
    PodMonitor,
}

impl Optional {
    /// The kind.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::HttpRoute => "HTTPRoute",
            Self::PodMonitor => "PodMonitor",
        }
    }

    /// Group and version.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::HttpRoute => "gateway.networking.k8s.io/v1",
            Self::PodMonitor => "monitoring.coreos.com/v1",
        }
    }

    /// The field that asks for such a child.
    pub const fn field(self) -> &'static str {
        match self {
            Self::HttpRoute => "spec.expose.httpRoute",
            Self::PodMonitor => "spec.telemetry.podMonitor",
        }
    }

    /// What brings the API.
    pub const fn origin(self) -> &'static str {
        match self {
            Self::HttpRoute => "the Gateway API",
            Self::PodMonitor => "the Prometheus operator",
        }
    }

    pub fn resource(self) -> ApiResource {
        let (group, version) = self.api_version().split_once('/').unwrap_or_default();
        ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: self.api_version().into(),
            kind: self.kind().into(),
            plural: format!("{}s", self.kind().to_ascii_lowercase()),
        }
    }

    /// A child of this kind.
    pub fn object(self, metadata: ObjectMeta, data: Value) -> DynamicObject {
        DynamicObject { metadata, ..DynamicObject::new("", &self.resource()).data(data) }
    }
}
