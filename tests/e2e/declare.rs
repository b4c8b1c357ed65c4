//! What a platform engineer does: declare, look, change, get wrong.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use sse_tests::cluster::{Namespace, apply, in_namespace, kubectl, manifest};
use sse_tests::eventually;
use sse_tests::jwt::KEY;

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_declared_and_kubectl_tells_the_truth() -> Result<()> {
    in_namespace("declare", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let pods = namespace.ready_pods("live").await?;
        ensure!(pods.len() == 2, "{pods:?}");
        let _one = namespace.client_of(&pods[0], "acme", "alice").open("").await?;
        let _two = namespace.client_of(&pods[1], "acme", "alice").open("").await?;
        let _three = namespace.client_of(&pods[1], "acme", "bob").open("").await?;
        let url = format!("http://live.{}.svc:8080/api/v1/sse", namespace.name);
        eventually("the columns", Duration::from_mins(1), || async {
            let table = kubectl(&["-n", &namespace.name, "get", "ssegateways"]).await?;
            let (head, row) = table.split_once('\n').expect("two lines");
            let columns: Vec<&str> = head.split_whitespace().collect();
            ensure!(columns == ["NAME", "READY", "REPLICAS", "CONNECTIONS", "URL", "AGE"], "{head}");
            let values: Vec<&str> = row.split_whitespace().collect();
            ensure!(values[..5] == ["live", "True", "2", "3", url.as_str()], "{row}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_is_refused_at_apply_and_the_field_is_named() -> Result<()> {
    in_namespace("refuse", async |namespace: &Namespace| {
        // What the schema says, and what a rule says; every rule is in `rules`.
        let wrong = [
            (json!({"stream": {"heartbeatIntervalSeconds": 1}}), "spec.stream.heartbeatIntervalSeconds"),
            (json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}), "spec.autoscaling.minReplicas"),
        ];
        for (patch, field) in wrong {
            let refused = apply(&manifest(&namespace.name, "wrong", patch)).await;
            let said = refused.expect_err(field).to_string();
            ensure!(said.contains(field), "{field} is not named: {said}");
        }

        // What is right passes, at the very edge, and with nulls where a value may be left out.
        let edge = json!({"replicas": 0, "autoscaling": null, "stream": {"heartbeatIntervalSeconds": 5, "retryMs": null},
            "replay": {"history": null}, "nats": {"stream": {"maxMessagesPerSubject": null}, "tls": {"caSecretRef": null}}});
        apply(&manifest(&namespace.name, &"a".repeat(40), edge)).await.map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_or_edited_by_hand_is_put_right() -> Result<()> {
    in_namespace("drift", async |namespace: &Namespace| {
        namespace.gateway("live", json!({"replicas": 1})).await?;
        comes_back(&namespace.api::<Service>(), "live").await?;
        comes_back(&namespace.api::<ServiceAccount>(), "live-gateway").await?;
        comes_back(&namespace.api::<Deployment>(), "live").await?;
        let maps = namespace.api::<ConfigMap>();
        let labels = ListParams::default().labels("app.kubernetes.io/instance=live");
        let name = maps.list(&labels).await?.items.first().expect("a ConfigMap").name_any();
        comes_back(&maps, &name).await?;

        let deployments = namespace.api::<Deployment>();
        let edit = Patch::Merge(
            json!({"spec": {"replicas": 3, "template": {"spec": {"terminationGracePeriodSeconds": 1}}}}),
        );
        deployments.patch("live", &PatchParams::default(), &edit).await?;
        eventually("the Deployment as declared", Duration::from_secs(30), || async {
            let spec = deployments.get("live").await?.spec.expect("a spec");
            let grace = spec.template.spec.expect("a pod").termination_grace_period_seconds;
            ensure!(spec.replicas == Some(1) && grace == Some(15), "{:?} {grace:?}", spec.replicas);
            Ok(())
        })
        .await?;
        namespace.wait_ready("live").await
    })
    .await
}

/// Deletes an object and waits for another of that name.
pub async fn comes_back<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let uid = api.get(name).await?.meta().uid.clone();
    api.delete(name, &DeleteParams::background()).await?;
    eventually("the object again", Duration::from_secs(30), || async {
        let again = api.get(name).await?;
        ensure!(again.meta().uid != uid && again.meta().deletion_timestamp.is_none(), "still the old one");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_never_taken_over() -> Result<()> {
    in_namespace("foreign", async |namespace: &Namespace| {
        let foreign: Service = serde_json::from_value(json!({
            "metadata": {"name": "live"}, "spec": {"ports": [{"port": 1234}], "selector": {"app": "theirs"}}}))?;
        namespace.api::<Service>().create(&PostParams::default(), &foreign).await?;
        apply(&manifest(&namespace.name, "live", json!({}))).await?;
        eventually("a word about the foreign Service", Duration::from_secs(30), || async {
            let (status, reason, message) = namespace.condition("live", "Ready").await?;
            ensure!(status == "False" && reason == "ObjectNotOurs", "{status} {reason}");
            ensure!(message.contains("Service") && message.contains("live"), "{message}");
            Ok(())
        })
        .await?;
        let service = namespace.api::<Service>().get("live").await?;
        ensure!(service.spec.expect("a spec").ports.expect("ports")[0].port == 1234, "it was changed");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_heals_when_it_appears() -> Result<()> {
    in_namespace("secret", async |namespace: &Namespace| {
        let issuer = json!({"issuer": "tests", "algorithms": ["HS256"], "keySecretRef": {"name": "late", "key": "key"}});
        let patch = json!({"replicas": 1, "auth": {"issuers": [issuer]}});
        apply(&manifest(&namespace.name, "live", patch)).await?;
        eventually("the missing secret in the status", Duration::from_mins(1), || async {
            let (status, _, message) = namespace.condition("live", "Ready").await?;
            ensure!(status == "False", "{status}");
            ensure!(message.contains("auth.issuers[0].keySecretRef: late/key"), "{message}");
            Ok(())
        })
        .await?;
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "late"}, "stringData": {"key": KEY}}))?;
        namespace.api::<Secret>().create(&PostParams::default(), &secret).await?;
        // The kubelet looks at optional secrets about once a minute.
        let resource = "ssegateway/live";
        kubectl(&["-n", &namespace.name, "wait", "--for=condition=Ready", "--timeout=150s", resource]).await?;
        namespace.client("live", "acme", "alice").await?.open("").await.map(drop)
    })
    .await
}
