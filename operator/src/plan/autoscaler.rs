//! The `HorizontalPodAutoscaler` on the number of connections.
//!
//! Connections come back all at once and leave slowly, and each pod that goes sends its clients to the
//! others. So it scales up at once, and down in small steps after a calm.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
    PodsMetricSource, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sse_crds::{Autoscaling, SseGatewaySpec};

use super::{Owner, count};

/// Open streams of a pod, as its `/metrics` tells them.
const CONNECTIONS: &str = "sse_server_active_connections";

pub fn plan(owner: &Owner, spec: &SseGatewaySpec) -> Option<HorizontalPodAutoscaler> {
    let autoscaling = spec.autoscaling.as_ref()?;
    Some(HorizontalPodAutoscaler {
        metadata: owner.child(owner.name.clone(), &[].into()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: "Deployment".into(),
                name: owner.name.clone(),
            },
            min_replicas: Some(count(autoscaling.min_replicas)),
            max_replicas: count(autoscaling.max_replicas),
            metrics: Some(metrics(autoscaling)),
            behavior: Some(autoscaling.behavior.clone().unwrap_or_else(behavior)),
        }),
        status: None,
    })
}

fn metrics(autoscaling: &Autoscaling) -> Vec<MetricSpec> {
    let connections = MetricSpec {
        type_: "Pods".into(),
        pods: Some(PodsMetricSource {
            metric: MetricIdentifier { name: CONNECTIONS.into(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".into(),
                average_value: Some(quantity(autoscaling.target_connections)),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    let cpu = autoscaling.target_cpu_utilization_percentage.map(|percent| MetricSpec {
        type_: "Resource".into(),
        resource: Some(ResourceMetricSource {
            name: "cpu".into(),
            target: MetricTarget {
                type_: "Utilization".into(),
                average_utilization: Some(count(percent)),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    });
    [Some(connections), cpu].into_iter().flatten().collect()
}

/// As the API server writes it: another spelling would look like a change.
fn quantity(n: u32) -> Quantity {
    Quantity(match n {
        n if n > 0 && n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        n if n > 0 && n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        n => n.to_string(),
    })
}

fn behavior() -> HorizontalPodAutoscalerBehavior {
    let policy = |type_: &str, value: i32, period_seconds: i32| HPAScalingPolicy {
        type_: type_.into(),
        value,
        period_seconds,
    };
    let rules = |calm: i32, policies: Vec<HPAScalingPolicy>| HPAScalingRules {
        stabilization_window_seconds: Some(calm),
        select_policy: Some("Max".into()),
        policies: Some(policies),
        ..HPAScalingRules::default()
    };
    HorizontalPodAutoscalerBehavior {
        scale_up: Some(rules(0, vec![policy("Percent", 100, 15), policy("Pods", 4, 15)])),
        scale_down: Some(rules(300, vec![policy("Percent", 10, 60), policy("Pods", 1, 60)])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::children;
    use super::super::fixtures::{gateway, settings};
    use super::*;

    fn autoscaler(patch: Value) -> Option<Value> {
        let autoscaler = children(&gateway(patch), &settings()).expect("a plan").autoscaler?;
        Some(serde_json::to_value(autoscaler).expect("JSON"))
    }

    #[test]
    fn it_aims_at_connections_per_pod_between_the_bounds() {
        let hpa = autoscaler(
            json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 9, "targetConnections": 5000}}),
        );
        let spec = &hpa.expect("an autoscaler")["spec"];
        assert_eq!(
            spec["scaleTargetRef"],
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "live"})
        );
        assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&json!(3), &json!(9)));
        assert_eq!(
            spec["metrics"],
            json!([{"type": "Pods", "pods": {
                "metric": {"name": "sse_server_active_connections"},
                "target": {"type": "AverageValue", "averageValue": "5k"},
            }}])
        );
        assert_eq!(spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0);
        assert_eq!(spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 300);
        assert_eq!(autoscaler(json!({"replicas": 9})), None);
    }

    #[test]
    fn cpu_counts_only_with_a_target_of_its_own() {
        let hpa = autoscaler(json!({"autoscaling": {"targetCPUUtilizationPercentage": 70}}))
            .expect("an autoscaler");
        let metrics = hpa["spec"]["metrics"].as_array().expect("metrics");
        assert_eq!(metrics.len(), 2);
        assert_eq!(
            metrics[1],
            json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 70}}})
        );
    }

    #[test]
    fn the_users_behavior_replaces_the_operators() {
        let users = json!({"scaleDown": {"stabilizationWindowSeconds": 60}});
        let hpa = autoscaler(json!({"autoscaling": {"behavior": users}})).expect("an autoscaler");
        assert_eq!(hpa["spec"]["behavior"], users);
    }

    #[test]
    fn quantities_are_spelled_as_the_api_server_does() {
        let spelled = [0, 1, 999, 1500, 1000, 15_000, 1_000_000].map(|n| quantity(n).0);
        assert_eq!(spelled, ["0", "1", "999", "1500", "1k", "15k", "1M"]);
    }
}
