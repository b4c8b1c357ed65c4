//! The checks in process: what is good passes, and each wrong field is named.
#![expect(clippy::expect_used, reason = "a panic here is a failed test")]

use serde_json::json;
use sse_crds::telemetry::Telemetry;
use sse_crds::{SseGatewaySpec, is_valid_name};

fn spec(patch: serde_json::Value) -> SseGatewaySpec {
    let mut value = json!({
        "nats": {"url": "nats://nats:4222"},
        "auth": {"issuers": [{"issuer": "https://id", "keySecretRef": {"name": "jwt", "key": "key"}, "algorithms": ["HS256"]}]},
    });
    merge(&mut value, patch);
    serde_json::from_value(value).expect("a spec of the right types")
}

fn merge(into: &mut serde_json::Value, patch: serde_json::Value) {
    match (into, patch) {
        (serde_json::Value::Object(into), serde_json::Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(json!(null)), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

#[test]
fn the_smallest_spec_is_good_and_carries_the_defaults() {
    let spec = spec(json!({}));
    assert_eq!(spec.validate(), []);
    assert_eq!(spec.replicas, 2);
    assert_eq!(spec.endpoints.base_path, "/api/v1/sse");
    assert_eq!(spec.limits.max_payload_bytes, 16_384);
    assert_eq!(spec.nats.stream.max_age_seconds, 86_400);
    assert_eq!(spec.telemetry, Telemetry::default());
}

#[test]
fn each_wrong_field_is_named_and_all_are_found_at_once() {
    let cases = [
        (json!({"stream": {"heartbeatIntervalSeconds": 1}}), "stream.heartbeatIntervalSeconds"),
        (json!({"auth": {"issuers": []}}), "auth.issuers"),
        (json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}), "autoscaling.minReplicas"),
        (json!({"autoscaling": {"targetConnections": 20_000}}), "autoscaling.targetConnections"),
        (
            json!({"autoscaling": {"targetCPUUtilizationPercentage": 0}}),
            "autoscaling.targetCPUUtilizationPercentage",
        ),
        (json!({"nats": {"url": "nats://user:secret@nats"}}), "nats.url"),
        (json!({"nats": {"subjectPrefix": "a.b"}}), "nats.subjectPrefix"),
        (json!({"endpoints": {"basePath": "/"}}), "endpoints.basePath"),
        (json!({"stream": {"defaultEventType": "a\nb"}}), "stream.defaultEventType"),
        (json!({"limits": {"maxPayloadBytes": 0}}), "limits.maxPayloadBytes"),
        (json!({"topics": {"public": ["a..b"]}}), "topics.public[0]"),
        (json!({"replay": {"enabled": false}, "publish": {"enabled": true}}), "publish.enabled"),
        (json!({"replay": {"enabled": false}, "scaling": {"rebalance": true}}), "scaling.rebalance"),
        (json!({"replay": {"enabled": false, "history": {"subject": "h"}}}), "replay.history"),
        (json!({"replay": {"history": {"subject": "sse.history"}}}), "replay.history.subject"),
        (json!({"replay": {"history": {"subject": "a..b"}}}), "replay.history.subject"),
        (json!({"topics": {"autoJoin": [">.a"]}}), "topics.autoJoin[0]"),
    ];
    for (patch, field) in &cases {
        let findings = spec(patch.clone()).validate();
        assert!(findings.iter().any(|f| f.field == *field), "{field} not named: {findings:?}");
    }
    let mut all = json!({});
    cases.into_iter().for_each(|(patch, _)| merge(&mut all, patch));
    assert!(spec(all).validate().len() >= 8);
}

#[test]
fn a_symmetric_algorithm_never_meets_a_public_key() {
    let mixed = json!({"auth": {"issuers": [{"issuer": "i", "keySecretRef": {"name": "a", "key": "k"}, "algorithms": ["HS256", "RS256"]}]}});
    let public = json!({"auth": {"issuers": [{"issuer": "i", "jwksUri": "https://id/jwks", "algorithms": ["HS256"]}]}});
    for patch in [mixed, public] {
        let findings = spec(patch).validate();
        assert!(findings.iter().any(|f| f.field == "auth.issuers[0].algorithms"), "{findings:?}");
    }
}

#[test]
fn an_origin_is_what_browsers_send() {
    let findings = |origin: &str| spec(json!({"cors": {"allowedOrigins": [origin]}})).validate();
    for good in [
        "https://app.example.com",
        "http://localhost:5173",
        "https://my_app-1.x:8443",
        "http://[::1]:8080",
        "http://[::1]",
    ] {
        assert_eq!(findings(good), [], "{good}");
    }
    for bad in [
        "*",
        "null",
        "https://*.example.com",
        "https://App.example.com",
        "https://app.example.com/",
        "https://app.example.com:443",
        "http://localhost:80",
        "https://a@b",
        "https://",
        "app.example.com",
        "https://größer.example",
    ] {
        assert_eq!(findings(bad)[0].field, "cors.allowedOrigins[0]", "{bad}");
    }
}

#[test]
fn an_address_of_keys_and_a_cookie_have_names_that_can_be_used() {
    let issuer = |uri: &str| json!({"auth": {"issuers": [{"issuer": "i", "jwksUri": uri}]}});
    assert_eq!(spec(issuer("https://id.example.com/jwks.json")).validate(), []);
    for uri in ["", "https://", "ftp://id/jwks", "https://user:secret@id/jwks", "https://id/a b", "id/jwks"] {
        let findings = spec(issuer(uri)).validate();
        assert!(findings.iter().any(|f| f.field == "auth.issuers[0].jwksUri"), "{uri}: {findings:?}");
    }
    for name in ["", "a b", "a;b", "a=b", "\u{e9}"] {
        let findings = spec(json!({"auth": {"modes": ["Cookie"], "cookie": {"name": name}}})).validate();
        assert!(findings.iter().any(|f| f.field == "auth.cookie.name"), "{name}: {findings:?}");
    }
}

#[test]
fn names_are_labels_of_at_most_forty() {
    for good in ["a", "live", "a-1", &"a".repeat(40)] {
        assert!(is_valid_name(good), "{good}");
    }
    for bad in ["", "1a", "-a", "a-", "A", "a.b", &"a".repeat(41)] {
        assert!(!is_valid_name(bad), "{bad}");
    }
}
