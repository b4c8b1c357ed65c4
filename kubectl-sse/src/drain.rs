//! `kubectl sse drain`: evicts a pod, as a node that is drained does, and shows its connections leave.
//!
//! A `PodDisruptionBudget` may hold the eviction back; it is asked for again until the deadline.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::EvictParams;
use sse_crds::SseGateway;
use tokio::time::{Instant, sleep, timeout};

use crate::arguments;
use crate::cluster::{Cluster, answered, gateway_of};
use crate::report;
use crate::say;

/// How often the pods are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Wait before an eviction that is held back is asked for again.
const AGAIN: Duration = Duration::from_secs(5);
/// The API server has this long for an answer.
const ANSWER: Duration = Duration::from_secs(15);
/// What the API server answers where a budget holds the eviction back.
const TOO_MANY_REQUESTS: u16 = 429;

/// Connections of each pod that told them.
type Counts = BTreeMap<String, u64>;

/// # Errors
///
/// When the pod is none of a gateway's, or not gone in time.
pub async fn run(cluster: &Cluster, arguments: &arguments::Drain) -> Result<ExitCode> {
    let pods = cluster.api::<Pod>(&cluster.namespace);
    let pod = answered("the pod", pods.get_opt(&arguments.pod)).await?;
    let pod =
        pod.with_context(|| format!("there is no pod {} in namespace {}", arguments.pod, cluster.namespace))?;
    let name = gateway_of(&pod).with_context(|| format!("{} is no pod of an SseGateway", arguments.pod))?;
    let gateway = cluster.gateway(name).await?;
    let deadline = Instant::now() + Duration::from_secs(arguments.timeout);
    let begun = Instant::now();
    let before = counts(cluster, &gateway).await?;
    evict(cluster, &arguments.pod, deadline).await?;
    say::out(&format!("{}: evicted, with {} connections", arguments.pod, shown(before.get(&arguments.pod))))?;

    let mut told = None;
    loop {
        let found = answered("the pod", pods.get_opt(&arguments.pod)).await?;
        // One of the same name would be another: of a StatefulSet, which a gateway has not.
        if found.is_none_or(|found| found.uid() != pod.uid()) {
            break;
        }
        let left = left(cluster, &arguments.pod).await;
        if left.is_some() && left != told {
            say::out(&format!("{}: {} connections left", arguments.pod, shown(left.as_ref())))?;
            told = left;
        }
        if Instant::now() >= deadline {
            bail!("{} is not gone after {} s", arguments.pod, arguments.timeout);
        }
        sleep(LOOK).await;
    }
    say::out(&format!("{}: gone after {} s", arguments.pod, begun.elapsed().as_secs()))?;
    for line in moved(&arguments.pod, &before, &counts(cluster, &gateway).await?) {
        say::out(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn evict(cluster: &Cluster, pod: &str, deadline: Instant) -> Result<()> {
    let pods = cluster.api::<Pod>(&cluster.namespace);
    loop {
        let parameters = EvictParams::default();
        let asked = timeout(ANSWER, pods.evict(pod, &parameters)).await;
        match asked.context("the API server did not answer in time")? {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == TOO_MANY_REQUESTS => {
                if Instant::now() + AGAIN > deadline {
                    bail!("the eviction is held back: {}", status.message);
                }
                say::note(&format!("held back: {}", say::tame(&status.message)));
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error).context("the eviction was refused"),
        }
    }
}

async fn left(cluster: &Cluster, pod: &str) -> Option<u64> {
    report::read(&cluster.admin_door(&cluster.namespace, pod)).await.ok()?.connections
}

async fn counts(cluster: &Cluster, gateway: &SseGateway) -> Result<Counts> {
    let pods = cluster.pods(gateway).await?;
    let count = async |pod: &Pod| {
        let name = pod.name_any();
        left(cluster, &name).await.map(|count| (name, count))
    };
    Ok(join_all(pods.iter().map(count)).await.into_iter().flatten().collect())
}

fn shown(count: Option<&u64>) -> String {
    count.map_or_else(|| "an unknown number of".into(), u64::to_string)
}

/// Where connections are now, beside where they were.
fn moved(gone: &str, before: &Counts, after: &Counts) -> Vec<String> {
    let line = |(pod, now): (&String, &u64)| {
        let was = before.get(pod).copied();
        let change = i128::from(*now) - i128::from(was.unwrap_or(0));
        let new = if was.is_none() { ", a new pod" } else { "" };
        format!("{pod}: {now} connections ({change:+}{new})")
    };
    after.iter().filter(|(pod, _)| *pod != gone).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_connections_went_is_told_for_each_pod_that_stays_or_came() {
        let counts =
            |pods: &[(&str, u64)]| pods.iter().map(|(pod, count)| ((*pod).to_owned(), *count)).collect();
        let (before, after) = (counts(&[("a", 5), ("b", 4)]), counts(&[("a", 0), ("b", 7), ("c", 2)]));
        let expected = ["b: 7 connections (+3)", "c: 2 connections (+2, a new pod)"];
        assert_eq!(moved("a", &before, &after), expected);
    }
}
