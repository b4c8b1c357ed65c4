//! What a spec asks for that works, and will hurt: found before users find it.

use crate::auth::Mode;
use crate::{FieldError, SseGatewaySpec};

/// Seconds of silence after which common proxies (nginx, ALB, Heroku's router) end a connection.
const PROXY_PATIENCE: u32 = 60;
/// Seconds for which a token that stands in a log may be used, at most, before that is worth a word.
const LONG_TOKEN: u32 = 120;
/// Seconds in which a client hardly gets to the end of a page.
const SHORT_LIFE: u32 = 60;

impl SseGatewaySpec {
    /// Every field whose value is allowed and seldom meant, and what comes of it.
    #[must_use]
    pub fn advice(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut add = |hurts: bool, field: &str, message: &str| {
            if hurts {
                found.push(FieldError { field: field.into(), message: message.into() });
            }
        };
        let (stream, auth) = (&self.stream, &self.auth);
        add(
            stream.heartbeat_interval_seconds >= PROXY_PATIENCE,
            "stream.heartbeatIntervalSeconds",
            "many proxies end a connection that was silent for 60 s: stay below, or every quiet stream reconnects",
        );
        add(
            (1..SHORT_LIFE).contains(&stream.max_lifetime_seconds),
            "stream.maxLifetimeSeconds",
            "each client reconnects more often than once a minute",
        );
        add(
            self.token.ttl_seconds > LONG_TOKEN,
            "token.ttlSeconds",
            "a token stands in URLs, which proxies log: seconds are enough for the way from one request to the next",
        );
        add(
            self.drain.window_seconds == 0,
            "drain.windowSeconds",
            "all clients of a pod come back at the same time when it is replaced",
        );
        add(
            self.limits.max_connections_per_user > self.limits.max_connections_per_pod,
            "limits.maxConnectionsPerUser",
            "is above limits.maxConnectionsPerPod: one user can fill a pod",
        );
        for (i, issuer) in auth.issuers.iter().enumerate() {
            add(
                issuer.audiences.is_empty(),
                &format!("auth.issuers[{i}].audiences"),
                "is empty: credentials that this issuer made for any other service are accepted",
            );
            add(
                issuer.jwks_uri.as_deref().is_some_and(is_readable),
                &format!("auth.issuers[{i}].jwksUri"),
                "http:// lets whoever is on the way put in keys of their own",
            );
        }
        for (i, origin) in self.cors.allowed_origins.iter().enumerate() {
            add(
                is_readable(origin),
                &format!("cors.allowedOrigins[{i}]"),
                "pages over http:// can be changed on the way, and act for their users here",
            );
        }
        add(
            auth.modes == [Mode::Bearer],
            "auth.modes",
            "a native EventSource can not send a header: without Token or Cookie only fetch clients can connect",
        );
        add(
            self.replay.history.as_ref().is_some_and(|history| history.subject.is_empty()),
            "replay.history.subject",
            "is empty: nobody is asked for history",
        );
        add(
            !self.replay.enabled && self.replicas > 0,
            "replay.enabled",
            "false: what comes while a client reconnects is lost to it, and events have no ids",
        );
        add(
            self.autoscaling.is_some() && self.replay.enabled && !self.scaling.rebalance,
            "scaling.rebalance",
            "false: pods that autoscaling adds get new clients alone, and those that were full stay so",
        );
        found
    }
}

/// Whether what goes there and back is readable on its way; not to this machine.
fn is_readable(url: &str) -> bool {
    let host = url.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    host.is_some_and(|host| !["localhost", "127.0.0.1"].contains(&host))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn advised(patch: &Value) -> Vec<String> {
        let mut spec = json!({
            "nats": {"url": "nats://nats:4222"},
            "auth": {"issuers": [{"issuer": "a", "audiences": ["live"], "jwksUri": "https://a/keys"}]},
        });
        merge(&mut spec, patch);
        let spec: SseGatewaySpec = serde_json::from_value(spec).expect("a spec");
        assert!(spec.validate().is_empty(), "{:?}", spec.validate());
        spec.advice().into_iter().map(|advice| advice.field).collect()
    }

    fn merge(into: &mut Value, patch: &Value) {
        match (into, patch) {
            (Value::Object(into), Value::Object(patch)) => {
                patch
                    .iter()
                    .for_each(|(key, value)| merge(into.entry(key.clone()).or_insert(Value::Null), value));
            }
            (into, patch) => *into = patch.clone(),
        }
    }

    #[test]
    fn defaults_need_no_advice() {
        assert_eq!(advised(&json!({})), [""; 0]);
    }

    #[test]
    fn each_thing_that_will_hurt_is_named() {
        let cases = [
            (json!({"stream": {"heartbeatIntervalSeconds": 60}}), "stream.heartbeatIntervalSeconds"),
            (json!({"stream": {"maxLifetimeSeconds": 59}}), "stream.maxLifetimeSeconds"),
            (json!({"token": {"ttlSeconds": 121}}), "token.ttlSeconds"),
            (json!({"drain": {"windowSeconds": 0}}), "drain.windowSeconds"),
            (
                json!({"limits": {"maxConnectionsPerUser": 9, "maxConnectionsPerPod": 8}}),
                "limits.maxConnectionsPerUser",
            ),
            (
                json!({"auth": {"issuers": [{"issuer": "a", "jwksUri": "https://a/keys"}]}}),
                "auth.issuers[0].audiences",
            ),
            (
                json!({"auth": {"issuers": [{"issuer": "a", "audiences": ["x"], "jwksUri": "http://a/keys"}]}}),
                "auth.issuers[0].jwksUri",
            ),
            (
                json!({"cors": {"allowedOrigins": ["http://localhost:3000", "http://app.example"]}}),
                "cors.allowedOrigins[1]",
            ),
            (json!({"auth": {"modes": ["Bearer"]}}), "auth.modes"),
            (json!({"replay": {"history": {}}}), "replay.history.subject"),
            (json!({"replay": {"enabled": false}}), "replay.enabled"),
            (json!({"autoscaling": {}}), "scaling.rebalance"),
        ];
        for (patch, field) in cases {
            assert_eq!(advised(&patch), [field], "{patch}");
        }
    }
}
