//! `kubectl sse status`: gateways, their pods, connections and NATS, as a tree or as JSON.
//!
//! What the operator says is in the resource; what the pods say is asked of each of them now.

use std::process::ExitCode;

use anyhow::Result;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;
use sse_crds::SseGateway;

use crate::arguments::{self, Output};
use crate::cluster::{Cluster, namespace_of, serves};
use crate::report::{self, Report, Stream};
use crate::say::{self, Node, Paint, tame};

/// Gateways that are looked at at once, and pods of each.
const AT_ONCE: (usize, usize) = (4, 16);

/// A gateway, as it was seen.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    namespace: String,
    name: String,
    url: Option<String>,
    generation: Option<i64>,
    rolled_out: bool,
    conditions: Vec<Condition>,
    connections: Option<u64>,
    stream: Option<Stream>,
    pods: Vec<SeenPod>,
    /// Why the pods could not be listed.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SeenPod {
    name: String,
    ready: bool,
    terminating: bool,
    /// What it says of itself.
    report: Option<Report>,
    /// Why it could not be asked.
    error: Option<String>,
}

/// # Errors
///
/// When the API server does not answer, or there is no gateway.
pub async fn run(cluster: &Cluster, arguments: &arguments::Status) -> Result<ExitCode> {
    let gateways = cluster.gateways(arguments.name.as_deref(), arguments.all_namespaces).await?;
    let looks = stream::iter(gateways.iter().map(|gateway| look(cluster, gateway)));
    let seen: Vec<Seen> = looks.buffered(AT_ONCE.0).collect().await;
    match arguments.output {
        Output::Json => say::out(&serde_json::to_string_pretty(&seen)?)?,
        Output::Text => {
            let trees: Vec<_> = seen.iter().map(|seen| tree(seen, Paint::of_output()).render()).collect();
            say::out(&trees.join("\n\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(cluster: &Cluster, gateway: &SseGateway) -> Seen {
    let namespace = namespace_of(gateway);
    let (pods, error) = match cluster.pods(gateway).await {
        Ok(pods) => (pods, None),
        // Those of other gateways may be listed all the same.
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let pods = stream::iter(pods.iter().map(|pod| ask(cluster, &namespace, pod)));
    let pods: Vec<SeenPod> = pods.buffered(AT_ONCE.1).collect().await;
    let status = gateway.status.clone().unwrap_or_default();
    let counts: Vec<u64> = reports(&pods).filter_map(|report| report.connections).collect();
    // The pod that is furthest knows the most of the log.
    let streams = reports(&pods).filter_map(|report| report.stream.clone());
    Seen {
        rolled_out: rolled_out(gateway),
        name: gateway.name_any(),
        namespace,
        url: status.url,
        generation: gateway.metadata.generation,
        conditions: status.conditions,
        connections: (!counts.is_empty()).then(|| counts.iter().sum()),
        stream: streams.max_by_key(|stream| stream.last_sequence),
        pods,
        error,
    }
}

fn reports(pods: &[SeenPod]) -> impl Iterator<Item = &Report> {
    pods.iter().filter_map(|pod| pod.report.as_ref())
}

async fn ask(cluster: &Cluster, namespace: &str, pod: &Pod) -> SeenPod {
    let name = pod.name_any();
    let (report, error) = match report::read(&cluster.admin_door(namespace, &name)).await {
        Ok(report) => (Some(report), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let terminating = pod.metadata.deletion_timestamp.is_some();
    SeenPod { name, ready: serves(pod), terminating, report, error }
}

/// Whether the operator has seen the present spec, and every pod is of it.
fn rolled_out(gateway: &SseGateway) -> bool {
    let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    let mut progressing = conditions.filter(|condition| condition.type_ == "Progressing");
    progressing.any(|condition| {
        condition.reason == "RolledOut" && condition.observed_generation == gateway.metadata.generation
    })
}

fn tree(seen: &Seen, paint: Paint) -> Node {
    let condition = |kind: &str| seen.conditions.iter().find(|condition| condition.type_ == kind);
    let ready = condition("Ready");
    let state = match ready {
        Some(ready) if ready.status == "True" => paint.good("Ready"),
        Some(ready) => paint.bad(&format!("not ready: {}", tame(&ready.reason))),
        None => paint.odd("no operator has looked at it yet"),
    };
    let name = format!("{}/{}", seen.namespace, seen.name);
    let mut root = Node::new(format!("{}  {state}", paint.strong(&name)));
    if let Some(ready) = ready.filter(|ready| ready.status != "True") {
        root.add(paint.bad(&tame(&ready.message)));
    }
    let mut line = |label: &str, text: &str| {
        root.add(format!("{} {text}", paint.faint(&format!("{label:<11}"))));
    };
    line("url", seen.url.as_deref().unwrap_or("not known yet"));
    line("generation", &generation(seen, condition("Progressing")));
    line("connections", &seen.connections.map_or_else(|| "not known".into(), |count| count.to_string()));
    for pod in &seen.pods {
        add_pod(&mut root, pod, paint);
    }
    if let Some(error) = &seen.error {
        root.add(paint.bad(&tame(error)));
    } else if seen.pods.is_empty() {
        root.add(paint.odd("no pod"));
    }
    if let Some(stream) = &seen.stream {
        let epoch = stream.epoch.as_deref().unwrap_or("not known");
        let facts = format!("stream {}  last event {}, epoch {epoch}", stream.name, stream.last_sequence);
        root.add(facts);
    }
    root
}

fn generation(seen: &Seen, progressing: Option<&Condition>) -> String {
    let number = seen.generation.unwrap_or_default();
    match progressing {
        _ if seen.rolled_out => format!("{number}, rolled out"),
        Some(progressing) if progressing.observed_generation == seen.generation => {
            format!("{number}, {}: {}", progressing.reason, tame(&progressing.message))
        }
        _ => format!("{number}, which no operator has looked at yet"),
    }
}

fn add_pod(root: &mut Node, pod: &SeenPod, paint: Paint) {
    let state = match (pod.terminating, pod.ready) {
        (true, _) => paint.odd("going"),
        (false, true) => paint.good("ready"),
        (false, false) => paint.bad("not ready"),
    };
    let Some(report) = &pod.report else {
        let error = pod.error.as_deref().unwrap_or_default();
        let pod = root.add(format!("pod {}  {state}", pod.name));
        pod.add(paint.bad(&tame(error)));
        return;
    };
    let nats = match report.nats.connected {
        Some(true) => "NATS connected".to_owned(),
        Some(false) => paint.bad("NATS not connected"),
        None => paint.odd("NATS not known"),
    };
    let count = report.connections.map_or_else(|| "?".into(), |count| count.to_string());
    let mut facts = vec![format!("{count} connections"), nats];
    facts.extend(report.stream.as_ref().map(|stream| format!("lag {}", stream.lag)));
    facts.extend(report.draining.then(|| paint.odd("draining")));
    facts.extend(report.version.as_ref().map(|version| paint.faint(&format!("v{}", tame(version)))));
    let node = root.add(format!("pod {}  {state}, {}", pod.name, facts.join(", ")));
    for secret in &report.missing_secrets {
        node.add(paint.bad(&format!("missing secret {}", tame(secret))));
    }
    for problem in &report.problems {
        node.add(paint.bad(&format!("{}: {}", tame(&problem.reason), tame(&problem.message))));
    }
    for warning in &report.warnings {
        node.add(paint.odd(&format!("{}: {}", tame(&warning.reason), tame(&warning.message))));
    }
    let why = report.nats.last_error.as_ref().filter(|error| {
        report.nats.connected == Some(false)
            && report.problems.iter().all(|problem| problem.message != **error)
    });
    if let Some(error) = why {
        node.add(paint.bad(&tame(error)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(conditions: &serde_json::Value, pods: Vec<SeenPod>) -> Seen {
        let mut conditions = conditions.clone();
        for condition in conditions.as_array_mut().expect("an array") {
            condition["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
        }
        Seen {
            namespace: "shop".into(),
            name: "live".into(),
            url: Some("https://live.example.com/api/v1/sse".into()),
            generation: Some(3),
            rolled_out: false,
            conditions: serde_json::from_value(conditions).expect("conditions"),
            connections: Some(5),
            stream: Some(Stream { name: "SSE_sse".into(), epoch: None, last_sequence: 7, lag: 0 }),
            pods,
            error: None,
        }
    }

    fn pod(report: &serde_json::Value) -> SeenPod {
        SeenPod {
            name: "live-a".into(),
            ready: false,
            terminating: false,
            report: serde_json::from_value(report.clone()).expect("a report"),
            error: None,
        }
    }

    #[test]
    fn a_gateway_that_is_well_takes_a_line_for_each_thing() {
        let conditions = json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]);
        let mut good = pod(&json!({"connections": 5, "version": "0.1.0", "nats": {"connected": true},
            "stream": {"name": "SSE_sse", "lag": 2}}));
        good.ready = true;
        let mut seen = seen(&conditions, vec![good]);
        seen.rolled_out = true;
        let expected = "shop/live  Ready
├─ url         https://live.example.com/api/v1/sse
├─ generation  3, rolled out
├─ connections 5
├─ pod live-a  ready, 5 connections, NATS connected, lag 2, v0.1.0
└─ stream SSE_sse  last event 7, epoch not known";
        assert_eq!(tree(&seen, Paint::plain()).render(), expected);
    }

    #[test]
    fn what_is_wrong_stands_where_it_belongs() {
        let conditions = json!([
            {"type": "Ready", "status": "False", "reason": "MissingSecret", "message": "create it"},
            {"type": "Progressing", "status": "True", "reason": "RollingOut", "message": "0 of 2", "observedGeneration": 3},
        ]);
        let bad = pod(
            &json!({"missingSecrets": ["auth.x: jwt/key"], "nats": {"connected": false, "lastError": "refused"},
            "problems": [{"reason": "StreamOwned", "message": "nats.stream"}]}),
        );
        let silent = SeenPod { report: None, error: Some("no answer".into()), ..pod(&json!({})) };
        let text = tree(&seen(&conditions, vec![bad, silent]), Paint::plain()).render();
        for part in [
            "not ready: MissingSecret\n├─ create it",
            "3, RollingOut: 0 of 2",
            "│  ├─ missing secret auth.x: jwt/key\n│  ├─ StreamOwned: nats.stream\n│  └─ refused",
            "│  └─ no answer",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
    #[test]
    fn pods_that_may_not_be_listed_are_a_line_of_their_gateway() {
        let mut seen = seen(&json!([]), vec![]);
        assert!(tree(&seen, Paint::plain()).render().contains("├─ no pod\n"));
        seen.error = Some("the pods can not be read: forbidden".into());
        let text = tree(&seen, Paint::plain()).render();
        assert!(
            text.contains("├─ the pods can not be read: forbidden\n") && !text.contains("no pod"),
            "{text}"
        );
    }
}
