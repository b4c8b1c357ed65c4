//! The release itself: uninstalled, it leaves the gateways declared and running; installed again, by
//! the other Helm, it takes them up; upgraded from the last chart and rolled back, it disturbs no stream. Runs after the other tests on the cluster, because it takes the operator away.

mod definition;
mod namespaces;
mod ownership;
mod pages;
mod round_trip;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::client::Stream;
use sse_tests::cluster::{
    Namespace, RELEASE, SYSTEM, alone_in_namespace, install, install_chart, kubectl, prefix, run,
};
use sse_tests::eventually;
use sse_tests::outside::outside;

/// The chart before this one, as users have it: `helm package` of the release, or of the commit, before.
const LAST_CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lifecycle/last-chart.tgz");

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

        // The chart that users have, then ours, and back.
        install_chart("helm3", LAST_CHART, &[]).await?;
        let client = namespace.client("live", "acme", "bob").await?;
        let mut stream =
            eventually("NATS again", Duration::from_mins(1), || async { client.open("").await }).await?;
        serves_on(namespace, &mut stream, &pods, "by the last chart").await?;
        install("helm").await?;
        serves_on(namespace, &mut stream, &pods, "upgraded").await?;
        run("helm", &["rollback", RELEASE, "1", "--namespace", SYSTEM, "--wait", "--timeout", "3m"]).await?;
        serves_on(namespace, &mut stream, &pods, "rolled back").await?;
        install("helm3").await?;
        serves_on(namespace, &mut stream, &pods, "upgraded again").await?;
        drop(stream);

        let generation = namespace.patch("live", json!({"replicas": 1})).await?;
        namespace.rolled_out("live", generation).await?;
        // Gone with the declaration, by owner references alone.
        kubectl(&["-n", &namespace.name, "delete", "ssegateway", "live"]).await?;
        let gone = ["-n", &namespace.name, "wait", "--for=delete", "deployment/live", "--timeout=60s"];
        kubectl(&gone).await.map(drop)
    })
    .await
}

/// The pods are those from before, and a stream that was open is served on.
async fn serves_on(namespace: &Namespace, stream: &mut Stream, pods: &[String], when: &str) -> Result<()> {
    let now = namespace.ready_pods("live").await?;
    ensure!(now == pods, "{when}: {now:?} instead of {pods:?}");
    let subject = format!("{}.acme.user.bob", prefix(&namespace.name));
    outside().await?.publisher.publish(&subject, when).await?;
    let event = stream.event().await?;
    ensure!(event.data == when, "{when}: {event:?}");
    Ok(())
}
