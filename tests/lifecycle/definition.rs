//! The CustomResourceDefinition taken away under the operators, and before they start.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use sse_tests::cluster::{Namespace, SYSTEM, alone_in_namespace, apply, install, kubectl, manifest};
use sse_tests::eventually;

const DEFINITION: &str = "ssegateways.ssegateway.io";
const OPERATOR: &str = "app.kubernetes.io/component=operator";

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_definition_is_named_by_every_operator_and_heals_by_itself() -> Result<()> {
    alone_in_namespace("definition", async |namespace: &Namespace| {
        let before = operators(namespace).await?;
        kubectl(&["delete", "crd", DEFINITION]).await?;
        let named = missing_is_named(namespace).await;
        restored(namespace, "while they run").await?;
        named?;
        ensure!(operators(namespace).await? == before, "they were started again");

        kubectl(&["delete", "crd", DEFINITION]).await?;
        kubectl(&["-n", SYSTEM, "delete", "pods", "-l", OPERATOR]).await?;
        let named = missing_is_named(namespace).await;
        let logs = logs(namespace).await;
        restored(namespace, "before they start").await?;
        named?;
        for (pod, logs) in logs? {
            ensure!(logs.contains(&format!("{DEFINITION} is not installed")), "{pod}: {logs}");
        }
        Ok(())
    })
    .await
}

async fn logs(namespace: &Namespace) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for pod in operators(namespace).await? {
        let logs = kubectl(&["-n", SYSTEM, "logs", &pod]).await?;
        all.push((pod, logs));
    }
    Ok(all)
}

async fn operators(namespace: &Namespace) -> Result<Vec<String>> {
    let pods = Api::<Pod>::namespaced(namespace.client.clone(), SYSTEM);
    let pods = pods.list(&ListParams::default().labels(OPERATOR)).await?;
    Ok(pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(ResourceExt::name_any)
        .collect())
}

/// Each operator is unready, and says why.
async fn missing_is_named(namespace: &Namespace) -> Result<()> {
    // One that takes a 503 for an answer.
    let mut config = kube::Config::infer().await?;
    config.default_retry = false;
    let impatient = kube::Client::try_from(config)?;
    eventually("the missing definition named", Duration::from_mins(1), || async {
        let operators = operators(namespace).await?;
        ensure!(operators.len() == 2, "{operators:?}");
        for pod in operators {
            let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/readyz");
            let request = hyper::Request::get(path).body(Vec::new())?;
            let answer = impatient.request_text(request).await;
            let said = answer.map_or_else(|error| format!("{error:?}"), |text| format!("ready: {text}"));
            ensure!(said.contains(&format!("{DEFINITION} is not installed")), "{pod}: {said}");
        }
        Ok(())
    })
    .await
}

async fn restored(namespace: &Namespace, when: &str) -> Result<()> {
    install("helm").await?;
    let began = Instant::now();
    apply(&manifest(&namespace.name, "live", json!({"replicas": 0}))).await?;
    namespace.resting("live").await?;
    println!("definition missing {when}: a gateway cared for {:?} after it came back", began.elapsed());
    Ok(())
}
