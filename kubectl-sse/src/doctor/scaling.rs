//! The autoscaler, where there is one: whether it sees what it scales by.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use sse_crds::SseGateway;

use super::finding::Finding;
use super::way::Way;
use crate::cluster::{Cluster, namespace_of, optional};

pub async fn look(cluster: &Cluster, gateway: &SseGateway) -> Way {
    let mut way = Way::default();
    if gateway.spec.autoscaling.is_some() {
        let scalers = cluster.api::<HorizontalPodAutoscaler>(&namespace_of(gateway));
        match optional(scalers, &gateway.name_any()).await {
            Ok(scaler) => way.findings.extend(scaler.as_ref().and_then(blind)),
            Err(error) => way.skipped.push(format!("the HorizontalPodAutoscaler: {error:#}")),
        }
    }
    way
}

/// One that has no number to go by leaves the pods as they are, however many clients come.
fn blind(scaler: &HorizontalPodAutoscaler) -> Option<Finding> {
    let mut conditions = scaler.status.as_ref()?.conditions.iter().flatten();
    let blind =
        conditions.find(|condition| condition.type_ == "ScalingActive" && condition.status == "False")?;
    let word = |text: &Option<String>| text.clone().unwrap_or_default();
    let what = format!("the autoscaler does not scale: {}: {}", word(&blind.reason), word(&blind.message));
    Some(
        Finding::warning("AutoscalerBlind", "spec.autoscaling", what)
            .because("the number of pods stays what it is: when they are full, clients get 503")
            .so("have sse_server_active_connections served by the custom metrics API (docs/autoscaling.md), and Prometheus named in spec.networkPolicy.metricsFrom"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(conditions: &Value) -> Option<Finding> {
        let scaler = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "live"}},
            "status": {"conditions": conditions, "desiredReplicas": 2}});
        blind(&serde_json::from_value(scaler).expect("an autoscaler"))
    }

    #[test]
    fn an_autoscaler_without_its_metric_is_named_with_what_it_was_told() {
        let active = |status: &str| {
            json!([
                {"type": "AbleToScale", "status": "True"},
                {"type": "ScalingActive", "status": status, "reason": "FailedGetPodsMetric", "message": "no metrics returned"},
            ])
        };
        let finding = found(&active("False")).expect("a finding");
        assert_eq!(finding.code, "AutoscalerBlind");
        assert!(finding.what.contains("FailedGetPodsMetric: no metrics returned"), "{}", finding.what);
        assert_eq!(found(&active("True")), None);
        // It has not looked yet.
        assert_eq!(found(&json!([])), None);
    }
}
