//! What all gateways use is killed under connected clients: the operator, NATS. They miss nothing.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use kube::api::DeleteParams;
use serde_json::json;
use sse_tests::cluster::{Namespace, RELEASE, SYSTEM, alone_in_namespace, kubectl};
use sse_tests::eventually;

use crate::survive::End::StreamMayStay;
use crate::survive::nothing_is_lost;

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_killed_disturbs_no_stream_and_goes_on_where_it_was() -> Result<()> {
    alone_in_namespace("operator", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        nothing_is_lost(namespace, StreamMayStay, async |_: &str| {
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
    alone_in_namespace("nats", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        nothing_is_lost(namespace, StreamMayStay, async |_: &str| {
            let kill = ["-n", SYSTEM, "delete", "pod", "sse-gateway-nats-0", "--grace-period=0", "--force"];
            kubectl(&kill).await?;
            let ready = ["-n", SYSTEM, "rollout", "status", "statefulset/sse-gateway-nats", "--timeout=90s"];
            kubectl(&ready).await.map(drop)
        })
        .await
    })
    .await
}
