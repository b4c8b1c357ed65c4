//! What a dashboard of the operators shows is so: who leads, how many gateways are ready, what fails.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::cluster::{Namespace, SYSTEM, alone_in_namespace, apply, manifest, prefix};
use sse_tests::eventually;

use super::operator::{leader, metric, operators, operators_ready, taken_over};

const LOOKS: &str = "sse_operator_reconcile_duration_seconds_count";
const NOT_OURS: &str = "sse_operator_reconcile_errors_total{reason=\"object_not_ours\"}";

/// Gateways that are ready, and that are not, as an operator counts them.
async fn counted(namespace: &Namespace, operator: &str) -> Result<(u64, u64)> {
    Ok((
        metric(namespace, operator, "sse_operator_gateways{ready=\"true\"}").await?,
        metric(namespace, operator, "sse_operator_gateways{ready=\"false\"}").await?,
    ))
}

/// The same as the API server has them, in all namespaces.
async fn declared(namespace: &Namespace) -> Result<(u64, u64)> {
    let gateways = Api::<SseGateway>::all(namespace.client.clone()).list(&ListParams::default()).await?;
    let is_ready = |gateway: &&SseGateway| {
        let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let ready = gateways.iter().filter(is_ready).count();
    Ok((u64::try_from(ready)?, u64::try_from(gateways.items.len() - ready)?))
}

/// Waits until the leader counts what there is; returns that.
async fn agreed(namespace: &Namespace, leader: &str) -> Result<(u64, u64)> {
    eventually("a true count of the gateways", Duration::from_secs(20), || async {
        let (declared, counted) = (declared(namespace).await?, counted(namespace, leader).await?);
        ensure!(declared == counted, "there are {declared:?}, {leader} counts {counted:?}");
        Ok(counted)
    })
    .await
}

/// One operator says that it leads, the one that holds the Lease; the others count no gateway.
async fn one_leads(namespace: &Namespace) -> Result<String> {
    let leader = leader(namespace).await?;
    let all = operators(namespace).await?;
    ensure!(all.len() == 2 && all.contains(&leader), "{leader} of {all:?}");
    for operator in all {
        let leads = metric(namespace, &operator, "sse_operator_leader").await?;
        ensure!(leads == u64::from(operator == leader), "{operator} says {leads}, {leader} leads");
        ensure!(leads == 1 || counted(namespace, &operator).await? == (0, 0), "{operator} counts gateways");
    }
    Ok(leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_count_what_there_is_and_what_fails_and_one_of_them_leads() -> Result<()> {
    alone_in_namespace("dashboard", async |namespace: &Namespace| {
        operators_ready().await?;
        let old = eventually("one leader of two", Duration::from_secs(30), || one_leads(namespace)).await?;
        let errors = metric(namespace, &old, NOT_OURS).await?;
        let looks = metric(namespace, &old, LOOKS).await?;

        let prefix = format!("{}_late", prefix(&namespace.name));
        let unready = json!({"replicas": 1, "nats": {"subjectPrefix": prefix}, "auth": {"issuers": [{"issuer": "https://late.test",
            "algorithms": ["HS256"], "keySecretRef": {"name": "late", "key": "key"}}]}});
        apply(&manifest(&namespace.name, "late", unready)).await?;
        namespace.gateway("live", json!({"replicas": 1})).await?;
        eventually("the missing secret in the status", Duration::from_mins(1), || async {
            let (status, reason, message) = namespace.condition("late", "Ready").await?;
            ensure!(status == "False" && message.contains("late/key"), "{status} {reason} {message}");
            Ok(())
        })
        .await?;
        let (ready, unready) = agreed(namespace, &old).await?;
        ensure!(ready >= 1 && unready >= 1, "{ready} ready, {unready} not");
        ensure!(
            metric(namespace, &old, "sse_operator_rollouts").await? >= 1,
            "late has no pod that is ready"
        );
        ensure!(metric(namespace, &old, LOOKS).await? >= looks + 2, "two gateways were looked at");
        ensure!(metric(namespace, &old, NOT_OURS).await? == errors, "nothing failed");

        // A Service of someone else's where the gateway's own would be.
        let service: Service = serde_json::from_value(
            json!({"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 80}]}}),
        )?;
        namespace.api::<Service>().create(&PostParams::default(), &service).await?;
        apply(&manifest(&namespace.name, "taken", json!({"replicas": 1}))).await?;
        eventually("the error counted", Duration::from_secs(30), || async {
            let now = metric(namespace, &old, NOT_OURS).await?;
            ensure!(now > errors, "{now}");
            Ok(())
        })
        .await?;

        for name in ["late", "live", "taken"] {
            namespace.api::<SseGateway>().delete(name, &DeleteParams::default()).await?;
        }
        eventually("no gateway any more", Duration::from_secs(30), || async {
            let left = namespace.api::<SseGateway>().list(&ListParams::default()).await?.items.len();
            ensure!(left == 0, "{left} left");
            Ok(())
        })
        .await?;
        let (ready_now, unready_now) = agreed(namespace, &old).await?;
        println!("gateways ready and not: {:?}, and {:?} after", (ready, unready), (ready_now, unready_now));
        ensure!(ready_now < ready && unready_now < unready, "{ready_now} ready, {unready_now} not");
        eventually("no rollout any more", Duration::from_secs(30), || async {
            let rollouts = metric(namespace, &old, "sse_operator_rollouts").await?;
            ensure!(rollouts == 0, "{rollouts}");
            Ok(())
        })
        .await?;

        // Another leads, and counts on.
        apply(&manifest(&namespace.name, "zero", json!({"replicas": 0}))).await?;
        namespace.resting("zero").await?;
        let pods = Api::<Pod>::namespaced(namespace.client.clone(), SYSTEM);
        pods.delete(&old, &DeleteParams::default()).await?;
        taken_over(namespace, std::slice::from_ref(&old), 1).await?;
        operators_ready().await?;
        let new = eventually("one leader of two", Duration::from_secs(30), || one_leads(namespace)).await?;
        let (_, unready) = agreed(namespace, &new).await?;
        ensure!(new != old && unready >= 1, "{new} counts {unready}");
        let waiting = metric(namespace, &new, "sse_operator_rollouts_waiting").await?;
        ensure!(waiting == 0, "{waiting} wait, and none has a new image");
        Ok(())
    })
    .await
}
