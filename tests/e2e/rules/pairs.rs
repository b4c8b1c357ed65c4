//! The table: one pair or more for each rule. Those of the bounds are in `bounds`.

use serde_json::{Value, json};

use super::Pair;
use super::bounds::bounds;

pub fn pairs() -> Vec<Pair> {
    [names(), rules(), log(), issuers(), changes(), bounds()].into_iter().flatten().collect()
}

/// A pair of specs.
pub fn pair(
    [place, rule]: [&'static str; 2],
    field: &'static str,
    message: &'static str,
    [refused, passes]: [Value; 2],
) -> Pair {
    let spec = |patch: Value| json!({ "spec": patch });
    Pair { place, rule, field, message, refused: spec(refused), passes: spec(passes) }
}

fn names() -> Vec<Pair> {
    let rule =
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')";
    let message = "must be a DNS-1035 label (lower-case letters, digits and '-', beginning with a letter) of at most 40 characters";
    let name = |name: &str| json!({"metadata": {"name": name}});
    [("a".repeat(41), "a".repeat(40)), ("a.b".into(), "a-b".into()), ("1a".into(), "a1".into())]
        .map(|(bad, good)| Pair {
            place: "",
            rule,
            field: "metadata.name",
            message,
            refused: name(&bad),
            passes: name(&good),
        })
        .into()
}

/// Rules across fields.
fn rules() -> Vec<Pair> {
    let target = [
        "spec",
        "!has(self.autoscaling) || self.autoscaling.targetConnections <= self.limits.maxConnectionsPerPod",
    ];
    let above = "must not be above spec.limits.maxConnectionsPerPod";
    vec![
        pair(
            target,
            "spec.autoscaling.targetConnections",
            above,
            [
                json!({"autoscaling": {"targetConnections": 15_001}}),
                json!({"autoscaling": {"targetConnections": 15_000}}),
            ],
        ),
        // The default meets a lower limit.
        pair(
            target,
            "spec.autoscaling.targetConnections",
            above,
            [
                json!({"autoscaling": {}, "limits": {"maxConnectionsPerPod": 9_999}}),
                json!({"autoscaling": null, "limits": {"maxConnectionsPerPod": 9_999}}),
            ],
        ),
        pair(
            ["spec.autoscaling", "self.minReplicas <= self.maxReplicas"],
            "spec.autoscaling.minReplicas",
            "must not be above spec.autoscaling.maxReplicas",
            [
                json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}),
                json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 3}}),
            ],
        ),
        pair(
            ["spec.auth", "!('Cookie' in self.modes) || self.cookie.name.size() > 0"],
            "spec.auth.cookie.name",
            "must be set when spec.auth.modes has Cookie",
            [
                json!({"auth": {"modes": ["Cookie"], "cookie": {"name": ""}}}),
                json!({"auth": {"modes": ["Bearer"], "cookie": {"name": ""}}}),
            ],
        ),
        pair(
            ["spec.auth.defaultTenant", "!self.startsWith('_')"],
            "spec.auth.defaultTenant",
            "must not begin with '_'",
            [json!({"auth": {"defaultTenant": "_a"}}), json!({"auth": {"defaultTenant": "a_"}})],
        ),
        pair(
            ["spec.expose.ingress", "!self.enabled || self.host.size() > 0"],
            "spec.expose.ingress.host",
            "must be set when spec.expose.ingress.enabled is true",
            [
                json!({"expose": {"ingress": {"enabled": true}}}),
                json!({"expose": {"ingress": {"enabled": true, "host": "a"}}}),
            ],
        ),
        pair(
            ["spec.expose.httpRoute", "!self.enabled || self.parentRefs.size() > 0"],
            "spec.expose.httpRoute.parentRefs",
            "must be set when spec.expose.httpRoute.enabled is true",
            [
                json!({"expose": {"httpRoute": {"enabled": true}}}),
                json!({"expose": {"httpRoute": {"enabled": true, "parentRefs": [{"name": "a"}]}}}),
            ],
        ),
    ]
}

/// Rules about the log, and what needs it.
fn log() -> Vec<Pair> {
    vec![
        pair(
            ["spec", "self.replay.enabled || !self.publish.enabled"],
            "spec.publish.enabled",
            "needs spec.replay.enabled",
            [
                json!({"publish": {"enabled": true}, "replay": {"enabled": false}}),
                json!({"publish": {"enabled": true}, "replay": {"enabled": true}}),
            ],
        ),
        pair(
            ["spec", "self.replay.enabled || !self.scaling.rebalance"],
            "spec.scaling.rebalance",
            "needs spec.replay.enabled",
            [
                json!({"scaling": {"rebalance": true}, "replay": {"enabled": false}}),
                json!({"scaling": {"rebalance": true}}),
            ],
        ),
        pair(
            ["spec", "self.replay.enabled || !has(self.replay.history)"],
            "spec.replay.history",
            "needs spec.replay.enabled",
            [
                json!({"replay": {"enabled": false, "history": {"subject": "history.get"}}}),
                json!({"replay": {"enabled": true, "history": {"subject": "history.get"}}}),
            ],
        ),
        pair(
            [
                "spec",
                "!has(self.replay.history) || !self.replay.history.subject.startsWith(self.nats.subjectPrefix + '.')",
            ],
            "spec.replay.history.subject",
            "must not begin with spec.nats.subjectPrefix",
            [
                json!({"nats": {"subjectPrefix": "sse"}, "replay": {"history": {"subject": "sse.history"}}}),
                json!({"nats": {"subjectPrefix": "sse"}, "replay": {"history": {"subject": "sse-history.get"}}}),
            ],
        ),
    ]
}

/// Rules and bounds of issuers.
fn issuers() -> Vec<Pair> {
    let key = json!({"name": "jwt", "key": "key"});
    let of_key = json!({"issuer": "a", "keySecretRef": key, "algorithms": ["HS256"]});
    let of_set = json!({"issuer": "a", "jwksUri": "https://id/jwks"});
    let with = |issuer: &Value, key: &str, value: Value| {
        let mut issuer = issuer.clone();
        issuer[key] = value;
        list(&[issuer])
    };
    let many = |n: usize| -> Vec<Value> {
        (0..n).map(|i| json!({"issuer": i.to_string(), "keySecretRef": key})).collect()
    };
    let issuer = "spec.auth.issuers[]";
    let one_key = [issuer, "has(self.jwksUri) != has(self.keySecretRef)"];
    let exactly_one = "each issuer needs exactly one of jwksUri and keySecretRef";
    let algorithms = "spec.auth.issuers[].algorithms";
    vec![
        pair(
            one_key,
            "spec.auth.issuers[0]",
            exactly_one,
            [with(&of_set, "keySecretRef", key.clone()), with(&of_set, "keySecretRef", Value::Null)],
        ),
        pair(
            one_key,
            "spec.auth.issuers[0]",
            exactly_one,
            [list(&[json!({"issuer": "a"})]), list(&[json!({"issuer": "a", "keySecretRef": key})])],
        ),
        pair(
            [issuer, "!has(self.jwksUri) || self.algorithms.all(a, !a.startsWith('HS'))"],
            "spec.auth.issuers[0]",
            "spec.auth.issuers[].algorithms: HS* algorithms need keySecretRef: a key set is public",
            [
                with(&of_set, "algorithms", json!(["HS256"])),
                with(&of_set, "algorithms", json!(["RS256", "EdDSA"])),
            ],
        ),
        pair(
            [algorithms, "self.all(a, a.startsWith('HS')) || self.all(a, !a.startsWith('HS'))"],
            "spec.auth.issuers[0].algorithms",
            "HS* algorithms can not be mixed with others on one key",
            [
                with(&of_key, "algorithms", json!(["HS256", "RS256"])),
                with(&of_key, "algorithms", json!(["HS256", "HS512"])),
            ],
        ),
        pair(
            [algorithms, "minItems"],
            "spec.auth.issuers[0].algorithms",
            "at least 1 items",
            [with(&of_key, "algorithms", json!([])), with(&of_key, "algorithms", json!(["HS256"]))],
        ),
        pair(
            ["spec.auth.issuers[].algorithms[]", "enum"],
            "spec.auth.issuers[0].algorithms[0]",
            "\"EdDSA\"",
            [with(&of_key, "algorithms", json!(["none"])), with(&of_key, "algorithms", json!(["EdDSA"]))],
        ),
        pair(
            ["spec.auth.issuers[].jwksUri", "pattern"],
            "spec.auth.issuers[0].jwksUri",
            "should match",
            [
                with(&of_set, "jwksUri", json!("https://user:secret@id/jwks")),
                with(&of_set, "jwksUri", json!("https://id/user:secret/jwks")),
            ],
        ),
        pair(
            ["spec.auth.issuers[].keySecretRef.name", "pattern"],
            "spec.auth.issuers[0].keySecretRef.name",
            "should match",
            [
                with(&of_key, "keySecretRef", json!({"name": "Jwt", "key": "key"})),
                with(&of_key, "keySecretRef", json!({"name": "jwt", "key": "Key"})),
            ],
        ),
        pair(
            ["spec.auth.issuers", "minItems"],
            "spec.auth.issuers",
            "at least 1 items",
            [list(&[]), list(&many(1))],
        ),
        pair(
            ["spec.auth.issuers", "maxItems"],
            "spec.auth.issuers",
            "at most 16 items",
            [list(&many(17)), list(&many(16))],
        ),
        pair(
            ["spec.auth.issuers", "x-kubernetes-list-map-keys"],
            "spec.auth.issuers[1]",
            "Duplicate value",
            [
                list(&[of_key.clone(), of_set.clone()]),
                list(&[of_key, json!({"issuer": "b", "jwksUri": "https://id/jwks"})]),
            ],
        ),
    ]
}

fn list(issuers: &[Value]) -> Value {
    json!({"auth": {"issuers": issuers}})
}

/// Rules on changes of a gateway whose prefix is `kept` and whose storage is the default.
fn changes() -> Vec<Pair> {
    let prefix = ["spec.nats.subjectPrefix", "self == oldSelf"];
    let storage = ["spec.nats.stream.storage", "self == oldSelf"];
    let message = "can not be changed; make another SseGateway";
    vec![
        pair(
            prefix,
            "spec.nats.subjectPrefix",
            message,
            [
                json!({"nats": {"subjectPrefix": "other"}}),
                json!({"nats": {"subjectPrefix": "kept", "url": "nats://other"}}),
            ],
        ),
        // Taken out, it would be the default.
        pair(
            prefix,
            "spec.nats.subjectPrefix",
            message,
            [json!({"nats": {"subjectPrefix": null}}), json!({"nats": {"stream": null}})],
        ),
        pair(
            storage,
            "spec.nats.stream.storage",
            message,
            [
                json!({"nats": {"stream": {"storage": "Memory"}}}),
                json!({"nats": {"stream": {"storage": "File", "maxAgeSeconds": 60}}}),
            ],
        ),
    ]
}
