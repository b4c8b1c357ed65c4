//! The Service in front of the pods.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sse_crds::expose;

use super::{HTTP_PORT, Owner, selector};

pub fn plan(owner: &Owner, spec: &expose::Service) -> Service {
    Service {
        metadata: owner.child(owner.name.clone(), &spec.annotations),
        spec: Some(ServiceSpec {
            type_: Some(spec.type_.as_str().into()),
            selector: Some(selector(&owner.name)),
            ip_family_policy: Some("PreferDualStack".into()),
            ports: Some(vec![ServicePort {
                name: Some("http".into()),
                port: HTTP_PORT,
                target_port: Some(IntOrString::Int(HTTP_PORT)),
                // Part of the entry's key in server-side apply.
                protocol: Some("TCP".into()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
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
        let ports = spec.ports.expect("ports");
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0].name.as_deref(), ports[0].port), (Some("http"), 8080));
        assert_eq!(ports[0].app_protocol, None);
    }

    #[test]
    fn its_type_and_annotations_are_the_users() {
        let service = json!({"type": "LoadBalancer", "annotations": {"lb/scheme": "internal"}});
        let gateway = gateway(json!({"expose": {"service": service}}));
        let service = children(&gateway, &settings()).expect("a plan").service;
        assert_eq!(service.metadata.annotations.expect("annotations")["lb/scheme"], "internal");
        assert_eq!(service.spec.expect("a spec").type_.as_deref(), Some("LoadBalancer"));
    }
}
