//! An operator that is installed for some namespaces.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::cluster::{
    Namespace, RELEASE, SYSTEM, alone_in_namespace, apply, install, install_with, kubectl, manifest, run,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_some_namespaces_neither_sees_nor_may_touch_the_others() -> Result<()> {
    alone_in_namespace("scoped", async |namespace: &Namespace| {
        let name = format!("{}-b", namespace.name);
        kubectl(&["create", "namespace", &name]).await?;
        let other = Namespace { name, client: namespace.client.clone() };
        let watched = format!("watchNamespaces={{{}}}", namespace.name);
        install_with("helm", &["--set", &watched, "--set", "commonLabels.team=streams"]).await?;
        let outcome = only_there(namespace, &other).await;
        install("helm").await?;
        // Seen again by an operator of all.
        other.resting("live").await?;
        kubectl(&["delete", "namespace", &other.name, "--wait=false"]).await?;
        outcome
    })
    .await
}

async fn only_there(here: &Namespace, other: &Namespace) -> Result<()> {
    apply(&manifest(&other.name, "live", json!({"replicas": 0}))).await?;
    apply(&manifest(&here.name, "live", json!({"replicas": 0}))).await?;
    here.resting("live").await?;
    let labelled: Deployment = here.api().get("live").await?;
    let template = labelled.spec.context("a spec")?.template.metadata.context("metadata")?;
    for labels in [labelled.metadata.labels, template.labels] {
        ensure!(labels.as_ref().is_some_and(|labels| labels["team"] == "streams"), "{labels:?}");
    }
    // Where the operator looks, and the restricted profile holds.
    run("helm", &["test", RELEASE, "--namespace", SYSTEM, "--timeout", "3m"]).await?;
    let unseen = other.api::<SseGateway>().get("live").await?;
    ensure!(unseen.status.is_none(), "{:?}", unseen.status);

    let account = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
    let may = async |verb: &str, what: &str, namespace: &str| {
        let ask = ["auth", "can-i", "--as", &account, verb, what, "-n", namespace];
        run("kubectl", &ask).await.is_ok_and(|answer| answer.trim() == "yes")
    };
    for (verb, what) in [
        ("list", "ssegateways.ssegateway.io"),
        ("patch", "deployments.apps"),
        ("list", "pods"),
        ("delete", "configmaps"),
        ("create", "events.events.k8s.io"),
    ] {
        ensure!(may(verb, what, &here.name).await, "{verb} {what} where it watches");
        for elsewhere in [other.name.as_str(), SYSTEM, "kube-system"] {
            ensure!(!may(verb, what, elsewhere).await, "{verb} {what} in {elsewhere}");
        }
    }
    Ok(())
}
