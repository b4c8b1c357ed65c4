//! The way from clients to pods, as it is declared: how long an Ingress or a route waits for a quiet stream.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use sse_crds::SseGateway;

use super::finding::Finding;
use crate::cluster::{Cluster, namespace_of, optional};

/// Annotations that say how long a proxy waits for a byte of an upstream.
const PATIENCE: [&str; 4] = [
    "nginx.ingress.kubernetes.io/proxy-read-timeout",
    "nginx.org/proxy-read-timeout",
    "haproxy.org/timeout-server",
    "haproxy-ingress.github.io/timeout-server",
];
/// The load balancer of AWS has it as one of many.
const AMAZON: (&str, &str) =
    ("alb.ingress.kubernetes.io/load-balancer-attributes", "idle_timeout.timeout_seconds=");

/// What was found, and what could not be looked at.
#[derive(Default)]
pub struct Way {
    pub findings: Vec<Finding>,
    pub skipped: Vec<String>,
}

pub async fn look(cluster: &Cluster, gateway: &SseGateway) -> Way {
    let (namespace, name) = (namespace_of(gateway), gateway.name_any());
    let expose = &gateway.spec.expose;
    let heartbeat = gateway.spec.stream.heartbeat_interval_seconds;
    let mut way = Way::default();
    if expose.ingress.enabled {
        match optional(cluster.api::<Ingress>(&namespace), &name).await {
            Ok(Some(ingress)) => way.findings.extend(ingress_findings(&ingress, heartbeat)),
            // The status of the gateway tells why.
            Ok(None) => {}
            Err(error) => way.skipped.push(format!("the Ingress: {error:#}")),
        }
    }
    if expose.http_route.enabled {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
        let routes: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &namespace, &ApiResource::from_gvk(&kind));
        match optional(routes, &name).await {
            Ok(Some(DynamicObject { data, .. })) => {
                way.findings.extend(not_accepted(&data));
                way.findings.extend(route_findings(&data));
            }
            Ok(None) => {}
            Err(error) => way.skipped.push(format!("the HTTPRoute: {error:#}")),
        }
    }
    way
}

fn ingress_findings(ingress: &Ingress, heartbeat: u32) -> Vec<Finding> {
    let mut found: Vec<_> = patience(ingress.annotations())
        .into_iter()
        .filter(|(_, seconds)| *seconds <= u64::from(heartbeat))
        .map(|(annotation, seconds)| {
            let what = format!(
                "the proxy gives up after {seconds} s of silence; spec.stream.heartbeatIntervalSeconds is {heartbeat}"
            );
            Finding::error("HeartbeatAboveProxyTimeout", format!("spec.expose.ingress.annotations: {annotation}"), what)
                .because("each quiet stream is cut before its first heartbeat, and all clients reconnect for ever")
                .so("leave the annotation out (the operator sets an hour), or have heartbeats well below it")
        })
        .collect();
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let addresses = status.and_then(|balancer| balancer.ingress.as_ref());
    if addresses.is_none_or(Vec::is_empty) {
        found.push(
            Finding::warning(
                "IngressNotServed",
                "spec.expose.ingress.className",
                "the Ingress has no address",
            )
            .because(
                "no ingress controller has taken it up, or it does not say so: its host may lead nowhere",
            )
            .so("kubectl get ingressclass shows what there is; name one of them"),
        );
    }
    found
}

/// How many seconds of silence each annotation allows.
fn patience(annotations: &BTreeMap<String, String>) -> Vec<(&str, u64)> {
    let plain = PATIENCE.iter().filter_map(|name| Some((*name, seconds(annotations.get(*name)?)?)));
    let amazon = annotations.get(AMAZON.0).and_then(|attributes| {
        let value = attributes.split(',').find_map(|one| one.trim().strip_prefix(AMAZON.1))?;
        Some((AMAZON.0, seconds(value)?))
    });
    plain.chain(amazon).collect()
}

/// A route that no Gateway took up.
fn not_accepted(route: &Value) -> Option<Finding> {
    let parents = route["status"]["parents"].as_array().into_iter().flatten();
    let conditions = parents.flat_map(|parent| parent["conditions"].as_array().into_iter().flatten());
    let told: Vec<&Value> = conditions.filter(|condition| condition["type"] == "Accepted").collect();
    if told.iter().any(|condition| condition["status"] == "True") {
        return None;
    }
    let why = told.iter().find_map(|condition| {
        Some(format!("{}: {}", condition["reason"].as_str()?, condition["message"].as_str()?))
    });
    let why = why.unwrap_or_else(|| "none says anything of it".into());
    Some(
        Finding::error(
            "RouteNotAccepted",
            "spec.expose.httpRoute.parentRefs",
            format!("no Gateway has accepted the HTTPRoute; {why}"),
        )
        .because("its hosts lead nowhere")
        .so("compare name, namespace, sectionName and hostnames with the Gateway's listeners, and the namespaces from which these allow routes"),
    )
}

fn route_findings(route: &Value) -> Vec<Finding> {
    let rules = route["spec"]["rules"].as_array().into_iter().flatten();
    let limits = rules.flat_map(|rule| {
        ["request", "backendRequest"]
            .into_iter()
            .filter_map(|kind| Some((kind, rule["timeouts"][kind].as_str()?)))
    });
    let cutting = limits.filter(|(_, limit)| seconds(limit).is_none_or(|seconds| seconds > 0));
    cutting
        .map(|(kind, limit)| {
            let field = format!("HTTPRoute: timeouts.{kind}");
            Finding::error("RouteTimeout", field, format!("is {limit}"))
                .because("a stream is a request that lasts: it is cut after this time")
                .so("set it to 0s, as the operator does: somebody else has changed the route")
        })
        .collect()
}

/// `60`, `60s`, `1m30s`, `1h`; less than a second counts as one.
fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let factor = match &rest[digits..unit_end] {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            "ms" => return Some(total + number.div_ceil(1000)),
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn codes(annotations: &Value, served: bool) -> Vec<&'static str> {
        let addresses = if served { json!([{"ip": "192.0.2.1"}]) } else { json!([]) };
        let ingress = json!({"metadata": {"annotations": annotations},
            "status": {"loadBalancer": {"ingress": addresses}}});
        let ingress = serde_json::from_value(ingress).expect("an Ingress");
        ingress_findings(&ingress, 15).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_proxy_that_is_less_patient_than_heartbeats_is_named() {
        for (name, value) in [
            (PATIENCE[0], "15"),
            (PATIENCE[1], "10s"),
            (PATIENCE[2], "500ms"),
            (AMAZON.0, "a=b, idle_timeout.timeout_seconds=5"),
        ] {
            assert_eq!(codes(&json!({name: value}), true), ["HeartbeatAboveProxyTimeout"], "{name}");
        }
        for (name, value) in
            [(PATIENCE[0], "16"), (PATIENCE[2], "1m"), (PATIENCE[3], "?"), (AMAZON.0, "a=b"), ("x", "1")]
        {
            assert_eq!(codes(&json!({name: value}), true), [""; 0], "{name}");
        }
    }

    #[test]
    fn an_ingress_that_nobody_serves_is_named() {
        assert_eq!(codes(&json!({}), false), ["IngressNotServed"]);
    }

    #[test]
    fn a_route_with_a_time_limit_is_named() {
        let found =
            |timeouts: Value| route_findings(&json!({"spec": {"rules": [{"timeouts": timeouts}]}})).len();
        assert_eq!(found(json!({"request": "0s", "backendRequest": "0s"})), 0);
        assert_eq!(found(json!({"request": "15s"})), 1);
        assert_eq!(found(Value::Null), 0);
    }

    #[test]
    fn a_route_that_no_gateway_accepted_is_named_with_what_it_was_told() {
        let accepted = |status: &str| json!({"type": "Accepted", "status": status, "reason": "NoMatchingParent", "message": "no listener"});
        let found = |parents: Value| not_accepted(&json!({"status": {"parents": parents}}));
        let resolved = json!({"type": "ResolvedRefs", "status": "True"});
        let refused = found(json!([{"conditions": [resolved, accepted("False")]}])).expect("a finding");
        assert_eq!(refused.code, "RouteNotAccepted");
        assert!(refused.what.contains("NoMatchingParent: no listener"), "{}", refused.what);
        for nobody in [json!([]), Value::Null, json!([{"conditions": []}])] {
            assert!(found(nobody.clone()).is_some(), "{nobody}");
        }
        let one_of_two =
            json!([{"conditions": [accepted("False")]}, {"conditions": [resolved, accepted("True")]}]);
        assert_eq!(found(one_of_two), None);
    }

    #[test]
    fn times_are_read_in_every_spelling() {
        let expected = [("60", Some(60)), ("1m30s", Some(90)), ("1h", Some(3600)), ("1d", None), ("", None)];
        for (text, expected) in expected {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
