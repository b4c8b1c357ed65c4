//! JSON schemas for kubeconform, strict ones, made from Kubernetes' own description of its API and from definitions of custom resources. Both come
//! with Go modules, pinned in the toolbox: `kubernetes` is what the tests' cluster runs, `schemas` has the oldest version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

/// Where a pinned Go module is, which is fetched if it is not there.
pub fn module(folder: &str, module: &str) -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/toolbox").join(folder);
    let mut go = Command::new("go");
    let output = go.args(["mod", "download", "-json", module]).current_dir(pinned).output().expect("go");
    assert!(output.status.success(), "{module}: {}", String::from_utf8_lossy(&output.stdout));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON of go");
    PathBuf::from(answer["Dir"].as_str().expect("a directory"))
}

/// Writes the schema of each kind of a Kubernetes source; answers how many there are.
pub fn of_kubernetes(source: &Path, to: &Path) -> usize {
    let file = std::fs::File::open(source.join("api/openapi-spec/swagger.json")).expect("the OpenAPI");
    let api: Value = serde_json::from_reader(std::io::BufReader::new(file)).expect("JSON");
    let definitions = api["definitions"].as_object().expect("definitions");
    let strict: Map<String, Value> =
        definitions.iter().map(|(name, of)| (name.clone(), strict(name, of))).collect();
    let mut written = 0;
    for (name, of) in definitions {
        for kind in of["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let word = |field: &str| kind[field].as_str().expect("a word");
            let mut used = BTreeSet::new();
            uses(&strict, name, &mut used);
            let used: Map<String, Value> =
                used.into_iter().map(|name| (name.clone(), strict[&name].clone())).collect();
            let schema = json!({"$ref": format!("#/definitions/{name}"), "definitions": used});
            write(to, word("group"), word("version"), word("kind"), &schema);
            written += 1;
        }
    }
    written
}

/// Writes the schemas of the custom resources that this YAML defines; answers their kinds.
pub fn of_custom_resources(file: &Path, to: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut kinds = Vec::new();
    for document in text.split("\n---").filter(|document| document.contains("kind: CustomResourceDefinition"))
    {
        let definition: Value = serde_saphyr::from_str(document).expect("YAML");
        let spec = &definition["spec"];
        let word = |field: &Value| field.as_str().expect("a word").to_owned();
        for version in spec["versions"].as_array().expect("versions") {
            let mut schema = strict("", &version["schema"]["openAPIV3Schema"]);
            for (field, of) in [("apiVersion", json!({})), ("kind", json!({})), ("metadata", json!({}))] {
                schema["properties"][field] = of;
            }
            let kind = word(&spec["names"]["kind"]);
            write(to, &word(&spec["group"]), &word(&version["name"]), &kind, &schema);
            kinds.push(kind);
        }
    }
    kinds
}

/// By the name that kubeconform looks for: `{{.ResourceKind}}{{.KindSuffix}}.json`.
fn write(to: &Path, group: &str, version: &str, kind: &str, schema: &Value) {
    let group = group.split('.').next().filter(|group| !group.is_empty());
    let group = group.map_or_else(String::new, |group| format!("{group}-"));
    let name = format!("{kind}-{group}{version}.json").to_lowercase();
    std::fs::write(to.join(name), schema.to_string()).expect("the schema written");
}

/// The definitions that this one needs, itself included.
fn uses(definitions: &Map<String, Value>, name: &str, used: &mut BTreeSet<String>) {
    fn references(of: &Value, found: &mut Vec<String>) {
        match of {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                found.extend(reference.and_then(|to| to.strip_prefix("#/definitions/")).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    if used.insert(name.to_owned()) {
        let mut found = Vec::new();
        references(&definitions[name], &mut found);
        found.iter().for_each(|name| uses(definitions, name, used));
    }
}

/// Its description as a JSON schema: fields that are not known are errors, and what is a number or a string may be either.
fn strict(name: &str, of: &Value) -> Value {
    if name.ends_with(".intstr.IntOrString") || name.ends_with(".resource.Quantity") {
        return json!({"type": ["string", "number"]});
    }
    match of {
        Value::Object(fields) => {
            let mut strict_fields: Map<String, Value> =
                fields.iter().map(|(key, value)| (key.clone(), strict("", value))).collect();
            let says = |key: &str| fields.get(key) == Some(&Value::Bool(true));
            let closes = fields.get("properties").is_some_and(Value::is_object)
                && fields.get("type") == Some(&json!("object"));
            if closes
                && !fields.contains_key("additionalProperties")
                && !says("x-kubernetes-preserve-unknown-fields")
            {
                strict_fields.insert("additionalProperties".into(), false.into());
            }
            if says("x-kubernetes-int-or-string") {
                strict_fields.remove("type");
            }
            if let (true, Some(kind)) = (says("nullable"), fields.get("type")) {
                strict_fields.insert("type".into(), json!([kind, "null"]));
            }
            Value::Object(strict_fields)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| strict("", item)).collect()),
        other => other.clone(),
    }
}
