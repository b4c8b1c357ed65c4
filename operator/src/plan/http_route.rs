//! The `HTTPRoute` of the Gateway API.
//!
//! Every field that the API would fill in is named, so that applying it again changes nothing.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use sse_crds::SseGatewaySpec;

use super::optional::Optional;
use super::{HTTP_PORT, Owner};

pub fn plan(owner: &Owner, spec: &SseGatewaySpec) -> Option<DynamicObject> {
    let route = &spec.expose.http_route;
    let data = json!({"spec": {
        "parentRefs": route.parent_refs.iter().map(parent).collect::<Vec<_>>(),
        "hostnames": route.hostnames,
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": spec.endpoints.base_path}}],
            "backendRefs": [
                {"group": "", "kind": "Service", "name": owner.name, "port": HTTP_PORT, "weight": 1},
            ],
            // None: a stream is a request that lasts.
            "timeouts": {"request": "0s"},
        }],
    }});
    let metadata = || owner.child(owner.name.clone(), &route.annotations);
    route.enabled.then(|| Optional::HttpRoute.object(metadata(), data))
}

/// A reference with the defaults of the API.
fn parent(reference: &Value) -> Value {
    let mut parent = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway"});
    for (key, value) in reference.as_object().into_iter().flatten() {
        parent[key] = value.clone();
    }
    parent
}

#[cfg(test)]
mod tests {
    use super::super::children;
    use super::super::fixtures::{gateway, settings};
    use super::*;

    fn route(route: &Value) -> Option<Value> {
        let gateway = gateway(json!({"expose": {"httpRoute": route}}));
        let route = children(&gateway, &settings()).expect("a plan").http_route?;
        Some(serde_json::to_value(route).expect("JSON"))
    }

    #[test]
    fn the_base_path_leads_to_the_service_without_a_time_limit() {
        let route = route(&json!({
            "enabled": true,
            "parentRefs": [{"name": "public", "sectionName": "https"}, {"name": "mesh", "kind": "Service", "group": ""}],
            "hostnames": ["live.example.com"],
            "annotations": {"a": "b"},
        }))
        .expect("a route");
        assert_eq!(
            (&route["apiVersion"], &route["kind"]),
            (&json!("gateway.networking.k8s.io/v1"), &json!("HTTPRoute"))
        );
        assert_eq!(route["metadata"]["name"], "live");
        assert_eq!(route["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(
            route["spec"],
            json!({
                "parentRefs": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "sectionName": "https"},
                    {"group": "", "kind": "Service", "name": "mesh"},
                ],
                "hostnames": ["live.example.com"],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/api/v1/sse"}}],
                    "backendRefs": [{"group": "", "kind": "Service", "name": "live", "port": 8080, "weight": 1}],
                    "timeouts": {"request": "0s"},
                }],
            })
        );
    }

    #[test]
    fn there_is_none_unless_it_is_wanted() {
        assert_eq!(route(&json!({"parentRefs": [{"name": "public"}]})), None);
    }
}
