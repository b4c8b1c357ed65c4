//! The rules of the schema, checked in process.
//!
//! Each finding names the field as a user wrote it. All findings are returned, not the first.

use std::collections::HashSet;

use crate::auth::{Issuer, Mode};
use crate::findings::{FieldError, Findings, web};
use crate::{MAX_NAME, SseGatewaySpec};

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
        self.check_replay(&mut findings);
        self.check_topics(&mut findings);
        self.check_expose(&mut findings);
        self.check_telemetry(&mut findings);
        self.check_pod(&mut findings);
        findings.into_list()
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
        if let Some(cert) = &nats.tls.cert_secret_ref {
            f.secret_name("nats.tls.certSecretRef.name", &cert.name);
        }
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
        f.require(!auth.user_id_claims.is_empty(), "auth.userIdClaims", "must have an entry");
        f.entries("auth.userIdClaims", &auth.user_id_claims, 16, 256);
        f.entries("auth.tagClaims", &auth.tag_claims, 16, 256);
        f.length("auth.tenantClaim", &auth.tenant_claim, 1..=256);
        f.length("auth.topicsClaim", &auth.topics_claim, 1..=256);
        f.length("auth.publishClaim", &auth.publish_claim, 1..=256);
        f.length("auth.defaultTenant", &auth.default_tenant, 0..=128);
        f.require(!auth.default_tenant.starts_with('_'), "auth.defaultTenant", "must not begin with '_'");
        f.count("auth.modes", auth.modes.len(), 1..=3);
        let shortest = usize::from(auth.modes.contains(&Mode::Cookie));
        f.length("auth.cookie.name", &auth.cookie.name, shortest..=128);
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&b);
        f.require(
            auth.cookie.name.bytes().all(token),
            "auth.cookie.name",
            "must be the name of a cookie: A-Z a-z 0-9 ! # $ % & ' * + . ^ _ ` | ~ -",
        );
    }

    fn check_delivery(&self, f: &mut Findings) {
        f.range("token.ttlSeconds", self.token.ttl_seconds.into(), 5..=3600);
        let stream = &self.stream;
        f.range("stream.heartbeatIntervalSeconds", stream.heartbeat_interval_seconds.into(), 5..=3600);
        f.range("stream.maxLifetimeSeconds", stream.max_lifetime_seconds.into(), 0..=31_536_000);
        if let Some(ms) = stream.retry_ms {
            f.range("stream.retryMs", ms.into(), 1..=86_400_000);
        }
        let line =
            |text: &str| (1..=256).contains(&text.chars().count()) && !text.contains(['\r', '\n', '\0']);
        let not_a_line = "must not be empty, nor hold CR, LF or NUL, nor be longer than 256 characters";
        f.require(line(&stream.default_event_type), "stream.defaultEventType", not_a_line);
        f.count("stream.welcomeEvents", stream.welcome_events.len(), 0..=16);
        for (i, event) in stream.welcome_events.iter().enumerate() {
            f.require(line(&event.event), &format!("stream.welcomeEvents[{i}].event"), not_a_line);
            f.length(&format!("stream.welcomeEvents[{i}].data"), &event.data, 0..=4096);
        }
        let limits = &self.limits;
        f.range("limits.maxConnectionsPerUser", limits.max_connections_per_user.into(), 1..=100_000);
        f.range("limits.maxConnectionsPerPod", limits.max_connections_per_pod.into(), 1..=1_000_000);
        f.range("limits.connectionBufferSize", limits.connection_buffer_size.into(), 1..=100_000);
        f.range("limits.maxPayloadBytes", limits.max_payload_bytes.into(), 1..=8_388_608);
        f.range("limits.writeTimeoutSeconds", limits.write_timeout_seconds.into(), 1..=3600);
        f.range("limits.maxTopicsPerConnection", limits.max_topics_per_connection.into(), 0..=1000);
        f.range("drain.windowSeconds", self.drain.window_seconds.into(), 0..=3600);
    }

    fn check_replay(&self, f: &mut Findings) {
        f.range("replay.maxReplayEvents", self.replay.max_replay_events.into(), 1..=10_000_000);
        f.require(
            self.replay.enabled || !self.publish.enabled,
            "publish.enabled",
            "needs replay.enabled: what is published over HTTP is acknowledged by the log",
        );
        f.require(
            self.replay.enabled || !self.scaling.rebalance,
            "scaling.rebalance",
            "needs replay.enabled: what comes while a client goes to another pod is read from the log",
        );
        let Some(history) = &self.replay.history else { return };
        f.require(
            self.replay.enabled,
            "replay.history",
            "needs replay.enabled: history ends where the log begins",
        );
        let level = |c: char| !c.is_whitespace() && !"*>".contains(c);
        let level = |text: &str| !text.is_empty() && text.chars().all(level);
        f.length("replay.history.subject", &history.subject, 0..=256);
        f.require(
            history.subject.is_empty() || history.subject.split('.').all(level),
            "replay.history.subject",
            "must be a subject such as history.get, without spaces, '*' and '>'",
        );
        let first = history.subject.split_once('.').map(|(first, _)| first);
        f.require(
            first.is_none_or(|first| first != self.nats.subject_prefix),
            "replay.history.subject",
            "must not begin with nats.subjectPrefix: the log would take the requests for events",
        );
        f.range("replay.history.timeoutSeconds", history.timeout_seconds.into(), 1..=60);
        f.range("replay.history.maxEvents", history.max_events.into(), 1..=1_000_000);
    }

    fn check_topics(&self, f: &mut Findings) {
        let pattern = |text: &str| {
            let levels: Vec<&str> = text.trim().split('.').collect();
            let rest_is_last =
                levels.iter().position(|level| *level == ">").is_none_or(|at| at + 1 == levels.len());
            text.chars().count() <= 256 && rest_is_last && !levels.contains(&"")
        };
        for (field, patterns, most) in
            [("topics.public", &self.topics.public, 256), ("topics.autoJoin", &self.topics.auto_join, 64)]
        {
            f.count(field, patterns.len(), 0..=most);
            for (i, text) in patterns.iter().enumerate() {
                f.require(
                    pattern(text),
                    &format!("{field}[{i}]"),
                    "must be a topic such as orders.eu, orders.* or orders.>, of at most 256 characters",
                );
            }
        }
        let origins = &self.cors.allowed_origins;
        f.entries("cors.allowedOrigins", origins, 64, 512);
        for (i, origin) in origins.iter().enumerate() {
            f.require(
                is_origin(origin),
                &format!("cors.allowedOrigins[{i}]"),
                "must be an origin as browsers send it: https://host or http://host:8080, in lower case, without '*', a path or a default port",
            );
        }
    }

    fn check_expose(&self, f: &mut Findings) {
        if !self.tls.secret_name.is_empty() {
            f.secret_name("tls.secretName", &self.tls.secret_name);
        }
        let expose = &self.expose;
        f.map("expose.service.annotations", &expose.service.annotations);
        f.length("expose.ingress.className", &expose.ingress.class_name, 0..=253);
        f.length("expose.ingress.host", &expose.ingress.host, 0..=253);
        f.length("expose.ingress.tlsSecretName", &expose.ingress.tls_secret_name, 0..=253);
        f.map("expose.ingress.annotations", &expose.ingress.annotations);
        f.count("expose.httpRoute.parentRefs", expose.http_route.parent_refs.len(), 0..=64);
        f.entries("expose.httpRoute.hostnames", &expose.http_route.hostnames, 16, 253);
        f.map("expose.httpRoute.annotations", &expose.http_route.annotations);
        f.count("networkPolicy.metricsFrom", self.network_policy.metrics_from.len(), 0..=64);
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
        let url = &self.console.trace_url;
        f.require(
            url.is_empty()
                || url.chars().count() <= 2048 && web(url).is_some_and(|rest| rest.contains("{traceId}")),
            "console.traceUrl",
            "must be https://… or http://… with {traceId} in it, without '@', of at most 2048 characters",
        );
    }

    fn check_telemetry(&self, f: &mut Findings) {
        let telemetry = &self.telemetry;
        let endpoint = &telemetry.otlp_endpoint;
        f.require(
            endpoint.is_empty() || endpoint.chars().count() <= 2048 && web(endpoint).is_some(),
            "telemetry.otlpEndpoint",
            "must be https://… or http://…, without credentials, of at most 2048 characters",
        );
        f.secret("telemetry.otlpHeadersSecretRef", telemetry.otlp_headers_secret_ref.as_ref());
        f.secret("telemetry.caSecretRef", telemetry.ca_secret_ref.as_ref());
        f.map("telemetry.podMonitor.labels", &telemetry.pod_monitor.labels);
        for (field, percent) in [
            ("telemetry.traceSamplePercent", telemetry.trace_sample_percent),
            ("telemetry.deliverySamplePercent", telemetry.delivery_sample_percent),
        ] {
            f.require((0.0..=100.0).contains(&percent.0), field, "must be from 0 to 100");
        }
    }

    fn check_pod(&self, f: &mut Findings) {
        let pod = &self.pod;
        f.length("pod.image", pod.image.as_deref().unwrap_or_default(), 0..=512);
        f.length("pod.priorityClassName", pod.priority_class_name.as_deref().unwrap_or_default(), 0..=253);
        for (field, map) in [
            ("pod.labels", &pod.labels),
            ("pod.annotations", &pod.annotations),
            ("pod.nodeSelector", &pod.node_selector),
            ("pod.serviceAccountAnnotations", &pod.service_account_annotations),
        ] {
            f.map(field, map);
        }
        for (field, length) in [
            ("pod.imagePullSecrets", pod.image_pull_secrets.len()),
            ("pod.tolerations", pod.tolerations.len()),
            ("pod.topologySpreadConstraints", pod.topology_spread_constraints.len()),
            ("pod.env", pod.env.len()),
        ] {
            f.count(field, length, 0..=64);
        }
    }
}

fn check_issuer(f: &mut Findings, path: &str, issuer: &Issuer) {
    f.length(&format!("{path}.issuer"), &issuer.issuer, 1..=512);
    f.entries(&format!("{path}.audiences"), &issuer.audiences, 16, 512);
    f.require(
        issuer.jwks_uri.is_some() != issuer.key_secret_ref.is_some(),
        path,
        "needs exactly one of jwksUri and keySecretRef",
    );
    if let Some(uri) = &issuer.jwks_uri {
        f.require(
            uri.chars().count() <= 2048 && web(uri).is_some(),
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

/// Whether it can be what a browser sends as `Origin`: it is compared as it stands, and else never matches.
fn is_origin(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-:[]".contains(&b);
    let default = if text.starts_with("https:") { ":443" } else { ":80" };
    web(text).is_some_and(|authority| authority.bytes().all(plain) && !authority.ends_with(default))
}
