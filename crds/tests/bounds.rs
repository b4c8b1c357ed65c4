//! The checks in process know every bound of the schema: each is probed from both sides.
#![expect(clippy::expect_used, reason = "a panic here is a failed test")]

use serde_json::{Map, Value, json};
use sse_crds::SseGatewaySpec;

/// Against every pattern of the schema.
const FITS_NO_PATTERN: &str = "..>\n @";

#[test]
fn every_bound_of_the_schema_is_checked_in_process_and_the_field_is_named() {
    let crd = serde_json::to_value(sse_crds::crd().expect("a definition")).expect("JSON");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let spec = full();
    let mut bounded = Vec::new();
    walk(String::new(), schema, &mut bounded);
    assert!(bounded.len() > 80, "{}: the schema was not found", bounded.len());
    let mut wrong = Vec::new();
    for (path, schema) in bounded {
        let fields = fields(&path, &spec);
        if fields.is_empty() {
            wrong.push(format!("{path}: the spec of this test does not have it"));
        }
        for field in fields {
            let value = spec.pointer(&pointer(&field)).expect("a field of the spec");
            for (bound, refused) in beyond(schema, value) {
                wrong.extend(accepted(&spec, &field, bound, refused));
            }
            for edge in edges(schema) {
                let findings = with(&spec, &field, edge.clone()).expect("the right type").validate();
                wrong.extend(findings.first().map(|finding| format!("{field} is {edge}: {finding}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A good spec that has every bounded field, so wide that each number can be moved to its bounds.
fn full() -> Value {
    let key = json!({"name": "secret", "key": "key"});
    let map = json!({"x": "y"});
    let objects = json!([{"name": "x", "maxSkew": 1, "topologyKey": "x", "whenUnsatisfiable": "x"}]);
    let spec = json!({
        "nats": {"url": "nats://nats:4222", "credentialsSecretRef": key,
            "tls": {"caSecretRef": key, "certSecretRef": {"name": "secret"}},
            "stream": {"maxMessagesPerSubject": 1}},
        "auth": {"tagClaims": ["x"], "issuers": [
            {"issuer": "a", "jwksUri": "https://id/jwks", "caSecretRef": key, "audiences": ["x"]},
            {"issuer": "b", "keySecretRef": key, "audiences": ["x"]},
        ]},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1000, "targetConnections": 1,
            "targetCPUUtilizationPercentage": 1},
        "limits": {"maxConnectionsPerPod": 1_000_000},
        "stream": {"retryMs": 1, "welcomeEvents": [{"event": "x"}]},
        "replay": {"history": {"subject": "x"}},
        "topics": {"public": ["x"], "autoJoin": ["x"]},
        "cors": {"allowedOrigins": ["https://x"]},
        "expose": {"service": {"annotations": map}, "ingress": {"annotations": map},
            "httpRoute": {"hostnames": ["x"], "annotations": map}},
        "telemetry": {"otlpHeadersSecretRef": key, "caSecretRef": key, "podMonitor": {"labels": map}},
        "pod": {"image": "x", "priorityClassName": "x", "imagePullSecrets": objects, "tolerations": objects,
            "topologySpreadConstraints": objects, "env": objects, "labels": map, "annotations": map,
            "nodeSelector": map, "serviceAccountAnnotations": map},
    });
    let spec: SseGatewaySpec = serde_json::from_value(spec).expect("a spec of the right types");
    assert_eq!(spec.validate(), []);
    serde_json::to_value(spec).expect("JSON")
}

/// Every place of the schema that has a bound: `.auth.issuers[].issuer`, `.pod.labels.*`.
fn walk<'a>(path: String, schema: &'a Value, bounded: &mut Vec<(String, &'a Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(format!("{path}.{name}"), property, bounded);
    }
    if let Some(items) = schema.get("items") {
        walk(format!("{path}[]"), items, bounded);
    }
    if let Some(values) = schema.get("additionalProperties") {
        walk(format!("{path}.*"), values, bounded);
    }
    if !beyond(schema, &Value::Null).is_empty() {
        bounded.push((path, schema));
    }
}

/// The fields of the spec at a place of the schema, as they are written in findings.
fn fields(path: &str, spec: &Value) -> Vec<String> {
    let mut fields = vec![String::new()];
    for step in path.replace("[]", ".[]").split('.').skip(1) {
        let below = |field: String| -> Vec<String> {
            let value = &spec.pointer(&pointer(&field)).expect("a field of the spec");
            match (step, *value) {
                ("[]", Value::Array(list)) => (0..list.len()).map(|i| format!("{field}[{i}]")).collect(),
                ("*", Value::Object(map)) => map.keys().map(|key| format!("{field}.{key}")).collect(),
                (name, value) => value.get(name).map(|_| format!("{field}.{name}")).into_iter().collect(),
            }
        };
        fields = fields.into_iter().flat_map(below).collect();
    }
    fields
}

fn pointer(field: &str) -> String {
    field.replace('[', ".").replace(']', "").replace('.', "/")
}

fn with(spec: &Value, field: &str, value: Value) -> serde_json::Result<SseGatewaySpec> {
    let mut spec = spec.clone();
    *spec.pointer_mut(&pointer(field)).expect("a field of the spec") = value;
    serde_json::from_value(spec)
}

/// What is wrong when a value beyond a bound passes, or when its refusal does not name the field.
fn accepted(spec: &Value, field: &str, bound: &str, value: Value) -> Option<String> {
    // A number below zero is refused by its type.
    let typed = bound == "minimum" && value.as_i64() == Some(-1);
    let Ok(spec) = with(spec, field, value) else {
        return (!typed).then(|| format!("{field}: the value beyond its {bound} is of a wrong type"));
    };
    let named = field.trim_start_matches('.');
    let findings = spec.validate();
    let found = findings.iter().any(|finding| finding.field == named);
    (!found).then(|| format!("{named} is not refused beyond its {bound}: {findings:?}"))
}

/// The nearest values beyond the bounds of a schema, each with its bound.
fn beyond(schema: &Value, value: &Value) -> Vec<(&'static str, Value)> {
    let size = |bound: &str| schema[bound].as_u64().map(|n| usize::try_from(n).expect("a small number"));
    // Longer, but as good in all else.
    let text = value.as_str().unwrap_or_default();
    let item = || value.get(0).cloned().unwrap_or_else(|| json!({}));
    let entries = |n| (0..n).map(|i: usize| (i.to_string(), json!("x"))).collect::<Map<_, _>>();
    [
        ("minimum", schema["minimum"].as_f64().map(|n| number(n - 1.0))),
        ("maximum", schema["maximum"].as_f64().map(|n| number(n + 1.0))),
        ("minLength", size("minLength").filter(|n| *n > 0).map(|n| json!("x".repeat(n - 1)))),
        ("maxLength", size("maxLength").map(|n| json!(format!("{text:x<width$}", width = n + 1)))),
        ("minItems", size("minItems").filter(|n| *n > 0).map(|_| json!([]))),
        ("maxItems", size("maxItems").map(|n| json!(vec![item(); n + 1]))),
        ("maxProperties", size("maxProperties").map(|n| Value::Object(entries(n + 1)))),
        ("pattern", schema.get("pattern").map(|_| json!(FITS_NO_PATTERN))),
    ]
    .into_iter()
    .filter_map(|(bound, value)| Some((bound, value?)))
    .collect()
}

/// The bounds themselves, where they are numbers: these values pass.
fn edges(schema: &Value) -> impl Iterator<Item = Value> {
    ["minimum", "maximum"].into_iter().filter_map(|bound| schema[bound].as_f64().map(number))
}

fn number(n: f64) -> Value {
    serde_json::from_str(&format!("{n:.0}")).expect("a whole number")
}
