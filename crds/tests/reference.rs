//! `docs/reference.md` is made from the definition: each field with its type, its default, its bounds and its meaning, as
//! `kubectl explain` has them.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

const HEAD: &str = "# Reference: every field of an SseGateway

Made from the CRD by `make crds`, and by nobody's hand. `kubectl explain ssegateway.spec --recursive` says the same of the version that a
cluster has. Metrics, spans and log lines are in [telemetry.md](telemetry.md), what NATS carries is in [publishing.md](publishing.md).
";
/// A longer pattern explains nothing, and one with a backtick can not be shown.
const LONGEST_PATTERN: usize = 40;

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or_default()
}

/// In a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn code(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("`{}`", if text.is_empty() { "\"\"".into() } else { cell(&text) })
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema["properties"].as_object().filter(|inner| !is_secret_key(schema) && !inner.is_empty())
}

/// A reference to a key of a Secret is one thing.
fn is_secret_key(schema: &Value) -> bool {
    let names =
        schema["properties"].as_object().map(|inner| inner.keys().map(String::as_str).collect::<Vec<_>>());
    names.is_some_and(|names| names == ["key", "name"])
}

/// What a value may be.
fn kind(schema: &Value) -> String {
    if is_secret_key(schema) {
        return "key of a Secret: `{name, key}`".into();
    }
    let mut kind = match text(schema, "type") {
        _ if schema["enum"].is_array() => {
            let values = schema["enum"].as_array().into_iter().flatten().filter(|value| !value.is_null());
            values.map(code).collect::<Vec<_>>().join(", ")
        }
        "array" => format!("list of {}", kind_of_items(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => "map of strings".into(),
        other => other.to_owned(),
    };
    let bound = |low: &str, high: &str| match (schema[low].as_f64(), schema[high].as_f64()) {
        (Some(low), Some(high)) => Some(format!("{low} to {high}")),
        (Some(low), None) => Some(format!("from {low}")),
        (None, Some(high)) => Some(format!("at most {high}")),
        (None, None) => None,
    };
    let unit = |bound: Option<String>, unit: &str| bound.map(|bound| format!("{bound}{unit}"));
    let pattern = schema["pattern"]
        .as_str()
        .filter(|pattern| pattern.len() <= LONGEST_PATTERN && !pattern.contains('`'));
    let all = [
        bound("minimum", "maximum"),
        unit(bound("minLength", "maxLength"), " characters"),
        unit(bound("minItems", "maxItems"), " of them"),
        unit(bound("minProperties", "maxProperties"), " of them"),
        pattern.map(|pattern| format!("`{}`", cell(pattern))),
    ];
    for bound in all.into_iter().flatten() {
        let _ = write!(kind, "; {bound}");
    }
    kind
}

fn kind_of_items(items: &Value) -> String {
    match text(items, "type") {
        _ if items["enum"].is_array() => kind(items),
        "object" => "objects".into(),
        other => format!("{other}s"),
    }
}

/// The rows of the fields below a path.
fn rows(path: &str, schema: &Value, table: &mut String) {
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in properties(schema).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match &field["default"] {
            _ if required.contains(&name.as_str()) => "required".into(),
            Value::Null => String::new(),
            value => code(value),
        };
        let below = properties(field).is_some();
        // A group's default is that of its fields, and its type says nothing.
        let (kind, default) = if below { (String::new(), String::new()) } else { (kind(field), default) };
        assert!(!text(field, "description").is_empty(), "{path} has no description");
        let meaning = cell(text(field, "description"));
        let _ = writeln!(table, "| `{path}` | {kind} | {default} | {meaning} |");
        rows(&path, field, table);
        rows(&format!("{path}[]"), &field["items"], table);
    }
}

/// Rules between fields, with the words of their refusal.
fn rules(schema: &Value, found: &mut Vec<String>) {
    let of_this = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    found.extend(of_this.map(|rule| cell(text(rule, "message"))));
    for inner in schema["properties"].as_object().into_iter().flat_map(Map::values) {
        rules(inner, found);
    }
    if schema["items"].is_object() {
        rules(&schema["items"], found);
    }
}

fn section(title: &str, path: &str, schema: &Value, page: &mut String) {
    let _ = write!(page, "\n## {title}\n\n{}\n\n", cell(text(schema, "description")));
    let mut table = String::new();
    rows(path, schema, &mut table);
    let _ = write!(page, "| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |\n{table}");
}

fn reference(crd: &Value) -> String {
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"]["properties"];
    let mut page = HEAD.to_owned();
    let names = &crd["spec"]["names"];
    let _ = writeln!(
        page,
        "\n`apiVersion: {}/{}`, `kind: {}`, short name `{}`.",
        text(&crd["spec"], "group"),
        text(version, "name"),
        text(names, "kind"),
        names["shortNames"][0].as_str().unwrap_or_default(),
    );
    section("spec", "", &schema["spec"], &mut page);
    let mut refused = Vec::new();
    rules(&schema["spec"], &mut refused);
    page.push_str("\n## What is refused\n\nBeside the bounds above, `kubectl apply` is answered:\n\n");
    for message in refused {
        let _ = writeln!(page, "- {message}");
    }
    section("status", "", &schema["status"], &mut page);
    page.push_str("\n## Columns\n\n`kubectl get ssegateways`, the last ones with `-o wide`:\n\n| Column | Meaning |\n| --- | --- |\n");
    for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
        let _ = writeln!(
            page,
            "| {} | {} |",
            text(column, "name").to_uppercase(),
            cell(text(column, "description"))
        );
    }
    page
}

#[test]
fn the_reference_is_made_from_the_definition() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    let crd = serde_json::to_value(sse_crds::crd().expect("a definition")).expect("JSON");
    let made = reference(&crd);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).expect("a writable checkout");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "docs/reference.md is not what the types make: run `make crds`");
}

#[test]
fn a_field_is_told_with_its_type_its_default_its_bounds_and_its_meaning() {
    let schema = serde_json::json!({"required": ["a"], "properties": {
        "a": {"type": "string", "maxLength": 9, "description": "This | that."},
        "b": {"type": "object", "default": {}, "description": "A group.", "properties": {
            "c": {"type": "integer", "minimum": 1, "maximum": 5, "default": 2, "description": "How\nmany."},
        }},
        "d": {"type": "array", "description": "Some.", "items": {"type": "object", "properties": {
            "ref": {"type": "object", "description": "A key.", "properties": {"key": {}, "name": {}}},
        }}},
    }});
    let mut table = String::new();
    rows("", &schema, &mut table);
    assert_eq!(
        table,
        "| `a` | string; at most 9 characters | required | This \\| that. |\n| `b` |  |  | A group. |\n\
         | `b.c` | integer; 1 to 5 | `2` | How many. |\n| `d` | list of objects |  | Some. |\n\
         | `d[].ref` | key of a Secret: `{name, key}` |  | A key. |\n"
    );
}
