//! The Service in front of the pods, and the headless one that finds each of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sse_crds::SseGatewaySpec;
use sse_crds::expose;

use super::{ADMIN_PORT, HTTP_PORT, Owner, selector};

/// What clients and Ingresses use: the public port of the pods that are ready.
pub fn plan(owner: &Owner, spec: &SseGatewaySpec) -> Service {
    let service = &spec.expose.service;
    let mut annotations = BTreeMap::new();
    if spec.expose.ingress.enabled && !spec.tls.secret_name.is_empty() {
        annotations.insert("traefik.ingress.kubernetes.io/service.serversscheme".into(), "https".into());
    }
    annotations.extend(service.annotations.clone());
    Service {
        metadata: owner.child(owner.name.clone(), &annotations),
        spec: Some(ServiceSpec {
            type_: Some(service.type_.as_str().into()),
            ports: Some(vec![port("http", HTTP_PORT)]),
            ..common(owner, service)
        }),
        status: None,
    }
}

/// What finds the pods one by one: also those that start or drain, whose metrics matter most.
pub fn headless(owner: &Owner, spec: &SseGatewaySpec) -> Service {
    Service {
        metadata: owner.child(format!("{}-headless", owner.name), &BTreeMap::new()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![port("http", HTTP_PORT), port("admin", ADMIN_PORT)]),
            ..common(owner, &spec.expose.service)
        }),
        status: None,
    }
}

fn common(owner: &Owner, service: &expose::Service) -> ServiceSpec {
    ServiceSpec {
        selector: Some(selector(&owner.name)),
        ip_family_policy: Some(service.ip_family_policy.as_str().into()),
        ..ServiceSpec::default()
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        target_port: Some(IntOrString::Int(number)),
        // Part of the entry's key in server-side apply.
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{gateway, settings};
    use super::super::{children, selector};

    #[test]
    fn it_leads_to_the_public_port_only() {
        let children = children(&gateway(json!({})), &settings()).expect("a plan");
        assert_eq!(children.service.metadata.name.as_deref(), Some("live"));
        let spec = children.service.spec.expect("a spec");
        assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
        assert_eq!(spec.ip_family_policy.as_deref(), Some("PreferDualStack"));
        assert_eq!(spec.selector, Some(selector("live")));
        assert_eq!(spec.publish_not_ready_addresses, None);
        let ports = spec.ports.expect("ports");
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0].name.as_deref(), ports[0].port), (Some("http"), 8080));
        assert_eq!(ports[0].app_protocol, None);
    }

    #[test]
    fn its_type_families_and_annotations_are_the_users() {
        let service = json!({"type": "LoadBalancer", "ipFamilyPolicy": "SingleStack", "annotations": {"lb/scheme": "internal"}});
        let gateway = gateway(json!({"expose": {"service": service}}));
        let children = children(&gateway, &settings()).expect("a plan");
        assert_eq!(children.service.metadata.annotations.expect("annotations")["lb/scheme"], "internal");
        let spec = children.service.spec.expect("a spec");
        assert_eq!(spec.type_.as_deref(), Some("LoadBalancer"));
        assert_eq!(spec.ip_family_policy.as_deref(), Some("SingleStack"));
        let headless = children.headless.spec.expect("a spec");
        assert_eq!(headless.type_.as_deref(), Some("ClusterIP"));
        assert_eq!(headless.ip_family_policy.as_deref(), Some("SingleStack"));
    }

    #[test]
    fn the_headless_one_finds_every_pod_and_both_ports() {
        let headless = children(&gateway(json!({})), &settings()).expect("a plan").headless;
        assert_eq!(headless.metadata.name.as_deref(), Some("live-headless"));
        let spec = headless.spec.expect("a spec");
        assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
        assert_eq!(spec.publish_not_ready_addresses, Some(true));
        assert_eq!(spec.selector, Some(selector("live")));
        let ports: Vec<_> =
            spec.ports.expect("ports").into_iter().map(|port| (port.name, port.port)).collect();
        assert_eq!(ports, [(Some("http".into()), 8080), (Some("admin".into()), 9090)]);
    }

    #[test]
    fn traefik_is_told_at_the_service_that_pods_speak_tls() {
        let ingress = json!({"enabled": true, "host": "h"});
        let gateway = gateway(json!({"tls": {"secretName": "pods"}, "expose": {"ingress": ingress}}));
        let service = children(&gateway, &settings()).expect("a plan").service;
        let scheme = "traefik.ingress.kubernetes.io/service.serversscheme";
        assert_eq!(service.metadata.annotations.expect("annotations")[scheme], "https");
    }
}
