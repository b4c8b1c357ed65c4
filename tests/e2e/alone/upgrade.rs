//! Another operator, and another default image: pods are replaced where they have to be, one gateway
//! after the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::cluster::{Namespace, alone_in_namespace, apply, install, install_with, manifest, prefix};

use super::operator::{OURS, operators, taken_over, versions};

#[derive(Debug, PartialEq, Eq)]
enum Pods {
    Old,
    BeingReplaced,
    New,
}

/// How a gateway's rollout goes.
#[derive(Debug)]
struct Going {
    name: String,
    pods: Pods,
    waits: bool,
    ready: bool,
}

/// All gateways of a namespace, their Deployments at one and the same moment.
async fn going(namespace: &Namespace, policy: &str) -> Result<Vec<Going>> {
    let gateways = namespace.api::<SseGateway>().list(&ListParams::default()).await?;
    let deployments = namespace.api::<Deployment>().list(&ListParams::default().labels(OURS)).await?;
    let going = |deployment: Deployment| {
        let name = deployment.name_any();
        let declared = gateways.iter().find(|gateway| gateway.name_any() == name).context("its gateway")?;
        let conditions = declared.status.clone().map(|status| status.conditions).unwrap_or_default();
        let spec = deployment.spec.context("a spec")?;
        let pod = spec.template.spec.context("a pod")?;
        let status = deployment.status.unwrap_or_default();
        let complete = status.observed_generation == deployment.metadata.generation
            && [status.replicas, status.updated_replicas, status.ready_replicas] == [spec.replicas; 3];
        let pods = match pod.containers[0].image_pull_policy.as_deref() {
            _ if !complete => Pods::BeingReplaced,
            Some(with) if with == policy => Pods::New,
            _ => Pods::Old,
        };
        Ok(Going {
            name,
            pods,
            waits: conditions.iter().any(|c| c.type_ == "Progressing" && c.reason == "WaitingForRollout"),
            ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        })
    };
    deployments.items.into_iter().map(going).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_the_default_image_rolls_one_gateway_at_a_time() -> Result<()> {
    const NAMES: [&str; 3] = ["one", "two", "three"];
    alone_in_namespace("upgrade", async |namespace: &Namespace| {
        for name in NAMES {
            let prefix = json!({"replicas": 1, "nats": {"subjectPrefix": format!("{}_{name}", prefix(&namespace.name))}});
            apply(&manifest(&namespace.name, name, prefix)).await?;
        }
        for name in NAMES {
            namespace.wait_ready(name).await?;
        }
        let before = versions(namespace).await?;
        // Another operator that renders the same pods: nothing rolls.
        let old = operators(namespace).await?;
        install_with("helm", &["--set", "podAnnotations.restarted=yes"]).await?;
        let new = taken_over(namespace, &old, NAMES.len() as u64).await?;
        ensure!(versions(namespace).await? == before, "{new} changed {before:?}");

        // The pull policy stands for an image: it is part of the same default.
        let policy = "Never";
        let began = Instant::now();
        let upgrade = async {
            install_with("helm", &["--set", "podAnnotations.restarted=yes,gatewayImage.pullPolicy=Never"]).await
        };
        let ((), order) = try_join(upgrade, one_after_the_other(namespace, policy)).await?;
        println!("upgraded one after the other, {order:?}, in {:?}", began.elapsed());
        install("helm").await
    })
    .await
}

/// Follows an upgrade to its end; returns the order in which the gateways got their new pods.
async fn one_after_the_other(namespace: &Namespace, policy: &str) -> Result<Vec<String>> {
    let (mut waited, mut order) = (0, Vec::new());
    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        let all = going(namespace, policy).await?;
        ensure!(
            all.iter().filter(|going| going.pods == Pods::BeingReplaced).count() <= 1,
            "several at once: {all:?}"
        );
        for going in &all {
            ensure!(going.pods != Pods::Old || going.ready, "{} waits and is not ready", going.name);
            waited += usize::from(going.waits);
            if going.pods != Pods::Old && !order.contains(&going.name) {
                order.push(going.name.clone());
            }
        }
        if all.iter().all(|going| going.pods == Pods::New && going.ready && !going.waits) {
            ensure!(waited > 0, "nobody said that it waits");
            return Ok(order);
        }
        ensure!(Instant::now() < deadline, "not upgraded: {all:?}");
    }
}
