//! The release itself: uninstalled, it leaves the gateways declared and running; installed again, by
//! the other Helm, it takes them up. Runs after the other tests on the cluster, because it takes the operator away.

mod definition;
mod namespaces;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::cluster::{Namespace, RELEASE, SYSTEM, alone_in_namespace, install, kubectl, prefix, run};
use sse_tests::outside::outside;

#[tokio::test(flavor = "multi_thread")]
async fn uninstalled_the_release_leaves_gateways_and_installed_again_takes_them_up() -> Result<()> {
    alone_in_namespace("lifecycle", async |namespace: &Namespace| {
        // The release's own NATS goes with it: this gateway is to be seen without an operator only.
        namespace.gateway("live", json!({})).await?;
        let pods = namespace.ready_pods("live").await?;
        run("helm", &["uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "2m"]).await?;
        let kept = kubectl(&["-n", &namespace.name, "get", "ssegateway", "live", "-o", "name"]).await?;
        ensure!(kept.trim() == "ssegateway.ssegateway.io/live", "{kept}");
        ensure!(namespace.ready_pods("live").await? == pods, "the pods did not outlive the operator");

        install("helm3").await?;
        let generation = namespace.patch("live", json!({"replicas": 1})).await?;
        namespace.rolled_out("live", generation).await?;
        let mut stream = namespace.client("live", "acme", "alice").await?.open("").await?;
        let subject = format!("{}.acme.user.alice", prefix(&namespace.name));
        outside().await?.publisher.publish(&subject, "taken up").await?;
        ensure!(stream.event().await?.data == "taken up");
        // Gone with the declaration, by owner references alone.
        kubectl(&["-n", &namespace.name, "delete", "ssegateway", "live"]).await?;
        let gone = ["-n", &namespace.name, "wait", "--for=delete", "deployment/live", "--timeout=60s"];
        kubectl(&gone).await.map(drop)
    })
    .await
}
