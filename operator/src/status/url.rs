//! Where clients connect.

use serde_json::Value;
use sse_crds::SseGatewaySpec;

use crate::plan::HTTP_PORT;

/// The address by `HTTPRoute`, `Ingress` or Service, in this order.
pub fn of(spec: &SseGatewaySpec, namespace: &str, name: &str) -> String {
    let base_path = &spec.endpoints.base_path;
    let (route, ingress) = (&spec.expose.http_route, &spec.expose.ingress);
    if let (true, Some(host)) = (route.enabled, route.hostnames.iter().find(|host| is_one(host))) {
        let tls = route.parent_refs.iter().any(names_tls_listener);
        return format!("{}://{host}{base_path}", scheme(tls));
    }
    if ingress.enabled && is_one(&ingress.host) {
        return format!("{}://{}{base_path}", scheme(!ingress.tls_secret_name.is_empty()), ingress.host);
    }
    let tls = !spec.tls.secret_name.is_empty();
    format!("{}://{name}.{namespace}.svc:{HTTP_PORT}{base_path}", scheme(tls))
}

/// Whether it is one host, and not a pattern of many.
fn is_one(host: &str) -> bool {
    !host.is_empty() && !host.contains('*')
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// Whether a route hangs on a TLS listener. The operator does not read Gateways, so the reference
/// itself must tell, by its port or by the customary name of the listener.
fn names_tls_listener(parent: &Value) -> bool {
    let section = parent["sectionName"].as_str().unwrap_or_default();
    parent["port"] == 443 || section.starts_with("https") || section.starts_with("tls")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::fixtures::gateway;

    #[test]
    fn the_outermost_address_is_shown() {
        let ingress = json!({"enabled": true, "host": "in.example.com", "tlsSecretName": "cert"});
        let route =
            json!({"enabled": true, "hostnames": ["route.example.com"], "parentRefs": [{"name": "gw"}]});
        let cases = [
            (json!({}), "http://live.demo.svc:8080/api/v1/sse"),
            (json!({"tls": {"secretName": "cert"}}), "https://live.demo.svc:8080/api/v1/sse"),
            (json!({"endpoints": {"basePath": "/sse"}}), "http://live.demo.svc:8080/sse"),
            (json!({"expose": {"ingress": ingress}}), "https://in.example.com/api/v1/sse"),
            (json!({"expose": {"ingress": {"enabled": true, "host": "h"}}}), "http://h/api/v1/sse"),
            (
                json!({"expose": {"ingress": {"enabled": false, "host": "h"}}}),
                "http://live.demo.svc:8080/api/v1/sse",
            ),
            (
                json!({"expose": {"ingress": ingress, "httpRoute": route}}),
                "http://route.example.com/api/v1/sse",
            ),
            (
                json!({"expose": {"httpRoute": {"enabled": true, "hostnames": ["r"], "parentRefs": [{"name": "gw", "sectionName": "https"}]}}}),
                "https://r/api/v1/sse",
            ),
            (
                json!({"expose": {"httpRoute": {"enabled": true, "hostnames": ["*.a", "one.a"], "parentRefs": [{"port": 443}]}}}),
                "https://one.a/api/v1/sse",
            ),
            (
                json!({"expose": {"ingress": {"enabled": true, "host": "*.a"}}}),
                "http://live.demo.svc:8080/api/v1/sse",
            ),
        ];
        for (patch, expected) in cases {
            assert_eq!(of(&gateway(patch.clone()).spec, "demo", "live"), expected, "{patch}");
        }
    }
}
