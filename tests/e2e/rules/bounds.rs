//! The bounds that users meet most, each with the nearest values on both sides.

use serde_json::{Value, json};

use super::Pair;
use super::pairs::pair;

pub fn bounds() -> Vec<Pair> {
    [numbers(), sizes(), patterns(), choices()].into_iter().flatten().collect()
}

/// A pair of values of one field.
fn bound(place: &'static str, keyword: &'static str, message: &'static str, values: [Value; 2]) -> Pair {
    let patch = |value| place.rsplit('.').fold(value, |below, name| json!({ name: below }));
    let [refused, passes] = values.map(patch);
    Pair { place, rule: keyword, field: place, message, refused, passes }
}

/// Bounds of numbers.
fn numbers() -> Vec<Pair> {
    let least = [
        ("spec.replicas", 0),
        ("spec.autoscaling.minReplicas", 1),
        ("spec.autoscaling.targetConnections", 1),
        ("spec.autoscaling.targetCPUUtilizationPercentage", 1),
        ("spec.nats.stream.replicas", 1),
        ("spec.nats.stream.maxBytes", 1_048_576),
        ("spec.nats.stream.maxMessagesPerSubject", 1),
        ("spec.token.ttlSeconds", 5),
        ("spec.stream.heartbeatIntervalSeconds", 5),
        ("spec.stream.retryMs", 1),
        ("spec.replay.maxReplayEvents", 1),
        ("spec.replay.history.timeoutSeconds", 1),
        ("spec.limits.maxConnectionsPerUser", 1),
        ("spec.limits.connectionBufferSize", 1),
        ("spec.limits.maxPayloadBytes", 1),
        ("spec.limits.writeTimeoutSeconds", 1),
    ]
    .map(|(place, n)| {
        bound(place, "minimum", "should be greater than or equal to", [json!(n - 1), json!(n)])
    });
    let most = [
        ("spec.replicas", 1000),
        ("spec.nats.stream.replicas", 5),
        ("spec.nats.stream.maxAgeSeconds", 31_536_000),
        ("spec.nats.stream.maxBytes", 1_099_511_627_776_u64),
        ("spec.token.ttlSeconds", 3600),
        ("spec.limits.maxConnectionsPerPod", 1_000_000),
        ("spec.limits.maxPayloadBytes", 8_388_608),
        ("spec.limits.maxTopicsPerConnection", 1000),
        ("spec.drain.windowSeconds", 3600),
        ("spec.telemetry.traceSamplePercent", 100),
    ]
    .map(|(place, n)| bound(place, "maximum", "should be less than or equal to", [json!(n + 1), json!(n)]));
    least.into_iter().chain(most).collect()
}

/// Bounds of texts and lists.
fn sizes() -> Vec<Pair> {
    let text = |n: usize| json!("a".repeat(n));
    let welcomes = |n: usize| json!(vec![json!({"event": "a"}); n]);
    vec![
        bound("spec.stream.defaultEventType", "minLength", "should be at least 1 chars", [text(0), text(1)]),
        bound("spec.stream.defaultEventType", "maxLength", "Too long", [text(257), json!("é".repeat(256))]),
        bound("spec.nats.subjectPrefix", "maxLength", "Too long", [text(33), text(32)]),
        bound("spec.stream.welcomeEvents", "maxItems", "at most 16 items", [welcomes(17), welcomes(16)]),
        bound("spec.auth.modes", "minItems", "at least 1 items", [json!([]), json!(["Bearer"])]),
        bound("spec.auth.userIdClaims", "minItems", "at least 1 items", [json!([]), json!(["sub"])]),
    ]
}

/// Forms of texts.
fn patterns() -> Vec<Pair> {
    let mut pairs: Vec<_> = [
        ("spec.nats.url", "http://nats", "nats://nats"),
        ("spec.nats.url", "nats://user:secret@nats", "nats://a:4222,tls://b:4222"),
        ("spec.nats.subjectPrefix", "a.b", "a_b"),
        ("spec.nats.subjectPrefix", "A", "a"),
        ("spec.endpoints.basePath", "/", "/a"),
        ("spec.endpoints.basePath", "/a/", "/a/b"),
        ("spec.endpoints.basePath", "a", "/.well-known/sse"),
        ("spec.stream.defaultEventType", "a\nb", "a b"),
        ("spec.auth.cookie.name", "a b", "__Host-a"),
        ("spec.replay.history.subject", "history.*", "history.get"),
        ("spec.replay.history.subject", "history..get", ""),
        ("spec.tls.secretName", "Cert", "cert"),
        ("spec.telemetry.otlpEndpoint", "collector:4317", "http://collector:4317"),
    ]
    .into_iter()
    .map(|(place, bad, good)| bound(place, "pattern", "should match", [json!(bad), json!(good)]))
    .collect();
    let public = ["spec.topics.public[]", "pattern"];
    let topics = |topic: &str| json!({"topics": {"public": ["a", topic]}});
    for (bad, good) in [("a..b", "a.b"), ("a.>.b", "a.b.>")] {
        pairs.push(pair(public, "spec.topics.public[1]", "should match", [topics(bad), topics(good)]));
    }
    let origin = |origin: &str| json!({"cors": {"allowedOrigins": [origin]}});
    let origins = ["spec.cors.allowedOrigins[]", "pattern"];
    for (bad, good) in [("https://a/", "https://a"), ("*", "http://localhost:3000")] {
        pairs.push(pair(origins, "spec.cors.allowedOrigins[0]", "should match", [origin(bad), origin(good)]));
    }
    pairs
}

/// Closed choices: a user is told all of them.
fn choices() -> Vec<Pair> {
    let mode = |mode: &str| json!({"auth": {"modes": [mode]}});
    let mut pairs = vec![pair(
        ["spec.auth.modes[]", "enum"],
        "spec.auth.modes[0]",
        r#"supported values: "Token", "Bearer", "Cookie""#,
        [mode("Query"), mode("Token")],
    )];
    let fields = [
        ("spec.nats.stream.storage", r#""File", "Memory""#, "Tape", "Memory"),
        ("spec.stream.heartbeatMode", r#""Comment", "Event""#, "comment", "Comment"),
        ("spec.limits.overflowPolicy", r#""CatchUp", "DropOldest", "Disconnect""#, "Drop", "DropOldest"),
        (
            "spec.expose.service.type",
            r#""ClusterIP", "NodePort", "LoadBalancer""#,
            "ExternalName",
            "NodePort",
        ),
        ("spec.telemetry.otlpProtocol", r#""grpc", "http""#, "http/protobuf", "http"),
        ("spec.logging.level", r#""error", "warn", "info", "debug", "trace""#, "warning", "warn"),
        ("spec.logging.format", r#""json", "text""#, "logfmt", "text"),
        ("spec.pod.imagePullPolicy", r#""Always", "IfNotPresent", "Never""#, "always", "Always"),
    ];
    pairs.extend(fields.map(|(place, all, bad, good)| bound(place, "enum", all, [json!(bad), json!(good)])));
    pairs
}
