//! The Ingress, with the annotations that streams need of each common controller: no buffering, and
//! patience with a connection that lives for hours. A controller ignores those of the others.
//!
//! Traefik needs none for streams: it flushes events at once and sets no limit to a response. `HAProxy`
//! and the load balancer of AWS do not buffer.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};
use sse_crds::SseGatewaySpec;
use sse_crds::expose::ServiceType;

use super::{HTTP_PORT, Owner, to_map};

pub fn plan(owner: &Owner, spec: &SseGatewaySpec) -> Option<Ingress> {
    let ingress = &spec.expose.ingress;
    if !ingress.enabled {
        return None;
    }
    let mut annotations = for_streams();
    annotations.extend(for_amazon(spec));
    if !spec.tls.secret_name.is_empty() {
        annotations.extend(to_tls_pods(&owner.name));
    }
    let tls = (!ingress.tls_secret_name.is_empty()).then(|| {
        vec![IngressTLS {
            hosts: Some(vec![ingress.host.clone()]),
            secret_name: Some(ingress.tls_secret_name.clone()),
        }]
    });
    if tls.is_some() {
        // Or Traefik answers over plain HTTP too, where it has such an entry point.
        annotations.insert("traefik.ingress.kubernetes.io/router.tls".into(), "true".into());
    }
    annotations.extend(ingress.annotations.clone());
    Some(Ingress {
        metadata: owner.child(owner.name.clone(), &annotations),
        spec: Some(IngressSpec {
            ingress_class_name: (!ingress.class_name.is_empty()).then(|| ingress.class_name.clone()),
            rules: Some(vec![IngressRule {
                host: Some(ingress.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path(owner, &spec.endpoints.base_path)] }),
            }]),
            tls,
            ..IngressSpec::default()
        }),
        status: None,
    })
}

fn path(owner: &Owner, base_path: &str) -> HTTPIngressPath {
    HTTPIngressPath {
        path: Some(base_path.into()),
        path_type: "Prefix".into(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: owner.name.clone(),
                port: Some(ServiceBackendPort { number: Some(HTTP_PORT), name: None }),
            }),
            resource: None,
        },
    }
}

/// An hour without a byte is far above every heartbeat.
fn for_streams() -> BTreeMap<String, String> {
    to_map([
        ("nginx.ingress.kubernetes.io/proxy-buffering", "off"),
        ("nginx.ingress.kubernetes.io/proxy-http-version", "1.1"),
        ("nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
        ("nginx.ingress.kubernetes.io/proxy-send-timeout", "3600"),
        ("nginx.org/proxy-buffering", "False"),
        ("nginx.org/proxy-read-timeout", "3600s"),
        ("nginx.org/proxy-send-timeout", "3600s"),
        ("haproxy.org/timeout-server", "3600s"),
        ("haproxy-ingress.github.io/timeout-server", "3600s"),
        ("alb.ingress.kubernetes.io/load-balancer-attributes", "idle_timeout.timeout_seconds=3600"),
        // Its health check asks for `/`, which a gateway without a console does not have.
        ("alb.ingress.kubernetes.io/success-codes", "200,404"),
    ])
}

/// Behind a Service without node ports, only pods can be the targets of Amazon's load balancer.
fn for_amazon(spec: &SseGatewaySpec) -> Option<(String, String)> {
    let inside = spec.expose.service.type_ == ServiceType::ClusterIP;
    inside.then(|| ("alb.ingress.kubernetes.io/target-type".into(), "ip".into()))
}

/// How each controller is told that the pods themselves speak TLS. Traefik is, at the Service.
fn to_tls_pods(service: &str) -> BTreeMap<String, String> {
    to_map([
        ("nginx.ingress.kubernetes.io/backend-protocol", "HTTPS"),
        ("nginx.org/ssl-services", service),
        ("haproxy.org/server-ssl", "true"),
        ("haproxy-ingress.github.io/backend-protocol", "h1-ssl"),
        ("alb.ingress.kubernetes.io/backend-protocol", "HTTPS"),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::children;
    use super::super::fixtures::{gateway, settings};

    fn ingress(ingress: &Value, rest: &Value) -> Value {
        let mut patch = json!({"expose": {"ingress": {"enabled": true, "host": "live.example.com"}}});
        for (key, value) in ingress.as_object().expect("fields") {
            patch["expose"]["ingress"][key] = value.clone();
        }
        for (key, value) in rest.as_object().expect("fields") {
            patch[key] = value.clone();
        }
        let children = children(&gateway(patch), &settings()).expect("a plan");
        serde_json::to_value(children.ingress.expect("an Ingress")).expect("JSON")
    }

    #[test]
    fn there_is_none_unless_it_is_wanted() {
        let off = gateway(json!({"expose": {"ingress": {"host": "live.example.com"}}}));
        assert_eq!(children(&off, &settings()).expect("a plan").ingress, None);
    }

    #[test]
    fn the_base_path_of_the_host_leads_to_the_service() {
        let ingress = ingress(&json!({"className": "nginx"}), &json!({"endpoints": {"basePath": "/sse"}}));
        assert_eq!(ingress["metadata"]["name"], "live");
        assert_eq!(
            ingress["spec"],
            json!({
                "ingressClassName": "nginx",
                "rules": [{"host": "live.example.com", "http": {"paths": [{
                    "path": "/sse", "pathType": "Prefix",
                    "backend": {"service": {"name": "live", "port": {"number": 8080}}},
                }]}}],
            })
        );
    }

    #[test]
    fn every_common_controller_is_told_of_streams() {
        let ingress = ingress(&json!({}), &json!({}));
        let annotations = &ingress["metadata"]["annotations"];
        assert_eq!(annotations["nginx.ingress.kubernetes.io/proxy-buffering"], "off");
        assert_eq!(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"], "3600");
        assert_eq!(annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"], "3600");
        assert_eq!(annotations["haproxy.org/timeout-server"], "3600s");
        let idle = "alb.ingress.kubernetes.io/load-balancer-attributes";
        assert_eq!(annotations[idle], "idle_timeout.timeout_seconds=3600");
        assert_eq!(annotations["alb.ingress.kubernetes.io/target-type"], "ip");
        assert_eq!(annotations["nginx.ingress.kubernetes.io/backend-protocol"], Value::Null);
        assert_eq!(annotations["traefik.ingress.kubernetes.io/router.tls"], Value::Null);
    }

    #[test]
    fn the_users_annotations_win() {
        let read = "nginx.ingress.kubernetes.io/proxy-read-timeout";
        let ingress = ingress(&json!({"annotations": {read: "60", "mine": "too"}}), &json!({}));
        let annotations = &ingress["metadata"]["annotations"];
        assert_eq!((&annotations[read], &annotations["mine"]), (&json!("60"), &json!("too")));
        assert_eq!(annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"], "3600");
    }

    #[test]
    fn a_certificate_is_for_the_host() {
        let ingress = ingress(&json!({"tlsSecretName": "cert"}), &json!({}));
        assert_eq!(ingress["spec"]["tls"], json!([{"hosts": ["live.example.com"], "secretName": "cert"}]));
        assert_eq!(ingress["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.tls"], "true");
    }

    #[test]
    fn pods_that_speak_tls_are_reached_by_tls() {
        let ingress = ingress(&json!({}), &json!({"tls": {"secretName": "pods"}}));
        let annotations = &ingress["metadata"]["annotations"];
        assert_eq!(annotations["nginx.ingress.kubernetes.io/backend-protocol"], "HTTPS");
        assert_eq!(annotations["nginx.org/ssl-services"], "live");
    }
}
