//! Who owns what: a log has one gateway, a gateway its children, a namespace all of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, PostParams};
use serde_json::json;
use sse_tests::cluster::{Namespace, RELEASE, SYSTEM, alone_in_namespace, apply, kubectl, manifest, prefix};
use sse_tests::eventually;
use sse_tests::jwt::KEY;

use super::operator::{OPERATOR, leader, operators_ready, versions};

#[tokio::test(flavor = "multi_thread")]
async fn gateways_live_side_by_side_and_a_log_has_one_owner() -> Result<()> {
    alone_in_namespace("side", async |one: &Namespace| {
        let name = format!("{}-b", one.name);
        kubectl(&["create", "namespace", &name]).await?;
        let two = Namespace { name, client: one.client.clone() };
        let outcome = side_by_side(one, &two).await;
        kubectl(&["delete", "namespace", &two.name, "--wait=false"]).await?;
        outcome
    })
    .await
}

async fn side_by_side(one: &Namespace, two: &Namespace) -> Result<()> {
    let key: Secret =
        serde_json::from_value(json!({"metadata": {"name": "jwt"}, "stringData": {"key": KEY}}))?;
    two.api::<Secret>().create(&PostParams::default(), &key).await?;
    let single = json!({"replicas": 1});
    // Its ServiceAccount must not be taken for the one that every namespace has.
    one.gateway("default", single.clone()).await?;
    two.gateway("live", single.clone()).await?;
    // The log of the first gateway, by its prefix.
    apply(&manifest(&one.name, "second", single)).await?;
    eventually("the owner of the log named", Duration::from_mins(1), || async {
        let (status, reason, message) = one.condition("second", "Ready").await?;
        ensure!(status == "False" && reason == "StreamOwned", "{status} {reason} {message}");
        ensure!(message.contains("default"), "{message}");
        Ok(())
    })
    .await?;
    one.wait_ready("default").await?;
    // Its own log, and it is well.
    let other = json!({"spec": {"nats": {"subjectPrefix": format!("{}_2", prefix(&two.name))}}});
    kubectl(&["-n", &one.name, "delete", "ssegateway", "second"]).await?;
    let mut third = manifest(&one.name, "third", json!({"replicas": 1}));
    sse_tests::process::merge(&mut third, other);
    apply(&third).await?;
    one.wait_ready("third").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_deleted_without_an_operator_takes_all_its_children_along() -> Result<()> {
    alone_in_namespace("orphan", async |namespace: &Namespace| {
        namespace.gateway("live", json!({"replicas": 1})).await?;
        ensure!(versions(namespace).await?.len() >= 4, "{:?}", versions(namespace).await?);
        let deployment = format!("deployment/{RELEASE}");
        kubectl(&["-n", SYSTEM, "scale", &deployment, "--replicas=0"]).await?;
        let outcome = async {
            kubectl(&["-n", SYSTEM, "wait", "--for=delete", "pod", "-l", OPERATOR, "--timeout=60s"]).await?;
            kubectl(&["-n", &namespace.name, "delete", "ssegateway", "live"]).await?;
            eventually("no child", Duration::from_mins(1), || async {
                let mut left = versions(namespace).await?;
                left.retain(|name, _| !name.starts_with("Event/"));
                let pods = namespace.api::<Pod>().list(&ListParams::default()).await?;
                ensure!(left.is_empty() && pods.items.is_empty(), "{left:?}, {} pods", pods.items.len());
                Ok(())
            })
            .await
        }
        .await;
        kubectl(&["-n", SYSTEM, "scale", &deployment, "--replicas=2"]).await?;
        operators_ready().await?;
        outcome
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_deleted_without_a_warning() -> Result<()> {
    alone_in_namespace("gone", async |namespace: &Namespace| {
        let name = format!("{}-b", namespace.name);
        kubectl(&["create", "namespace", &name]).await?;
        apply(&manifest(&name, "live", json!({"replicas": 0}))).await?;
        let there = Namespace { name: name.clone(), client: namespace.client.clone() };
        there.resting("live").await?;
        kubectl(&["delete", "namespace", &name, "--timeout=90s"]).await?;
        // What the operator does after it has seen all of that.
        apply(&manifest(&namespace.name, "after", json!({"replicas": 0}))).await?;
        namespace.resting("after").await?;
        let logs = kubectl(&["-n", SYSTEM, "logs", &leader(namespace).await?]).await?;
        let told: Vec<_> =
            logs.lines().filter(|line| line.contains(&name) && line.contains("WARN")).collect();
        ensure!(told.is_empty(), "{told:?}");
        Ok(())
    })
    .await
}
