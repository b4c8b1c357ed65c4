//! The `PodDisruptionBudget`: a node that is drained takes one pod at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sse_crds::SseGatewaySpec;

use super::{Owner, selector};

/// None for a single pod: its budget would only hold up the drain of its node.
pub fn plan(owner: &Owner, spec: &SseGatewaySpec) -> Option<PodDisruptionBudget> {
    let fewest = spec.autoscaling.as_ref().map_or(spec.replicas, |autoscaling| autoscaling.min_replicas);
    (fewest >= 2).then(|| PodDisruptionBudget {
        metadata: owner.child(owner.name.clone(), &[].into()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector(&owner.name)),
                ..LabelSelector::default()
            }),
            // A pod that is not ready serves nobody: it must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::children;
    use super::super::fixtures::{gateway, settings};

    fn budget(patch: Value) -> Option<Value> {
        let budget = children(&gateway(patch), &settings()).expect("a plan").disruption_budget?;
        Some(serde_json::to_value(budget).expect("JSON"))
    }

    #[test]
    fn one_pod_at_a_time_may_be_evicted_and_an_unready_one_always() {
        let budget = budget(json!({})).expect("a budget");
        assert_eq!(budget["metadata"]["name"], "live");
        assert_eq!(budget["spec"]["maxUnavailable"], 1);
        assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
        assert_eq!(budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"], "live");
    }

    #[test]
    fn a_gateway_that_may_have_a_single_pod_has_none() {
        assert!(budget(json!({"replicas": 2})).is_some());
        assert!(budget(json!({"replicas": 1})).is_none());
        assert!(budget(json!({"replicas": 0})).is_none());
        assert!(budget(json!({"replicas": 1, "autoscaling": {"minReplicas": 2}})).is_some());
        assert!(budget(json!({"replicas": 5, "autoscaling": {"minReplicas": 1}})).is_none());
    }
}
