//! The pages for whoever installs, walked: the release and all that it leaves taken away, and installed on a cluster that has
//! nothing of it; from `make demo` to an event on a stream; dashboards and alerts, and the release upgraded.

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use serde_json::json;
use sse_tests::cluster::{Namespace, SYSTEM, alone_in_namespace, apply, install, kubectl, values};
use sse_tests::outside::outside;
use sse_tests::pages::shell::Shell;
use sse_tests::pages::{Block, documented};

const RULES: &str = "prometheusrules.monitoring.coreos.com";

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_pages_leaves_nothing_and_gets_from_nothing_to_an_event() -> Result<()> {
    alone_in_namespace("pages", async |_: &Namespace| {
        let walked = walk().await;
        kubectl(&["delete", "namespace", "demo", "monitoring", "--ignore-not-found", "--timeout=2m"]).await?;
        forget_log().await?;
        // Others need the release, whatever has become of it.
        install("helm").await?;
        kubectl(&["delete", "crd", RULES, "--ignore-not-found"]).await?;
        walked
    })
    .await
}

/// Blocks that are still to be run.
struct Left(Vec<Block>);

impl Left {
    /// The next one with these words.
    fn take(&mut self, words: &str) -> Result<Block> {
        let found = self.0.iter().position(|block| block.text.contains(words));
        Ok(self.0.remove(found.with_context(|| format!("no page has {words:?}"))?))
    }
}

async fn walk() -> Result<()> {
    let mut left = Left(documented(file!())?);
    let (release, rest) = (left.take("helm uninstall")?, left.take("kubectl delete crd")?);
    Shell::of([&release, &rest])?.run().await?;
    let crd = ["get", "crd", "ssegateways.ssegateway.io", "--ignore-not-found", "-o", "name"];
    let children = ["-n", SYSTEM, "get", "pvc,deployments,statefulsets", "-o", "name"];
    let found = kubectl(&crd).await? + &kubectl(&children).await?;
    ensure!(found.is_empty(), "still there: {found}");

    Shell::of([&left.take("helm test")?])?.with("REGISTRY", "localhost").run().await?;
    quick_start(&mut left).await?;
    dashboards(&left.take("dashboards.enabled=true")?).await?;
    for _ in 0..2 {
        let again = left.take("helm upgrade --install")?;
        Shell::of([&again])?.with("REGISTRY", "localhost").run().await?;
    }
    ensure!(left.0.is_empty(), "not run: {:?}", left.0);
    Ok(())
}

/// Takes away the log of the demo, which is gone: no gateway deletes one, and another owner could not have it.
async fn forget_log() -> Result<()> {
    let outside = outside().await?;
    let mut streams = outside.publisher.jetstream.stream_names();
    while let Some(stream) = streams.try_next().await? {
        if stream == "SSE_sse" {
            outside.publisher.jetstream.delete_stream(&stream).await?;
        }
    }
    Ok(())
}

/// A cluster with a gateway, a credential, a stream, and an event on it.
async fn quick_start(left: &mut Left) -> Result<()> {
    let [_, images, ..] = values()?;
    let kubeconfig = std::env::var("KUBECONFIG").context("KUBECONFIG must name a cluster")?;
    let (demo, same) = (left.take("make demo")?, left.take("make demo")?);
    let first = |block: &Block| block.text.split('#').next().unwrap_or_default().trim().to_owned();
    ensure!(first(&demo) == first(&same), "{} and {} differ", demo.place(), same.place());
    let shell = Shell::of([&demo])?
        .knowing("DEMO_KUBECONFIG", &kubeconfig)
        .knowing("DEMO_REGISTRY", "localhost")
        .knowing("DEMO_TAG", &std::env::var("SSE_TAG")?)
        .knowing("DEMO_HELM_ARGS", &format!("--set-string {images}"));
    let told = shell.run().await?.printed;
    ensure!(told.contains("It is left running"), "{told}");

    let steps = [left.take("KEY=$(kubectl")?, left.take("TOKEN=$(curl")?, left.take("nats-pub -s")?];
    Shell::of(&steps)?.streaming().then(r#"sees 'data: {"orderId":42}'"#).run().await.map(drop)
}

/// What a monitored cluster has, and what the release adds to it.
async fn dashboards(block: &Block) -> Result<()> {
    apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}})).await?;
    let spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    apply(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": RULES},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"plural": "prometheusrules", "singular": "prometheusrule", "kind": "PrometheusRule",
                "listKind": "PrometheusRuleList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    }))
    .await?;
    kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &format!("crd/{RULES}")]).await?;
    Shell::of([block])?.run().await?;
    let boards = ["-n", "monitoring", "get", "configmaps", "-l", "grafana_dashboard=1", "-o", "name"];
    let boards = kubectl(&boards).await?;
    ensure!(boards.lines().count() == 3, "{boards}");
    let rules = ["-n", SYSTEM, "get", "prometheusrules", "-l", "release=kube-prometheus-stack", "-o", "name"];
    let rules = kubectl(&rules).await?;
    ensure!(rules.lines().count() == 1, "{rules}");
    Ok(())
}
