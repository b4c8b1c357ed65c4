//! What the resource itself tells: values that are allowed and will hurt, and the operator's conditions.

use kube::ResourceExt as _;
use sse_crds::{SseGateway, SseGatewaySpec};

use super::finding::{Finding, Severity};
use crate::cluster::in_spec;

/// The same as `sse-gateway check` tells.
pub fn advice(spec: &SseGatewaySpec) -> Vec<Finding> {
    let finding = |advice: sse_crds::FieldError| {
        Finding::warning("Advice", in_spec(&advice.field), advice.message)
            .because("the value is allowed, and seldom meant")
            .so(format!("kubectl explain ssegateway.{}", explained(&advice.field)))
    };
    spec.advice().into_iter().map(finding).collect()
}

/// A path as `kubectl explain` takes it.
fn explained(field: &str) -> String {
    let path = in_spec(field);
    path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

/// The `Ready` condition, where nothing else explains it.
pub fn condition(gateway: &SseGateway, findings: &mut Vec<Finding>) {
    let status = gateway.status.clone().unwrap_or_default();
    if status.observed_generation != gateway.metadata.generation {
        let what = "no operator has looked at this generation of the gateway";
        findings.push(
            Finding::error("NoOperator", gateway.name_any(), what)
                .because("nobody makes or changes its pods")
                .so("look whether the operator runs (kubectl get pods -A -l app.kubernetes.io/component=operator), and watches this namespace"),
        );
        return;
    }
    let explained = findings.iter().any(|finding| finding.severity == Severity::Error);
    let mut conditions = status.conditions.iter();
    let ready = conditions.find(|condition| condition.type_ == "Ready" && condition.status != "True");
    // Whatever else is wrong.
    let Some(ready) = ready.filter(|ready| !explained || ready.reason == "ScaledToZero") else { return };
    findings.push(match ready.reason.as_str() {
        "ScaledToZero" => Finding::warning("ScaledToZero", "spec.replicas", "is 0")
            .because("there is no pod to serve clients")
            .so("raise it"),
        "RollingOut" => Finding::warning("RollingOut", "status", ready.message.clone())
            .because("until it is through, some pods are of another generation")
            .so("wait: kubectl wait --for=condition=Ready, and ask again"),
        reason => Finding::error("NotReady", format!("status: {reason}"), ready.message.clone())
            .because("the operator does not call the gateway ready")
            .so("mend what the message names"),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gateway(reason: &str, observed: i64) -> SseGateway {
        let condition = json!({"type": "Ready", "status": "False", "reason": reason, "message": "why",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({
            "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway",
            "metadata": {"name": "live", "namespace": "shop", "generation": 2},
            "spec": {"nats": {"url": "nats://nats"}, "auth": {"issuers": []}},
            "status": {"observedGeneration": observed, "conditions": [condition]},
        }))
        .expect("a gateway")
    }

    fn codes(gateway: &SseGateway, mut findings: Vec<Finding>) -> Vec<&'static str> {
        condition(gateway, &mut findings);
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_gateway_that_is_not_ready_is_told_of_unless_it_is_known_why() {
        assert_eq!(codes(&gateway("PodsNotReady", 2), vec![]), ["NotReady"]);
        assert_eq!(codes(&gateway("ScaledToZero", 2), vec![]), ["ScaledToZero"]);
        assert_eq!(codes(&gateway("PodsNotReady", 1), vec![]), ["NoOperator"]);
        let known = Finding::error("MissingSecret", "", "");
        assert_eq!(codes(&gateway("MissingSecret", 2), vec![known.clone()]), ["MissingSecret"]);
        assert_eq!(codes(&gateway("ScaledToZero", 2), vec![known]), ["MissingSecret", "ScaledToZero"]);
    }

    #[test]
    fn advice_names_the_field_as_kubectl_explains_it() {
        let spec: Value = json!({"nats": {"url": "nats://nats"},
            "auth": {"issuers": [{"issuer": "a", "jwksUri": "https://a/keys"}]}});
        let found = advice(&serde_json::from_value(spec).expect("a spec"));
        assert_eq!(found[0].field, "spec.auth.issuers[0].audiences");
        assert_eq!(found[0].fix, "kubectl explain ssegateway.spec.auth.issuers.audiences");
    }
}
