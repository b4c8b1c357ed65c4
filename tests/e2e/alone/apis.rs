//! APIs that a cluster may lack: found when they come, missed when they go.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use sse_tests::cluster::{Namespace, alone_in_namespace, apply, kubectl, manifest};
use sse_tests::eventually;
use sse_tests::pages::documented;
use sse_tests::pages::shell::Shell;

use crate::children::{CALMLY, SOON, stays_quiet};
use crate::declare::comes_back;

/// A definition under the real group and kind, whose schema fills in defaults where the real one does.
fn definition(group: &str, kind: &str, spec: &Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let annotations = if group.ends_with(".k8s.io") {
        json!({"api-approved.kubernetes.io": "unapproved, a test's own"})
    } else {
        json!({})
    };
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": annotations},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": singular, "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

fn http_route_definition() -> Value {
    let open = |properties: Value| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": properties});
    let list = |items: Value| json!({"type": "array", "x-kubernetes-list-type": "atomic", "items": items});
    let text = |default: &str| json!({"type": "string", "default": default});
    let parent = open(json!({"group": text("gateway.networking.k8s.io"), "kind": text("Gateway")}));
    let backend = open(json!({
        "group": text(""), "kind": text("Service"), "weight": {"type": "integer", "format": "int32", "default": 1},
    }));
    let path = json!({"type": "object", "default": {"type": "PathPrefix", "value": "/"},
        "properties": {"type": text("PathPrefix"), "value": text("/")}});
    let rule = open(json!({"matches": list(open(json!({"path": path}))), "backendRefs": list(backend)}));
    let spec = open(
        json!({"parentRefs": list(parent), "rules": list(rule), "hostnames": list(json!({"type": "string"}))}),
    );
    definition("gateway.networking.k8s.io", "HTTPRoute", &spec)
}

fn pod_monitor_definition() -> Value {
    let spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    definition("monitoring.coreos.com", "PodMonitor", &spec)
}

const DEFINITIONS: [&str; 2] = ["httproutes.gateway.networking.k8s.io", "podmonitors.monitoring.coreos.com"];

async fn remove_definitions() -> Result<()> {
    kubectl(&[&["delete", "crd", "--ignore-not-found"], &DEFINITIONS[..]].concat()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_comes_and_goes_is_found_and_missed_without_a_restart() -> Result<()> {
    alone_in_namespace("apis", async |namespace: &Namespace| {
        // What an earlier, broken run may have left.
        remove_definitions().await?;
        let result = come_and_go(namespace).await;
        remove_definitions().await?;
        result
    })
    .await
}

async fn come_and_go(namespace: &Namespace) -> Result<()> {
    let route = json!({
        "enabled": true, "hostnames": ["live.example.com"], "parentRefs": [{"name": "public", "sectionName": "https"}],
    });
    let monitor = json!({"enabled": true, "labels": {"release": "prometheus"}});
    let spec = json!({"expose": {"httpRoute": route}, "telemetry": {"podMonitor": monitor}});
    apply(&manifest(&namespace.name, "live", spec)).await?;
    misses(namespace, "spec.expose.httpRoute", "install the Gateway API").await?;

    apply(&http_route_definition()).await?;
    misses(namespace, "spec.telemetry.podMonitor", "install the Prometheus operator").await?;
    apply(&pod_monitor_definition()).await?;
    eventually("a gateway with both", CALMLY, || async {
        let (status, reason, message) = namespace.condition("live", "Ready").await?;
        ensure!(status == "True", "{reason} {message}");
        Ok(())
    })
    .await?;
    let kinds = [
        ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute")),
        ApiResource::from_gvk(&GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PodMonitor")),
    ];
    let [routes, monitors] = kinds
        .each_ref()
        .map(|kind| Api::<DynamicObject>::namespaced_with(namespace.client.clone(), &namespace.name, kind));
    let route = routes.get("live").await?;
    ensure!(route.data["spec"]["rules"][0]["timeouts"]["request"] == "0s", "{:?}", route.data);
    let monitor = monitors.get("live").await?;
    ensure!(monitor.data["spec"]["podMetricsEndpoints"][0]["port"] == "admin", "{:?}", monitor.data);
    ensure!(monitor.metadata.labels.context("labels")?["release"] == "prometheus");
    let url = namespace.api::<sse_crds::SseGateway>().get("live").await?.status.and_then(|status| status.url);
    ensure!(url.as_deref() == Some("https://live.example.com/api/v1/sse"), "{url:?}");
    stays_quiet(namespace, &kinds, 10, Duration::from_secs(40)).await?;
    runbook(namespace).await?;

    // Their watches began when the APIs came.
    comes_back(&routes, "live").await?;
    comes_back(&monitors, "live").await?;
    let edit = Patch::Merge(json!({"spec": {"hostnames": ["other.example.com"]}}));
    routes.patch("live", &PatchParams::default(), &edit).await?;
    eventually("the route as declared", SOON, || async {
        let hosts = routes.get("live").await?.data["spec"]["hostnames"].clone();
        ensure!(hosts == json!(["live.example.com"]), "{hosts}");
        Ok(())
    })
    .await?;

    // One is switched off; the API of the other goes.
    namespace.patch("live", json!({"telemetry": {"podMonitor": {"enabled": false}}})).await?;
    eventually("the monitor gone", SOON, || async {
        ensure!(monitors.get_opt("live").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    remove_definitions().await?;
    misses(namespace, "spec.expose.httpRoute", "install the Gateway API").await?;
    // Nothing else stands still for it.
    comes_back(&namespace.api::<Service>(), "live").await?;
    apply(&manifest(&namespace.name, "other", json!({"replicas": 0}))).await?;
    eventually("the children of another gateway", SOON, || async {
        Ok(namespace.api::<Deployment>().get("other").await.map(drop)?)
    })
    .await?;
    let off = json!({"expose": {"httpRoute": {"enabled": false}}});
    let generation = namespace.patch("live", off).await?;
    namespace.rolled_out("live", generation).await
}

/// What the runbook looks at when Prometheus has no series is there, by these commands.
async fn runbook(namespace: &Namespace) -> Result<()> {
    let shell = Shell::of(&documented(file!())?)?.with("NAMESPACE", &namespace.name).with("GATEWAY", "live");
    let told = shell.run().await?.printed;
    // The gateway, its monitor, and its policy.
    ensure!(told.matches(&namespace.name).count() >= 3 && told.contains("port: 9090"), "{told}");
    Ok(())
}

/// Waits until the status names the field, says what to do, and the pods serve all the same.
async fn misses(namespace: &Namespace, field: &str, remedy: &str) -> Result<()> {
    eventually("a word about the missing API", CALMLY, || async {
        let (available, ..) = namespace.condition("live", "Available").await?;
        let (ready, reason, message) = namespace.condition("live", "Ready").await?;
        ensure!((available.as_str(), ready.as_str()) == ("True", "False"), "{available} {ready} {message}");
        ensure!(
            reason == "MissingApi" && message.starts_with(field) && message.contains(remedy),
            "{reason} {message}"
        );
        Ok(())
    })
    .await
}
