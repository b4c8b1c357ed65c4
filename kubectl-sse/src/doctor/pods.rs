//! What is seen of the pods: how they run, what they say of themselves, and what the NATS server told them.

mod complaint;
mod ended;

use std::collections::BTreeSet;

use anyhow::Result;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};
use sse_crds::SseGateway;

use super::finding::Finding;
use crate::cluster::{Cluster, answered, namespace_of, wanted};
use crate::report::{self, Report, Seen};

/// Pods that are asked at once.
const AT_ONCE: usize = 16;
/// How far back logs count, in seconds, and how many lines of them.
const LOGS: (i64, i64) = (600, 2000);
/// Clocks may differ by this much, in seconds: more, and a gateway refuses JWTs.
const SKEW: i64 = 10;

/// What was seen.
#[derive(Default)]
pub struct Pods {
    pub looked: Vec<Looked>,
    /// Why they could not be listed.
    unlisted: Option<String>,
    /// Why there is no pod, as the API server told whoever would make it.
    not_made: Option<String>,
    pub skipped: Vec<String>,
}

/// A pod.
pub struct Looked {
    pod: Pod,
    /// Its own word, or why there is none.
    seen: Result<Seen, String>,
    /// What the NATS server did not permit, as its log tells; or why that can not be read.
    denied: Result<Vec<String>, String>,
}

impl Pods {
    /// The clock of a pod, or else ours.
    pub fn clock(&self) -> Timestamp {
        let clocks = self.looked.iter().filter_map(|looked| looked.seen.as_ref().ok()?.clocks);
        let skew = clocks.map(|(theirs, ours)| theirs.duration_since(ours)).next().unwrap_or_default();
        Timestamp::now().checked_add(skew).unwrap_or(Timestamp::MAX)
    }
}

pub async fn look(cluster: &Cluster, gateway: &SseGateway) -> Pods {
    let namespace = namespace_of(gateway);
    let pods = match cluster.pods(gateway).await {
        Ok(pods) => pods,
        // Those of other gateways may be listed all the same.
        Err(error) => return Pods { unlisted: Some(format!("{error:#}")), ..Pods::default() },
    };
    let pods = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let looks = stream::iter(pods.map(|pod| look_at(cluster, &namespace, pod)));
    let mut seen = Pods { looked: looks.buffered(AT_ONCE).collect().await, ..Pods::default() };
    if seen.looked.is_empty() && wanted(&gateway.spec) > 0 {
        let failed = ListParams::default().fields("type=Warning,reason=FailedCreate");
        match answered("the events", cluster.api::<Event>(&namespace).list(&failed)).await {
            Ok(events) => {
                let prefix = format!("{}-", gateway.name_any());
                let of_ours = |event: &&Event| {
                    event.involved_object.name.as_ref().is_some_and(|name| name.starts_with(&prefix))
                };
                seen.not_made = events.items.iter().filter(of_ours).find_map(|event| event.message.clone());
            }
            Err(error) => seen.skipped.push(format!("{error:#}")),
        }
    }
    let unread = seen.looked.iter().find_map(|looked| looked.denied.as_ref().err());
    seen.skipped.extend(unread.map(|error| format!("logs of the pods: {error}")));
    seen
}

async fn look_at(cluster: &Cluster, namespace: &str, pod: Pod) -> Looked {
    let name = pod.name_any();
    let seen =
        report::examine(&cluster.admin_door(namespace, &name)).await.map_err(|error| error.to_string());
    let parameters =
        LogParams { since_seconds: Some(LOGS.0), tail_lines: Some(LOGS.1), ..LogParams::default() };
    let denied = if seen.is_ok() {
        let log = answered("the log", cluster.api::<Pod>(namespace).logs(&name, &parameters)).await;
        log.map(|log| denied(&log)).map_err(|error| format!("{error:#}"))
    } else {
        // It may not even have begun.
        Ok(Vec::new())
    };
    Looked { pod, seen, denied }
}

/// What a NATS server did not permit, once for each operation and subject.
fn denied(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.to_lowercase().contains("permissions violation"));
    let told = lines.map(|line| {
        let fields: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        fields["error"].as_str().unwrap_or(line).to_owned()
    });
    told.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Clocks that are apart from ours.
pub fn clock(seen: &Pods) -> Vec<Finding> {
    let skewed = |looked: &Looked| {
        let (theirs, ours) = looked.seen.as_ref().ok()?.clocks?;
        let ahead = theirs.as_second() - ours.as_second();
        let which = if ahead > 0 { "ahead of" } else { "behind" };
        let what = format!("its clock is {} s {which} this machine's", ahead.abs());
        let field = format!("pod {}", looked.pod.name_any());
        (ahead.abs() > SKEW).then(|| {
            Finding::warning("ClockSkew", field, what)
                .because(
                    "JWTs and tokens are refused, or live too long, when clocks differ by more than 10 s",
                )
                .so("have the nodes, the issuer and this machine follow NTP")
        })
    };
    seen.looked.iter().filter_map(skewed).collect()
}

/// What is wrong with the pods.
pub fn findings(gateway: &SseGateway, seen: &Pods) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(error) = &seen.unlisted {
        found.push(
            Finding::warning("PodUnreadable", "pods", error.clone())
                .because("what they know of themselves is not in this answer")
                .so("ask for the right to get and list pods of this namespace"),
        );
        return found;
    }
    if seen.looked.is_empty() && wanted(&gateway.spec) > 0 {
        let why = seen.not_made.clone().unwrap_or_else(|| "no event tells why".into());
        found.push(
            Finding::error("NoPod", "spec.pod", format!("there is no pod: {why}"))
                .because("nobody is served")
                .so("mend what the message names: a quota, a policy, or the operator itself"),
        );
    }
    for looked in &seen.looked {
        let field = format!("pod {}", looked.pod.name_any());
        if let Some(finding) = does_not_run(&looked.pod, &field) {
            found.push(finding);
            continue;
        }
        found.extend(ended::recently(&looked.pod, &field, Timestamp::now()));
        match &looked.seen {
            Ok(seen) => found.extend(said(gateway, seen, looked.denied.as_deref().unwrap_or_default())),
            Err(error) => found.push(
                Finding::warning("PodUnreadable", field, format!("its admin port was not read: {error}"))
                    .because("what it knows of itself is not in this answer")
                    .so("ask again; see whether you may `kubectl port-forward` to it, and its logs"),
            ),
        }
    }
    found
}

/// What keeps a pod from running at all.
fn does_not_run(pod: &Pod, field: &str) -> Option<Finding> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers.clone().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some((container.image.clone(), waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
    });
    if let Some((image, reason, message)) = waiting {
        let finding = match reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => Finding::error(
                "ImageNotPulled",
                "spec.pod.image",
                format!("{image} ({reason}) {message}"),
            )
            .because("the pod does not start; those of before go on, if there are any")
            .so("look at name, tag and registry; spec.pod.imagePullSecrets, where it asks for a login"),
            "CrashLoopBackOff" => {
                Finding::error("PodCrashes", field, ended::with(pod, &format!("{reason}: {message}")))
                    .because("it is started again and again, and its streams are cut each time")
                    .so("kubectl logs --previous tells its last words")
            }
            "ContainerCreating" | "PodInitializing" => return None,
            _ => Finding::error("PodNotStarted", field, format!("{reason}: {message}"))
                .because("the pod does not start")
                .so("kubectl describe pod tells more"),
        };
        return Some(finding);
    }
    let mut conditions = status.conditions.iter().flatten();
    let scheduled =
        conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let what = scheduled.message.clone().unwrap_or_default();
    Some(
        Finding::error("PodNotScheduled", field, what)
            .because("the pod waits for a node")
            .so("add nodes, or ask for less: spec.pod.resources, nodeSelector, affinity, tolerations"),
    )
}

/// What a pod that answers says of itself.
fn said(gateway: &SseGateway, seen: &Seen, denied: &[String]) -> Vec<Finding> {
    let mut found = complaint::of(&seen.report, &gateway.namespace().unwrap_or_default());
    found.extend(nats(gateway, &seen.report, denied));
    let most = u64::from(gateway.spec.limits.max_connections_per_pod);
    if let Some(limit) = seen.limit.filter(|limit| *limit < most) {
        let what = format!("is {most}, but the pod's open-file limit leaves room for {limit} streams");
        found.push(
            Finding::warning("OpenFileLimit", "spec.limits.maxConnectionsPerPod", what)
                .because("each stream is a file: beyond the limit clients get 503, while an autoscaler still counts on room")
                .so("raise the limit of the container runtime on the nodes (LimitNOFILE), or lower the field and have more pods"),
        );
    }
    found
}

fn nats(gateway: &SseGateway, report: &Report, denied: &[String]) -> Vec<Finding> {
    let is_away = report.nats.connected == Some(false);
    let mut told = report.warnings.iter().filter(|warning| warning.reason == complaint::PERMISSION);
    // What an older gateway does not tell by itself stands in its log.
    let said = told.next().map(|warning| warning.message.clone());
    if let Some(said) = said.or_else(|| (!denied.is_empty()).then(|| denied.join("; "))) {
        let what = format!("the server told a pod: {said}");
        let finding = if is_away { Finding::error } else { Finding::warning };
        return vec![
            finding("NatsPermission", "spec.nats.credentialsSecretRef", what)
                .because("without its permissions a gateway can not read the log, keep tokens, or tell of dead letters")
                .so("grant the gateway's user what the README of the chart lists, for this prefix and this name"),
        ];
    }
    let problem_tells = report.problems.iter().any(|problem| complaint::is_of_nats(&problem.reason));
    if !is_away || problem_tells || !report.missing_secrets.is_empty() {
        return Vec::new();
    }
    let error = report.nats.last_error.clone().unwrap_or_else(|| "no error was told".into());
    let url = &gateway.spec.nats.url;
    if error.contains("nats.tls.") {
        return vec![
            Finding::error("NatsTls", "spec.nats.tls", error)
                .because("no event comes in, and no handshake is served")
                .so("name the authority that signed the server's certificate, and the client's certificate where the server asks for one"),
        ];
    }
    if error.contains("authorization violation") || error.contains("nats.credentialsSecretRef") {
        return vec![
            Finding::error("NatsCredentials", "spec.nats.credentialsSecretRef", error)
                .because("the server does not let the gateway in")
                .so("put credentials of this server's account into the secret; the pods find them by themselves"),
        ];
    }
    vec![
        Finding::error("NatsUnreachable", "spec.nats.url", format!("{url}: {error}"))
            .because("no event comes in, and no handshake is served; open streams stay")
            .so("look at the name and the port, whether the server runs, and whether a network policy is in between"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::finding::Severity;
    use super::*;

    fn gateway() -> SseGateway {
        serde_json::from_value(json!({
            "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway",
            "metadata": {"name": "live", "namespace": "shop"},
            "spec": {"nats": {"url": "nats://nats"}, "auth": {"issuers": []}},
        }))
        .expect("a gateway")
    }

    fn pods(status: &Value, seen: Result<(Value, Option<u64>), &str>, log: &str) -> Pods {
        let pod = json!({"metadata": {"name": "live-a"}, "status": status});
        let seen = seen.map_err(str::to_owned).map(|(report, limit)| Seen {
            report: serde_json::from_value(report).expect("a report"),
            clocks: None,
            limit,
        });
        let pod = serde_json::from_value(pod).expect("a pod");
        Pods { looked: vec![Looked { pod, seen, denied: Ok(denied(log)) }], ..Pods::default() }
    }

    fn codes(pods: &Pods) -> Vec<&'static str> {
        findings(&gateway(), pods).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_pod_that_is_well_has_nothing_to_tell() {
        let report = json!({"nats": {"connected": true}});
        assert_eq!(codes(&pods(&json!({}), Ok((report, Some(15_000))), "{}\nno")), [""; 0]);
    }

    #[test]
    fn why_nats_is_away_is_told_apart() {
        let away = |error: &str| json!({"nats": {"connected": false, "lastError": error}});
        let log = r#"{"level":"WARN","error":"permissions violation for publish to \"$JS.API\""}"#;
        for (error, log, code) in [
            ("IO error: Connection refused", "", "NatsUnreachable"),
            ("nats.tls.caSecretRef: ca/ca.crt: UnknownIssuer", "", "NatsTls"),
            ("nats.credentialsSecretRef: a/b: authorization violation", "", "NatsCredentials"),
            ("timed out", log, "NatsPermission"),
        ] {
            assert_eq!(codes(&pods(&json!({}), Ok((away(error), None)), log)), [code], "{error}");
        }
        let permission = json!({"reason": "NatsPermission", "message": "nats.credentialsSecretRef: a/b: no"});
        for (connected, severity) in [(true, Severity::Warning), (false, Severity::Error)] {
            let report =
                json!({"nats": {"connected": connected, "lastError": "no"}, "warnings": [permission]});
            let found = findings(&gateway(), &pods(&json!({}), Ok((report, None)), log));
            let found: Vec<_> = found.iter().map(|finding| (finding.code, finding.severity)).collect();
            assert_eq!(found, [("NatsPermission", severity)]);
        }
    }

    #[test]
    fn a_lower_cap_and_a_log_that_cannot_be_read_are_told() {
        let report = json!({"nats": {"connected": true}});
        assert_eq!(codes(&pods(&json!({}), Ok((report, Some(660))), "")), ["OpenFileLimit"]);
        assert_eq!(codes(&pods(&json!({}), Err("no"), "")), ["PodUnreadable"]);
    }

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        let waiting = |reason: &str| {
            json!({"containerStatuses": [{"name": "gateway", "image": "x", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}]})
        };
        for (reason, code) in [
            ("ImagePullBackOff", "ImageNotPulled"),
            ("CrashLoopBackOff", "PodCrashes"),
            ("CreateContainerConfigError", "PodNotStarted"),
        ] {
            assert_eq!(codes(&pods(&waiting(reason), Err("no"), "")), [code]);
        }
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False"}]});
        assert_eq!(codes(&pods(&unscheduled, Err("no"), "")), ["PodNotScheduled"]);
        assert_eq!(codes(&Pods::default()), ["NoPod"]);
        let unlisted = Pods { unlisted: Some("forbidden".into()), ..Pods::default() };
        assert_eq!(codes(&unlisted), ["PodUnreadable"], "there may be pods");
    }

    #[test]
    fn a_clock_that_is_apart_is_told() {
        let mut pods = pods(&json!({}), Ok((json!({}), None)), "");
        let at = |second| Timestamp::from_second(second).expect("a time");
        for (theirs, expected) in [(1000, 0), (1010, 0), (1011, 1), (989, 1)] {
            pods.looked[0].seen.as_mut().expect("seen").clocks = Some((at(theirs), at(1000)));
            assert_eq!(clock(&pods).len(), expected, "{theirs}");
        }
    }
}
