//! What is killed or changed under connected clients: pods, the operator, NATS, the spec. A client
//! that comes back with its cursor has every acknowledged event, once and in order.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join;
use k8s_openapi::api::core::v1::Service;
use kube::api::DeleteParams;
use serde_json::json;
use sse_tests::cluster::{Namespace, PEACE, RELEASE, SYSTEM, in_namespace, kubectl, outside, prefix};
use sse_tests::eventually;

const EVENTS: usize = 600;

/// Publishes while `disturb` goes on, and follows one user through it.
async fn nothing_is_lost<F>(namespace: &Namespace, disturb: F) -> Result<()>
where
    F: AsyncFnOnce(&str) -> Result<()>,
{
    let pods = namespace.ready_pods("live").await?;
    let mut stream = namespace.client_of(&pods[0], "acme", "alice").open("").await?;
    stream.until_raw("\nid: ", Duration::from_secs(10)).await?;
    let text = String::from_utf8_lossy(&stream.raw).into_owned();
    let cursor = text.split("id: ").nth(1).and_then(|rest| rest.lines().next()).expect("a cursor").to_owned();
    drop(stream);
    let subject = format!("{}.acme.user.alice", prefix(&namespace.name));
    let publish = async {
        let mut outside = outside().await?;
        let mut i = 0;
        while i < EVENTS {
            let (id, data) = (format!("acme:{}:{i}", namespace.name), i.to_string());
            let sent = outside.publisher.publish_with(&subject, &[("Nats-Msg-Id", &id)], &data).await;
            match sent {
                Ok(_) => i += 1,
                // The way to NATS was cut: take it anew. The message id makes it one event.
                Err(_) => {
                    outside = eventually("NATS again", Duration::from_secs(90), self::outside).await?;
                }
            }
        }
        Ok(())
    };
    let last = (EVENTS - 1).to_string();
    let follow = namespace.follow("live", "alice", cursor, &last);
    let ((), (seen, ())) = try_join(publish, try_join(follow, disturb(&pods[0]))).await?;
    let expected: Vec<String> = (0..EVENTS).map(|i| i.to_string()).collect();
    ensure!(seen == expected, "{:?}", seen.iter().zip(&expected).find(|(a, b)| a != b));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_under_a_client_loses_nothing() -> Result<()> {
    let _peace = PEACE.read().await;
    in_namespace("pod", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        nothing_is_lost(namespace, async |pod: &str| {
            kubectl(&["-n", &namespace.name, "delete", "pod", pod, "--wait=false"]).await.map(drop)
        })
        .await?;
        namespace.wait_ready("live").await?;
        // And one that has no time to say anything.
        nothing_is_lost_again(namespace).await
    })
    .await
}

async fn nothing_is_lost_again(namespace: &Namespace) -> Result<()> {
    let pods = namespace.ready_pods("live").await?;
    let kill =
        ["-n", &namespace.name, "delete", "pod", &pods[0], "--grace-period=0", "--force", "--wait=false"];
    kubectl(&kill).await?;
    namespace.wait_ready("live").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_spec_rolls_every_pod_and_loses_nothing() -> Result<()> {
    let _peace = PEACE.read().await;
    in_namespace("rollout", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let before = namespace.ready_pods("live").await?;
        nothing_is_lost(namespace, async |_: &str| {
            let generation =
                namespace.patch("live", json!({"stream": {"heartbeatIntervalSeconds": 7}})).await?;
            namespace.rolled_out("live", generation).await
        })
        .await?;
        let after = namespace.ready_pods("live").await?;
        ensure!(after.len() == 2 && after.iter().all(|pod| !before.contains(pod)), "{before:?} {after:?}");
        // A value that equals the default changes nothing that runs.
        let generation = namespace.patch("live", json!({"token": {"ttlSeconds": 30}})).await?;
        namespace.rolled_out("live", generation).await?;
        let same = namespace.ready_pods("live").await?;
        ensure!(same.iter().all(|pod| after.contains(pod)), "{after:?} {same:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_killed_disturbs_no_stream_and_goes_on_where_it_was() -> Result<()> {
    let _alone = PEACE.write().await;
    in_namespace("operator", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        nothing_is_lost(namespace, async |_: &str| {
            let label = "app.kubernetes.io/component=operator";
            let kill = ["-n", SYSTEM, "delete", "pod", "-l", label, "--grace-period=0", "--force"];
            kubectl(&kill).await?;
            // What happens while it is away is put right when it is back.
            namespace.api::<Service>().delete("live", &DeleteParams::default()).await?;
            let deployment = format!("deployment/{RELEASE}");
            kubectl(&["-n", SYSTEM, "rollout", "status", &deployment, "--timeout=60s"]).await?;
            eventually("the Service again", Duration::from_mins(1), || async {
                Ok(namespace.api::<Service>().get("live").await.map(drop)?)
            })
            .await
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_killed_loses_nothing_that_it_acknowledged() -> Result<()> {
    let _alone = PEACE.write().await;
    in_namespace("nats", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        nothing_is_lost(namespace, async |_: &str| {
            let kill = ["-n", SYSTEM, "delete", "pod", "sse-gateway-nats-0", "--grace-period=0", "--force"];
            kubectl(&kill).await?;
            let ready = ["-n", SYSTEM, "rollout", "status", "statefulset/sse-gateway-nats", "--timeout=90s"];
            kubectl(&ready).await.map(drop)
        })
        .await
    })
    .await
}
