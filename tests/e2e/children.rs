//! The objects that a gateway is made of besides its pods: each comes, changes and goes with the spec,
//! is put right when someone else changes it, and is left alone when nothing changes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sse_tests::cluster::{Namespace, SYSTEM, apply, in_namespace, manifest};
use sse_tests::eventually;
use tokio::time::{Instant, sleep};

use super::declare::comes_back;

/// The operator looks at each gateway at least every 15 seconds, at a missing API every 30.
pub const SOON: Duration = Duration::from_secs(30);
pub const CALMLY: Duration = Duration::from_secs(90);

/// Everything that needs no definitions of others.
fn everything() -> Value {
    json!({
        "autoscaling": {"minReplicas": 3, "maxReplicas": 4, "targetConnections": 5000, "targetCPUUtilizationPercentage": 80},
        "expose": {"ingress": {"enabled": true, "host": "live.example.com", "tlsSecretName": "cert"}},
    })
}

/// The object `live` as JSON; null when there is none.
async fn live<K>(namespace: &Namespace) -> Result<Value>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    K::DynamicType: Default,
{
    Ok(serde_json::to_value(namespace.api::<K>().get_opt("live").await?)?)
}

async fn is_gone<K>(namespace: &Namespace) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    K::DynamicType: Default,
{
    eventually("the child gone", SOON, || async {
        ensure!(live::<K>(namespace).await?.is_null(), "{} is there", std::any::type_name::<K>());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn children_come_change_and_go_with_the_spec() -> Result<()> {
    in_namespace("children", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let deployment = live::<Deployment>(namespace).await?;
        ensure!(deployment["spec"]["minReadySeconds"] == 7, "{deployment}");
        let headless = namespace.api::<Service>().get("live-headless").await?.spec.context("a spec")?;
        ensure!(headless.cluster_ip.as_deref() == Some("None"), "{headless:?}");
        ensure!(live::<PodDisruptionBudget>(namespace).await?["spec"]["maxUnavailable"] == 1);
        let policy = live::<NetworkPolicy>(namespace).await?;
        let peer = &policy["spec"]["ingress"][1]["from"][0];
        let system = &peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
        ensure!(system == SYSTEM, "{policy}");
        let component = &peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"];
        ensure!(component == "operator", "{policy}");
        ensure!(live::<Ingress>(namespace).await?.is_null());
        ensure!(live::<HorizontalPodAutoscaler>(namespace).await?.is_null());

        // On: the autoscaler itself raises the replicas to its least.
        let generation = namespace.patch("live", everything()).await?;
        replicas(namespace, 3).await?;
        namespace.rolled_out("live", generation).await?;
        ensure!(!operator_sets_replicas(namespace).await?, "the replicas are still the operator's");
        let ingress = live::<Ingress>(namespace).await?;
        ensure!(ingress["spec"]["tls"][0]["secretName"] == "cert", "{ingress}");
        let gateway = namespace.api::<sse_crds::SseGateway>().get("live").await?;
        let url = gateway.status.and_then(|status| status.url);
        ensure!(url.as_deref() == Some("https://live.example.com/api/v1/sse"), "{url:?}");

        // Changed, and what is no longer wanted of them goes.
        let peers = json!([{"podSelector": {"matchLabels": {"app": "prometheus"}}}]);
        let changed = json!({
            "networkPolicy": {"metricsFrom": peers},
            "expose": {"ingress": {"host": "other.example.com", "tlsSecretName": "", "annotations": {"a": "b"}}},
            "autoscaling": {"maxReplicas": 7, "targetCPUUtilizationPercentage": null},
        });
        namespace.patch("live", changed).await?;
        eventually("the children as changed", SOON, || async {
            let ingress = live::<Ingress>(namespace).await?;
            ensure!(ingress["spec"]["rules"][0]["host"] == "other.example.com", "{ingress}");
            ensure!(ingress["spec"]["tls"].is_null() && ingress["metadata"]["annotations"]["a"] == "b", "{ingress}");
            let policy = live::<NetworkPolicy>(namespace).await?;
            ensure!(policy["spec"]["ingress"][1]["from"][1] == peers[0], "{policy}");
            let autoscaler = live::<HorizontalPodAutoscaler>(namespace).await?;
            ensure!(autoscaler["spec"]["maxReplicas"] == 7, "{autoscaler}");
            ensure!(autoscaler["spec"]["metrics"].as_array().is_some_and(|metrics| metrics.len() == 1), "{autoscaler}");
            Ok(())
        })
        .await?;

        // Off: the replicas are the spec's again.
        let off = json!({
            "replicas": 1, "autoscaling": null,
            "expose": {"ingress": {"enabled": false}}, "networkPolicy": {"enabled": false},
        });
        let generation = namespace.patch("live", off).await?;
        namespace.rolled_out("live", generation).await?;
        is_gone::<HorizontalPodAutoscaler>(namespace).await?;
        is_gone::<Ingress>(namespace).await?;
        is_gone::<NetworkPolicy>(namespace).await?;
        is_gone::<PodDisruptionBudget>(namespace).await?;
        replicas(namespace, 1).await?;
        ensure!(operator_sets_replicas(namespace).await?, "the replicas are nobody's");
        let generation = namespace.patch("live", json!({"replicas": 2})).await?;
        replicas(namespace, 2).await?;
        namespace.rolled_out("live", generation).await
    })
    .await
}

async fn replicas(namespace: &Namespace, wanted: i32) -> Result<()> {
    eventually("the replicas", Duration::from_mins(1), || async {
        let replicas = namespace.api::<Deployment>().get("live").await?.spec.and_then(|spec| spec.replicas);
        ensure!(replicas == Some(wanted), "{replicas:?}");
        Ok(())
    })
    .await
}

async fn operator_sets_replicas(namespace: &Namespace) -> Result<bool> {
    let fields = namespace.api::<Deployment>().get("live").await?.metadata.managed_fields.unwrap_or_default();
    let ours = fields.iter().filter(|entry| entry.manager.as_deref() == Some("sse-operator"));
    Ok(ours.filter_map(|entry| entry.fields_v1.as_ref()).any(|f| f.0.pointer("/f:spec/f:replicas").is_some()))
}

#[tokio::test(flavor = "multi_thread")]
async fn any_child_deleted_or_edited_by_hand_is_put_right() -> Result<()> {
    in_namespace("hands", async |namespace: &Namespace| {
        namespace.gateway("live", everything()).await?;
        comes_back(&namespace.api::<Service>(), "live-headless").await?;
        comes_back(&namespace.api::<PodDisruptionBudget>(), "live").await?;
        comes_back(&namespace.api::<NetworkPolicy>(), "live").await?;
        comes_back(&namespace.api::<Ingress>(), "live").await?;
        comes_back(&namespace.api::<HorizontalPodAutoscaler>(), "live").await?;

        edited::<PodDisruptionBudget>(namespace, "/spec/maxUnavailable", json!("100%")).await?;
        edited::<NetworkPolicy>(namespace, "/spec/ingress", json!([{}])).await?;
        edited::<Ingress>(namespace, "/spec/rules/0/http/paths/0/path", json!("/other")).await?;
        let buffering = "/metadata/annotations/nginx.ingress.kubernetes.io~1proxy-buffering";
        edited::<Ingress>(namespace, buffering, json!("on")).await?;
        edited::<HorizontalPodAutoscaler>(namespace, "/spec/maxReplicas", json!(100)).await?;
        edited::<Deployment>(namespace, "/spec/minReadySeconds", json!(0)).await?;
        // What others add and the operator does not name stays theirs.
        let add = Patch::Merge(json!({"metadata": {"annotations": {"theirs": "stays"}}}));
        namespace.api::<Ingress>().patch("live", &PatchParams::default(), &add).await?;
        edited::<Ingress>(namespace, "/spec/rules/0/host", json!("other.example.com")).await?;
        ensure!(live::<Ingress>(namespace).await?["metadata"]["annotations"]["theirs"] == "stays");
        Ok(())
    })
    .await
}

/// Replaces a value by hand, and waits for the one of before.
async fn edited<K>(namespace: &Namespace, path: &str, value: Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
    K::DynamicType: Default,
{
    let before = live::<K>(namespace).await?.pointer(path).cloned();
    ensure!(before.is_some() && before.as_ref() != Some(&value), "{path}: {before:?}");
    let patch = serde_json::from_value(json!([{"op": "replace", "path": path, "value": value}]))?;
    namespace.api::<K>().patch("live", &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
    eventually("the value as planned", SOON, || async {
        let now = live::<K>(namespace).await?.pointer(path).cloned();
        ensure!(now == before, "{path}: {now:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_of_someone_else_is_told_left_alone_and_holds_up_no_pod() -> Result<()> {
    in_namespace("theirs", async |namespace: &Namespace| {
        let backend = json!({"service": {"name": "theirs", "port": {"number": 80}}});
        let theirs: Ingress = serde_json::from_value(
            json!({"metadata": {"name": "live"}, "spec": {"defaultBackend": backend}}),
        )?;
        let theirs = namespace.api::<Ingress>().create(&PostParams::default(), &theirs).await?;
        let ingress = json!({"enabled": true, "host": "live.example.com"});
        apply(&manifest(&namespace.name, "live", json!({"expose": {"ingress": ingress}}))).await?;
        eventually("pods, and a word about the Ingress", Duration::from_mins(1), || async {
            let (available, ..) = namespace.condition("live", "Available").await?;
            let (ready, reason, message) = namespace.condition("live", "Ready").await?;
            ensure!((available.as_str(), ready.as_str()) == ("True", "False"), "{available} {ready}");
            ensure!(reason == "ObjectNotOurs" && message.starts_with("Ingress "), "{reason} {message}");
            Ok(())
        })
        .await?;
        namespace.patch("live", json!({"expose": {"ingress": {"enabled": false}}})).await?;
        namespace.wait_ready("live").await?;
        let now = namespace.api::<Ingress>().get("live").await?;
        ensure!(now.metadata.resource_version == theirs.metadata.resource_version, "it was touched");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_gateway_causes_no_write_for_two_minutes() -> Result<()> {
    in_namespace("quiet", async |namespace: &Namespace| {
        namespace.gateway("live", everything()).await?;
        stays_quiet(namespace, &[], 10, Duration::from_mins(2)).await
    })
    .await
}

/// Watches all objects of the namespace's gateway, which are so many, for writes, once it has settled.
pub async fn stays_quiet(
    namespace: &Namespace,
    others: &[ApiResource],
    objects: usize,
    time: Duration,
) -> Result<()> {
    // Until the controllers of Kubernetes have told all of a rollout.
    eventually("a settled gateway", Duration::from_mins(1), || async {
        let before = versions(namespace, others).await?;
        sleep(Duration::from_secs(8)).await;
        ensure!(versions(namespace, others).await? == before, "still changing");
        Ok(())
    })
    .await?;
    let before = versions(namespace, others).await?;
    ensure!(before.len() == objects, "{before:#?}");
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_secs(5)).await;
        let now = versions(namespace, others).await?;
        let changed: Vec<_> =
            now.iter().filter(|(key, version)| before.get(*key) != Some(*version)).collect();
        ensure!(changed.is_empty() && now.len() == before.len(), "written: {changed:#?}");
    }
    Ok(())
}

/// When the operator last wrote to each object; and the version of those that nobody else writes to.
async fn versions(namespace: &Namespace, others: &[ApiResource]) -> Result<BTreeMap<String, String>> {
    let kind = |group: &str, version: &str, kind: &str| {
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    };
    // Kubernetes itself tells in their status how their pods are.
    let shared = ["Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"];
    let kinds = [
        kind("", "v1", "ConfigMap"),
        kind("", "v1", "Service"),
        kind("", "v1", "ServiceAccount"),
        kind("apps", "v1", "Deployment"),
        kind("autoscaling", "v2", "HorizontalPodAutoscaler"),
        kind("networking.k8s.io", "v1", "Ingress"),
        ApiResource { plural: "networkpolicies".into(), ..kind("networking.k8s.io", "v1", "NetworkPolicy") },
        kind("policy", "v1", "PodDisruptionBudget"),
        kind("ssegateway.io", "v1alpha1", "SseGateway"),
    ];
    let lists = try_join_all(kinds.iter().chain(others).map(async |kind| {
        let api = Api::<DynamicObject>::namespaced_with(namespace.client.clone(), &namespace.name, kind);
        Ok::<_, kube::Error>((kind.kind.clone(), api.list(&ListParams::default()).await?.items))
    }))
    .await?;
    let mut versions = BTreeMap::new();
    for (kind, objects) in lists {
        for object in objects {
            let fields = object.metadata.managed_fields.unwrap_or_default();
            let ours =
                fields.iter().filter(|entry| entry.manager.as_deref().is_some_and(|m| m.starts_with("sse-")));
            let times: Vec<_> =
                ours.map(|entry| format!("{:?} {:?}", entry.subresource, entry.time)).collect();
            if times.is_empty() {
                continue;
            }
            let version = object.metadata.resource_version.filter(|_| !shared.contains(&kind.as_str()));
            let name = object.metadata.name.unwrap_or_default();
            versions.insert(format!("{kind} {name}"), format!("{version:?} {times:?}"));
        }
    }
    Ok(versions)
}
