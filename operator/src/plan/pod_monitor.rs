//! The `PodMonitor` of the Prometheus operator: each pod's own metrics, from its admin port.

use kube::api::DynamicObject;
use serde_json::json;
use sse_crds::telemetry;

use super::optional::Optional;
use super::{Owner, selector};

pub fn plan(owner: &Owner, spec: &telemetry::PodMonitor) -> Option<DynamicObject> {
    let mut metadata = owner.child(owner.name.clone(), &[].into());
    metadata.labels = Some(owner.labels(&spec.labels));
    let data = json!({"spec": {
        "selector": {"matchLabels": selector(&owner.name)},
        // On every series, beside the namespace and the pod: dashboards and alerts tell gateways apart by it.
        "podTargetLabels": ["app.kubernetes.io/instance"],
        "podMetricsEndpoints": [{"port": "admin", "path": "/metrics"}],
    }});
    spec.enabled.then(|| Optional::PodMonitor.object(metadata, data))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::children;
    use super::super::fixtures::{gateway, settings};
    use super::*;

    fn monitor(monitor: &Value) -> Option<Value> {
        let gateway = gateway(json!({"telemetry": {"podMonitor": monitor}}));
        let monitor = children(&gateway, &settings()).expect("a plan").pod_monitor?;
        Some(serde_json::to_value(monitor).expect("JSON"))
    }

    #[test]
    fn it_names_the_admin_port_and_carries_the_users_labels() {
        let labels = json!({"release": "prometheus", "app.kubernetes.io/managed-by": "me"});
        let monitor = monitor(&json!({"enabled": true, "labels": labels})).expect("a monitor");
        assert_eq!(
            (&monitor["apiVersion"], &monitor["kind"]),
            (&json!("monitoring.coreos.com/v1"), &json!("PodMonitor"))
        );
        assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
        assert_eq!(monitor["metadata"]["labels"]["app.kubernetes.io/managed-by"], "sse-operator");
        assert_eq!(monitor["spec"]["selector"]["matchLabels"], json!(selector("live")));
        assert_eq!(monitor["spec"]["podTargetLabels"], json!(["app.kubernetes.io/instance"]));
        assert_eq!(monitor["spec"]["podMetricsEndpoints"], json!([{"port": "admin", "path": "/metrics"}]));
    }

    #[test]
    fn there_is_none_unless_it_is_wanted() {
        assert_eq!(monitor(&json!({"labels": {"release": "prometheus"}})), None);
    }
}
