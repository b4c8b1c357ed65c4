//! Schemas that the derive can not say, and the finished CustomResourceDefinition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::auth::Issuer;
use crate::{CustomResourceExt, SseGateway};

/// One CEL rule: what must hold of a new or changed object, and what a user is told otherwise.
pub fn rule(rule: &str, message: &str) -> Value {
    rules(&[(rule, message)])
}

/// Several of them at one place.
pub fn rules(rules: &[(&str, &str)]) -> Value {
    rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect()
}

/// A map of short strings, as labels and annotations are.
pub fn bounded_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 4096},
    })
}

/// A Kubernetes object that the API server checks where it is used: embedding its schema would
/// make the CRD some hundred kilobytes larger.
pub fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A short list of such objects.
pub fn objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

/// Conditions, merged by their type.
pub fn list_map_by_type(generator: &mut SchemaGenerator) -> Schema {
    list_map::<Condition>(generator, "type", 0, 16)
}

/// Issuers, merged by their name.
pub fn list_map_by_issuer(generator: &mut SchemaGenerator) -> Schema {
    list_map::<Issuer>(generator, "issuer", 1, 16)
}

fn list_map<T: schemars::JsonSchema>(
    generator: &mut SchemaGenerator,
    key: &str,
    min: u32,
    max: u32,
) -> Schema {
    let items = generator.subschema_for::<T>();
    json_schema!({
        "type": "array",
        "minItems": min,
        "maxItems": max,
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
    })
}

/// The CustomResourceDefinition, as `sse-operator crd` prints it and the chart installs it.
///
/// # Errors
///
/// When the derived definition does not survive a round trip through JSON, which a test rules out.
pub fn crd() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(SseGateway::crd())?;
    tidy(&mut value);
    serde_json::from_value(value)
}

/// Drops formats of unsigned and small integers, which the API server does not know and warns of;
/// their bounds say the same.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
                map.remove("format");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}
