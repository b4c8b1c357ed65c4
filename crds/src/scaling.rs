//! How many pods there are by themselves, and what becomes of the streams then.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{object, rule};

/// Bounds and targets of the HorizontalPodAutoscaler. It needs a source of the metric
/// `sse_server_active_connections` of pods, such as the Prometheus adapter.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[schemars(extend("x-kubernetes-validations" = rule(
    "self.minReplicas <= self.maxReplicas",
    "spec.autoscaling.minReplicas: must not be above spec.autoscaling.maxReplicas"
)))]
#[serde(rename_all = "camelCase", default)]
pub struct Autoscaling {
    /// The fewest pods.
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: u32,
    /// The most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u32,
    /// Connections per pod that the autoscaler aims at.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub target_connections: u32,
    /// CPU use that it aims at too, in percent of what the pods request. Not set: CPU does not count.
    #[serde(rename = "targetCPUUtilizationPercentage", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: Option<u32>,
    /// How fast it scales, as in a HorizontalPodAutoscaler, instead of the operator's own: up at once, down
    /// by a pod or a tenth of them a minute, after five minutes of calm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            min_replicas: 2,
            max_replicas: 20,
            target_connections: 10_000,
            target_cpu_utilization_percentage: None,
            behavior: None,
        }
    }
}

/// What becomes of the streams when pods are added.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// Whether a pod that has more streams than the mean, while another has far fewer, lets some go: at most 3 %
    /// and 100 in a second, down to the mean, each told when to come back. `false`: new pods get new clients alone.
    /// Needs `replay.enabled`, and that the gateway's NATS user may publish and subscribe to
    /// `<subjectPrefix>-pods.<namespace>.<name>`.
    pub rebalance: bool,
}
