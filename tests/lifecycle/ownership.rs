//! What of a release others look after: tools that apply what is rendered, and a release of another name.

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::cluster::{
    CHART, Namespace, RELEASE, SYSTEM, alone_in_namespace, apply, install_with, kubectl, manifest, run,
    values,
};
use sse_tests::pages::documented;
use sse_tests::pages::shell::Shell;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rendered_again_differs_in_nothing_from_what_is_there() -> Result<()> {
    alone_in_namespace("rendered", async |_: &Namespace| {
        for helm in ["helm", "helm3"] {
            let differs = differs(helm, &[]).await?;
            ensure!(differs.is_empty(), "{helm}: {differs}");
        }
        let another = differs("helm", &["--set", "podAnnotations.another=yes"]).await;
        ensure!(another.is_err(), "another annotation is no difference");
        Ok(())
    })
    .await
}

/// What `kubectl diff` says of what this Helm renders. It fails when there is anything, and over a conflict.
async fn differs(helm: &str, more: &[&str]) -> Result<String> {
    let values = values()?;
    let mut arguments = vec!["template", RELEASE, CHART, "--namespace", SYSTEM, "--skip-tests"];
    arguments.extend(["--kube-version", "1.36.0"]);
    arguments.extend(values.iter().map(String::as_str));
    arguments.extend(more);
    let rendered = tempfile::NamedTempFile::new()?;
    std::fs::write(rendered.path(), run(helm, &arguments).await?)?;
    kubectl(&["diff", "--server-side", "-f", &rendered.path().to_string_lossy()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_another_name_takes_over_what_the_last_one_left() -> Result<()> {
    alone_in_namespace("renamed", async |namespace: &Namespace| {
        apply(&manifest(&namespace.name, "live", json!({"replicas": 0}))).await?;
        namespace.resting("live").await?;
        run("helm", &["uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "2m"]).await?;
        let outcome = renamed(namespace).await;
        // The CRD has stayed with the other name.
        install_with("helm3", &["--take-ownership"]).await?;
        outcome
    })
    .await
}

async fn renamed(namespace: &Namespace) -> Result<()> {
    let (release, system) = ("streams", namespace.name.as_str());
    let values = values()?;
    let mut arguments = vec!["install", release, CHART, "--namespace", system, "--wait", "--timeout", "2m"];
    arguments.extend(values.iter().map(String::as_str));
    arguments.extend(["--set", "nats.enabled=false"]);
    let refused = run("helm", &arguments).await;
    ensure!(
        refused.as_ref().is_err_and(|error| error.to_string().contains("invalid ownership metadata")),
        "{refused:?}"
    );
    let again = documented(file!())?;
    Shell::of(&again)?.with("-n streams", &format!("-n {system}")).run().await?;
    let kept = kubectl(&["-n", system, "get", "ssegateway", "live", "-o", "name"]).await?;
    ensure!(kept.trim() == "ssegateway.ssegateway.io/live", "{kept}");
    // It is looked after.
    namespace.patch("live", json!({"token": {"ttlSeconds": 20}})).await?;
    namespace.resting("live").await?;
    let current = "--for=jsonpath={.status.observedGeneration}=2";
    kubectl(&["-n", system, "wait", current, "--timeout=60s", "ssegateway/live"]).await?;
    run("helm", &["uninstall", release, "--namespace", system, "--wait", "--timeout", "2m"]).await.map(drop)
}
