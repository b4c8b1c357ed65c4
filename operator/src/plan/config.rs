//! The gateway's configuration file: the spec, without what the gateway does not need and without
//! every value that is its default.
//!
//! Leaving defaults out keeps the file, and so its hash, the same when a newer operator knows more
//! fields: an operator upgrade by itself does not roll pods.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sse_crds::SseGatewaySpec;

/// Parts of the spec that shape other children, as JSON pointers without the first slash.
const NOT_FOR_THE_GATEWAY: [&[&str]; 6] = [
    &["replicas"],
    &["autoscaling"],
    &["expose"],
    &["networkPolicy"],
    &["pod"],
    &["telemetry", "podMonitor"],
];

/// A rendered configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file, as YAML.
    pub yaml: String,
    /// First 10 hex digits of its SHA-256.
    pub hash: String,
}

/// Why a spec could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Yaml(#[from] serde_saphyr::ser::Error),
}

/// Renders the configuration file of the pods.
pub fn render(spec: &SseGatewaySpec) -> Result<Config, Error> {
    let mut value = serde_json::to_value(spec)?;
    for path in NOT_FOR_THE_GATEWAY {
        remove(&mut value, path);
    }
    let yaml = serde_saphyr::to_string(&prune(value)?)?;
    let hash = hash10(yaml.as_bytes());
    Ok(Config { yaml, hash })
}

/// First 10 hex digits of the SHA-256 of `bytes`.
pub fn hash10(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let first = digest.iter().take(5).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{first:010x}")
}

/// Leaves out everything that can be left out without changing what the spec means.
fn prune(value: Value) -> Result<Value, serde_json::Error> {
    let meaning: SseGatewaySpec = serde_json::from_value(value.clone())?;
    let mut pruned = value;
    let mut path = Vec::new();
    prune_at(&mut pruned, &mut path, &meaning);
    Ok(sorted(pruned))
}

/// Prunes the part of `root` at `path`. Trying is simpler than comparing with a table of defaults,
/// and holds for list entries and optional objects, whose defaults depend on where they stand.
fn prune_at(root: &mut Value, path: &mut Vec<String>, meaning: &SseGatewaySpec) {
    let keys: Vec<String> = match at(root, path) {
        Some(Value::Object(map)) => map.keys().cloned().collect(),
        Some(Value::Array(list)) => {
            for index in 0..list.len() {
                path.push(index.to_string());
                prune_at(root, path, meaning);
                path.pop();
            }
            return;
        }
        _ => return,
    };
    for key in keys {
        let Some(Value::Object(map)) = at(root, path) else { return };
        let Some(taken) = map.remove(&key) else { continue };
        if means(root, meaning) {
            continue;
        }
        if let Some(Value::Object(map)) = at(root, path) {
            map.insert(key.clone(), taken);
        }
        path.push(key);
        prune_at(root, path, meaning);
        path.pop();
    }
}

fn means(value: &Value, meaning: &SseGatewaySpec) -> bool {
    serde_json::from_value::<SseGatewaySpec>(value.clone()).is_ok_and(|spec| spec == *meaning)
}

fn at<'a>(root: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(root, |value, key| match value {
        Value::Object(map) => map.get_mut(key),
        Value::Array(list) => list.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

fn remove(value: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(value, |value, key| value.get_mut(*key));
    if let Some(Value::Object(map)) = parent {
        map.remove(*last);
    }
}

/// Keys in order, whatever `serde_json` was built with: the hash depends on it.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::gateway;
    use super::*;

    fn rendered(patch: Value) -> Config {
        render(&gateway(patch).spec).expect("a file")
    }

    fn content(patch: Value) -> Value {
        serde_saphyr::from_str(&rendered(patch).yaml).expect("YAML")
    }

    #[test]
    fn the_file_is_what_differs_from_the_defaults() {
        let smallest = json!({
            "nats": {"url": "nats://nats:4222"},
            "auth": {"issuers": [{"issuer": "https://id", "keySecretRef": {"name": "jwt-key", "key": "key"}, "algorithms": ["HS256"]}]},
        });
        assert_eq!(content(json!({})), smallest);
        let mut limited = smallest;
        limited["limits"] = json!({"maxPayloadBytes": 1024});
        assert_eq!(
            content(json!({"limits": {"maxPayloadBytes": 1024, "maxConnectionsPerUser": 10}})),
            limited
        );
    }

    #[test]
    fn the_file_reads_back_as_the_spec() {
        let spec = gateway(json!({
            "stream": {"retryMs": 100, "welcomeEvents": [{"event": "hello", "data": ""}]},
            "replay": {"history": {"subject": "history.get", "maxEvents": 1000}},
            "telemetry": {"deliverySamplePercent": 2.5},
            "cors": {"allowedOrigins": ["https://app.example.com"]},
        }))
        .spec;
        let file = render(&spec).expect("a file").yaml;
        assert_eq!(serde_saphyr::from_str::<SseGatewaySpec>(&file).expect("a spec"), spec);
    }

    #[test]
    fn writing_a_default_out_does_not_change_the_hash() {
        let same = [
            json!({"stream": {"heartbeatIntervalSeconds": 15}}),
            json!({"auth": {"modes": ["Token", "Bearer"], "issuers": [
                {"issuer": "https://id", "keySecretRef": {"name": "jwt-key", "key": "key"}, "algorithms": ["HS256"], "audiences": []}]}}),
            json!({"nats": {"stream": {"replicas": 1}, "tls": {}}}),
        ];
        for patch in same {
            assert_eq!(rendered(patch.clone()).hash, rendered(json!({})).hash, "{patch}");
        }
    }

    #[test]
    fn defaults_are_left_out_of_list_entries_and_optional_objects_too() {
        let content = content(json!({
            "stream": {"welcomeEvents": [{"event": "hello", "data": ""}]},
            "replay": {"history": {"subject": "h", "timeoutSeconds": 5, "maxEvents": 1000, "onFirstConnect": false}},
        }));
        assert_eq!(content["stream"], json!({"welcomeEvents": [{"event": "hello"}]}));
        assert_eq!(content["replay"], json!({"history": {"subject": "h"}}));
    }

    #[test]
    fn what_the_gateway_does_not_need_does_not_roll_it() {
        let others = json!({
            "replicas": 7,
            "autoscaling": {"maxReplicas": 9},
            "expose": {"service": {"type": "LoadBalancer"}},
            "networkPolicy": {"enabled": false},
            "pod": {"labels": {"team": "a"}},
            "telemetry": {"podMonitor": {"enabled": true}},
        });
        assert_eq!(rendered(others), rendered(json!({})));
    }

    #[test]
    fn a_change_that_matters_changes_the_hash() {
        assert_ne!(rendered(json!({"logging": {"level": "debug"}})).hash, rendered(json!({})).hash);
    }

    /// A new version that fails here rolls every gateway of every user when its operator is upgraded.
    #[test]
    fn the_hash_of_a_spec_stays_the_same_between_versions() {
        assert_eq!(rendered(json!({})).hash, "5a6f9a0874");
    }
}
