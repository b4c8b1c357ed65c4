//! The rules of the schema, checked in process.
//!
//! Each finding names the field as a user wrote it. All findings are returned, not the first.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use crate::auth::{Issuer, Mode};
use crate::{MAX_NAME, SecretKeyRef, SseGatewaySpec};

/// A field whose value can not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field within the spec: `stream.heartbeatIntervalSeconds`.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

#[derive(Default)]
struct Findings(Vec<FieldError>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    fn require(&mut self, ok: bool, field: &str, message: &str) {
        if !ok {
            self.add(field, message);
        }
    }

    fn range(&mut self, field: &str, value: u64, allowed: RangeInclusive<u64>) {
        if !allowed.contains(&value) {
            self.add(field, format!("is {value}, must be from {} to {}", allowed.start(), allowed.end()));
        }
    }

    fn length(&mut self, field: &str, value: &str, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&value.len()) {
            self.add(field, format!("must have from {} to {} characters", allowed.start(), allowed.end()));
        }
    }

    fn count(&mut self, field: &str, value: usize, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&value) {
            self.add(field, format!("must have from {} to {} entries", allowed.start(), allowed.end()));
        }
    }

    fn secret(&mut self, field: &str, secret: Option<&SecretKeyRef>) {
        let Some(secret) = secret else { return };
        let name_ok = !secret.name.is_empty()
            && secret
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        self.require(name_ok, &format!("{field}.name"), "must be the name of a Secret");
        let key_ok = !secret.key.is_empty()
            && !secret.key.starts_with("..")
            && secret.key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        self.require(key_ok, &format!("{field}.key"), "must be a key of the Secret");
    }
}

/// Whether `name` can be the `metadata.name` of a gateway.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(label)
        && !name.ends_with('-')
}

impl SseGatewaySpec {
    /// Every field whose value can not be used; empty when the spec is good.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut findings = Findings::default();
        self.check_scale(&mut findings);
        self.check_nats(&mut findings);
        self.check_auth(&mut findings);
        self.check_delivery(&mut findings);
        self.check_expose(&mut findings);
        findings.0
    }

    fn check_scale(&self, f: &mut Findings) {
        f.range("replicas", self.replicas.into(), 0..=1000);
        if let Some(a) = &self.autoscaling {
            f.range("autoscaling.minReplicas", a.min_replicas.into(), 1..=1000);
            f.range("autoscaling.maxReplicas", a.max_replicas.into(), 1..=1000);
            f.range("autoscaling.targetConnections", a.target_connections.into(), 1..=1_000_000);
            if let Some(percent) = a.target_cpu_utilization_percentage {
                f.range("autoscaling.targetCPUUtilizationPercentage", percent.into(), 1..=1000);
            }
            f.require(
                a.min_replicas <= a.max_replicas,
                "autoscaling.minReplicas",
                "must not be above autoscaling.maxReplicas",
            );
            f.require(
                a.target_connections <= self.limits.max_connections_per_pod,
                "autoscaling.targetConnections",
                "must not be above limits.maxConnectionsPerPod",
            );
        }
        let path = &self.endpoints.base_path;
        let segment =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b));
        let ok = path.len() <= 128 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
        f.require(
            ok,
            "endpoints.basePath",
            "must begin with '/', not end with one, and have at most 128 characters of A-Z a-z 0-9 . _ ~ -",
        );
    }

    fn check_nats(&self, f: &mut Findings) {
        let nats = &self.nats;
        let server = |url: &str| {
            let rest = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
            rest.is_some_and(|host| {
                !host.is_empty() && !host.contains(|c: char| c == '@' || c.is_whitespace())
            })
        };
        f.require(
            nats.url.len() <= 2048 && nats.url.split(',').all(server),
            "nats.url",
            "must be nats://host:port or tls://host:port, or several of them, comma-separated; credentials belong into nats.credentialsSecretRef",
        );
        let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        f.require(
            (1..=32).contains(&nats.subject_prefix.len()) && nats.subject_prefix.bytes().all(token),
            "nats.subjectPrefix",
            "must be 1 to 32 characters of a-z 0-9 _",
        );
        f.secret("nats.credentialsSecretRef", nats.credentials_secret_ref.as_ref());
        f.secret("nats.tls.caSecretRef", nats.tls.ca_secret_ref.as_ref());
        f.range("nats.stream.replicas", nats.stream.replicas.into(), 1..=5);
        f.range("nats.stream.maxAgeSeconds", nats.stream.max_age_seconds, 0..=31_536_000);
        f.range("nats.stream.maxBytes", nats.stream.max_bytes, 1_048_576..=1_099_511_627_776);
        if let Some(n) = nats.stream.max_messages_per_subject {
            f.range("nats.stream.maxMessagesPerSubject", n.into(), 1..=u32::MAX.into());
        }
    }

    fn check_auth(&self, f: &mut Findings) {
        let auth = &self.auth;
        f.count("auth.issuers", auth.issuers.len(), 1..=16);
        let mut names = HashSet::new();
        for (i, issuer) in auth.issuers.iter().enumerate() {
            check_issuer(f, &format!("auth.issuers[{i}]"), issuer);
            f.require(names.insert(&issuer.issuer), &format!("auth.issuers[{i}].issuer"), "is there twice");
        }
        f.count("auth.userIdClaims", auth.user_id_claims.len(), 1..=16);
        f.require(
            auth.user_id_claims.iter().all(|c| !c.is_empty()),
            "auth.userIdClaims",
            "must not have an empty entry",
        );
        f.length("auth.tenantClaim", &auth.tenant_claim, 1..=256);
        f.length("auth.topicsClaim", &auth.topics_claim, 1..=256);
        f.length("auth.publishClaim", &auth.publish_claim, 1..=256);
        f.length("auth.defaultTenant", &auth.default_tenant, 0..=128);
        f.require(!auth.default_tenant.starts_with('_'), "auth.defaultTenant", "must not begin with '_'");
        f.count("auth.modes", auth.modes.len(), 1..=3);
        if auth.modes.contains(&Mode::Cookie) {
            f.length("auth.cookie.name", &auth.cookie.name, 1..=128);
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&b);
            f.require(
                auth.cookie.name.bytes().all(token),
                "auth.cookie.name",
                "must be the name of a cookie: A-Z a-z 0-9 ! # $ % & ' * + . ^ _ ` | ~ -",
            );
        }
    }

    fn check_delivery(&self, f: &mut Findings) {
        f.range("token.ttlSeconds", self.token.ttl_seconds.into(), 5..=3600);
        let stream = &self.stream;
        f.range("stream.heartbeatIntervalSeconds", stream.heartbeat_interval_seconds.into(), 5..=3600);
        f.range("stream.maxLifetimeSeconds", stream.max_lifetime_seconds.into(), 0..=31_536_000);
        if let Some(ms) = stream.retry_ms {
            f.range("stream.retryMs", ms.into(), 1..=86_400_000);
        }
        let line = |text: &str| !text.is_empty() && text.len() <= 256 && !text.contains(['\r', '\n', '\0']);
        let not_a_line = "must not be empty, nor hold CR, LF or NUL, nor be longer than 256 bytes";
        f.require(line(&stream.default_event_type), "stream.defaultEventType", not_a_line);
        f.count("stream.welcomeEvents", stream.welcome_events.len(), 0..=16);
        for (i, event) in stream.welcome_events.iter().enumerate() {
            f.require(line(&event.event), &format!("stream.welcomeEvents[{i}].event"), not_a_line);
            f.length(&format!("stream.welcomeEvents[{i}].data"), &event.data, 0..=4096);
        }
        f.range("replay.maxReplayEvents", self.replay.max_replay_events.into(), 1..=10_000_000);
        f.require(
            self.replay.enabled || !self.publish.enabled,
            "publish.enabled",
            "needs replay.enabled: what is published over HTTP is acknowledged by the log",
        );
        let limits = &self.limits;
        f.range("limits.maxConnectionsPerUser", limits.max_connections_per_user.into(), 1..=100_000);
        f.range("limits.maxConnectionsPerPod", limits.max_connections_per_pod.into(), 1..=1_000_000);
        f.range("limits.connectionBufferSize", limits.connection_buffer_size.into(), 1..=100_000);
        f.range("limits.maxPayloadBytes", limits.max_payload_bytes.into(), 1..=8_388_608);
        f.range("limits.writeTimeoutSeconds", limits.write_timeout_seconds.into(), 1..=3600);
        f.range("limits.maxTopicsPerConnection", limits.max_topics_per_connection.into(), 0..=1000);
        let pattern = |text: &String| {
            let levels: Vec<&str> = text.trim().split('.').collect();
            let rest_is_last =
                levels.iter().position(|level| *level == ">").is_none_or(|at| at + 1 == levels.len());
            text.len() <= 256 && rest_is_last && !levels.contains(&"")
        };
        for (field, patterns, most) in
            [("topics.public", &self.topics.public, 256), ("topics.autoJoin", &self.topics.auto_join, 64)]
        {
            f.count(field, patterns.len(), 0..=most);
            f.require(
                patterns.iter().all(pattern),
                field,
                "must be topics such as orders.eu, orders.* or orders.>, of at most 256 characters",
            );
        }
        f.range("drain.windowSeconds", self.drain.window_seconds.into(), 0..=3600);
    }

    fn check_expose(&self, f: &mut Findings) {
        let expose = &self.expose;
        f.require(
            !expose.ingress.enabled || !expose.ingress.host.is_empty(),
            "expose.ingress.host",
            "must be set when expose.ingress.enabled is true",
        );
        f.require(
            !expose.http_route.enabled || !expose.http_route.parent_refs.is_empty(),
            "expose.httpRoute.parentRefs",
            "must be set when expose.httpRoute.enabled is true",
        );
        for (field, percent) in [
            ("telemetry.traceSamplePercent", self.telemetry.trace_sample_percent),
            ("telemetry.deliverySamplePercent", self.telemetry.delivery_sample_percent),
        ] {
            f.require((0.0..=100.0).contains(&percent.0), field, "must be from 0 to 100");
        }
    }
}

fn check_issuer(f: &mut Findings, path: &str, issuer: &Issuer) {
    f.length(&format!("{path}.issuer"), &issuer.issuer, 1..=512);
    f.require(
        issuer.jwks_uri.is_some() != issuer.key_secret_ref.is_some(),
        path,
        "needs exactly one of jwksUri and keySecretRef",
    );
    if let Some(uri) = &issuer.jwks_uri {
        let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
        let ok = |rest: &str| !rest.is_empty() && !rest.contains(|c: char| c == '@' || c.is_whitespace());
        f.require(
            uri.len() <= 2048 && rest.is_some_and(ok),
            &format!("{path}.jwksUri"),
            "must be https://… or http://…, without credentials, of at most 2048 characters",
        );
    }
    f.secret(&format!("{path}.keySecretRef"), issuer.key_secret_ref.as_ref());
    f.secret(&format!("{path}.caSecretRef"), issuer.ca_secret_ref.as_ref());
    f.count(&format!("{path}.algorithms"), issuer.algorithms.len(), 1..=12);
    let symmetric = issuer.algorithms.iter().filter(|a| a.is_symmetric()).count();
    f.require(
        symmetric == 0 || symmetric == issuer.algorithms.len(),
        &format!("{path}.algorithms"),
        "HS* algorithms can not be mixed with others on one key",
    );
    f.require(
        symmetric == 0 || issuer.jwks_uri.is_none(),
        &format!("{path}.algorithms"),
        "HS* algorithms need keySecretRef: a key set is public",
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        assert_eq!(spec.telemetry, crate::telemetry::Telemetry::default());
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
            (json!({"topics": {"public": ["a..b"]}}), "topics.public"),
            (json!({"replay": {"enabled": false}, "publish": {"enabled": true}}), "publish.enabled"),
            (json!({"topics": {"autoJoin": [">.a"]}}), "topics.autoJoin"),
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
    fn an_address_of_keys_and_a_cookie_have_names_that_can_be_used() {
        let issuer = |uri: &str| json!({"auth": {"issuers": [{"issuer": "i", "jwksUri": uri}]}});
        assert_eq!(spec(issuer("https://id.example.com/jwks.json")).validate(), []);
        for uri in
            ["", "https://", "ftp://id/jwks", "https://user:secret@id/jwks", "https://id/a b", "id/jwks"]
        {
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
}
