//! The `NetworkPolicy`: the public port from anywhere, the admin port only from those who have to read it.
//!
//! Nothing is said about what pods may reach: NATS, issuers and collectors are anywhere. The kubelet's
//! probes come from the pod's own node, which no policy keeps out.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sse_crds::expose;

use super::{ADMIN_PORT, HTTP_PORT, OperatorPods, Owner, Settings, selector};

pub fn plan(owner: &Owner, spec: &expose::NetworkPolicy, settings: &Settings) -> Option<NetworkPolicy> {
    let operator = settings.operator.as_ref().map(operator);
    let readers: Vec<_> = operator.into_iter().chain(spec.metrics_from.iter().cloned()).collect();
    let mut rules = vec![rule(HTTP_PORT, None)];
    // An empty list of peers would mean everyone.
    if !readers.is_empty() {
        rules.push(rule(ADMIN_PORT, Some(readers)));
    }
    spec.enabled.then(|| NetworkPolicy {
        metadata: owner.child(owner.name.clone(), &BTreeMap::new()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labelled(selector(&owner.name))),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(rules),
            egress: None,
        }),
    })
}

fn operator(pods: &OperatorPods) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(labelled(
            [("kubernetes.io/metadata.name".to_owned(), pods.namespace.clone())].into(),
        )),
        pod_selector: Some(labelled(pods.labels.clone())),
        ip_block: None,
    }
}

fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

fn rule(port: i32, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".into()),
            ..NetworkPolicyPort::default()
        }]),
        from,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixtures::{gateway, settings};
    use super::super::{Settings, children};

    fn policy(patch: Value, settings: &Settings) -> Option<Value> {
        let policy = children(&gateway(patch), settings).expect("a plan").network_policy?;
        Some(serde_json::to_value(policy).expect("JSON"))
    }

    fn operator() -> Value {
        json!({
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "sse-system"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
        })
    }

    #[test]
    fn the_public_port_is_open_to_all_and_the_admin_port_to_the_operator() {
        let policy = policy(json!({}), &settings()).expect("a policy");
        assert_eq!(policy["metadata"]["name"], "live");
        let spec = &policy["spec"];
        assert_eq!(spec["podSelector"]["matchLabels"]["app.kubernetes.io/instance"], "live");
        assert_eq!(spec["policyTypes"], json!(["Ingress"]), "what pods reach is not restricted");
        assert_eq!(
            spec["ingress"],
            json!([
                {"ports": [{"port": 8080, "protocol": "TCP"}]},
                {"ports": [{"port": 9090, "protocol": "TCP"}], "from": [operator()]},
            ])
        );
    }

    #[test]
    fn those_who_scrape_are_let_in_besides() {
        let prometheus = json!({"namespaceSelector": {"matchLabels": {"team": "metrics"}}});
        let block = json!({"ipBlock": {"cidr": "10.0.0.0/8"}});
        let peers = json!({"networkPolicy": {"metricsFrom": [prometheus, block]}});
        let policy = policy(peers, &settings()).expect("a policy");
        assert_eq!(policy["spec"]["ingress"][1]["from"], json!([operator(), prometheus, block]));
    }

    #[test]
    fn without_any_reader_the_admin_port_is_closed_to_all() {
        let outside = Settings { operator: None, ..settings() };
        let policy = policy(json!({}), &outside).expect("a policy");
        assert_eq!(policy["spec"]["ingress"], json!([{"ports": [{"port": 8080, "protocol": "TCP"}]}]));
    }

    #[test]
    fn it_can_be_switched_off() {
        assert_eq!(policy(json!({"networkPolicy": {"enabled": false}}), &settings()), None);
    }
}
