//! The `PodDisruptionBudget`: a node that is drained takes one pod at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sse_crds::SseGatewaySpec;

use super::{Owner, selector};

/// None for a gateway that never has two pods: there is nothing to take in turn. While an autoscaled one has a single pod
/// its budget holds nothing up: one may always be unavailable.
pub fn plan(owner: &Owner, spec: &SseGatewaySpec) -> Option<PodDisruptionBudget> {
    let most = spec.autoscaling.as_ref().map_or(spec.replicas, |autoscaling| autoscaling.max_replicas);
    (most >= 2).then(|| PodDisruptionBudget {
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
    fn a_gateway_that_may_have_two_pods_has_one() {
        assert!(budget(json!({"replicas": 2})).is_some());
        assert!(budget(json!({"replicas": 1})).is_none());
        assert!(budget(json!({"replicas": 0})).is_none());
        let autoscaled = |fewest: i32, most: i32| {
            budget(json!({"replicas": 1, "autoscaling": {"minReplicas": fewest, "maxReplicas": most}}))
        };
        assert!(autoscaled(2, 4).is_some());
        let budget = autoscaled(1, 20).expect("a budget");
        assert_eq!(budget["spec"]["maxUnavailable"], 1, "a single pod may go");
        assert!(autoscaled(1, 1).is_none());
    }
}
