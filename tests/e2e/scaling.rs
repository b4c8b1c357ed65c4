//! Autoscaling with all that it needs: a gateway's HorizontalPodAutoscaler reads the streams of its pods through the
//! Prometheus adapter. Clients come: there are three pods, and soon each has its share, because some were sent away. They
//! leave: there is one. Who stays sees every event, once and in order. KEDA would have been told the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::{try_join, try_join_all};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use sse_tests::cluster::metrics::{measured, of_pods};
use sse_tests::cluster::monitor::LABELS;
use sse_tests::cluster::{Namespace, in_namespace, prefix};
use sse_tests::eventually;
use sse_tests::follower::{Followed, LAST, follow, most_within};
use sse_tests::jwt::jwt;
use sse_tests::outside::outside;
use sse_tests::pages::documented;
use sse_tests::pages::shell::Shell;
use sse_tests::prometheus::Prometheus;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::alone::rollout::streams;
use crate::crowd::Door;

const CLIENTS: usize = 300;
const TARGET: usize = 100;
const STAY: usize = 60;
/// Clients that come at once.
const ABREAST: usize = 32;
const PACE: Duration = Duration::from_millis(250);

fn spec() -> Value {
    // A calm of minutes is for daily life; how fast it goes is the user's choice.
    let behavior = json!({"scaleDown": {
        "stabilizationWindowSeconds": 5, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}});
    json!({
        "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetConnections": TARGET, "behavior": behavior},
        "scaling": {"rebalance": true}, "drain": {"windowSeconds": 8},
        "topics": {"public": ["team.*"]}, "expose": {"service": {"type": "NodePort"}},
        "networkPolicy": {"metricsFrom": [{"podSelector": {"matchLabels": {LABELS.0: LABELS.1}}}]},
    })
}

/// Clients that stay to the end, and others that leave when they are told to.
struct Crowd {
    clients: JoinSet<Result<(bool, Followed)>>,
    leave: CancellationToken,
}

impl Crowd {
    async fn enter(door: &Arc<Door>) -> Result<Self> {
        let enter = async |client: usize| {
            let jwt = jwt("acme", &format!("guest-{client}"));
            let raw = door.open(client, &jwt, "").await?;
            anyhow::Ok((client, jwt, raw))
        };
        let entered: Vec<_> =
            stream::iter(0..CLIENTS).map(enter).buffer_unordered(ABREAST).try_collect().await?;
        let (mut clients, leave) = (JoinSet::new(), CancellationToken::new());
        for (client, jwt, raw) in entered {
            let (door, stays) = (door.clone(), client < STAY);
            let leave = if stays { CancellationToken::new() } else { leave.clone() };
            let open = async move |cursor: &str| door.open(client, &jwt, cursor).await;
            let followed = follow(raw, open, leave);
            clients.spawn(
                async move { Ok((stays, followed.await.with_context(|| format!("client {client}"))?)) },
            );
        }
        Ok(Self { clients, leave })
    }

    async fn followed(mut self) -> Result<Vec<(bool, Followed)>> {
        let mut all = Vec::with_capacity(CLIENTS);
        while let Some(followed) = self.clients.join_next().await {
            all.push(followed??);
        }
        Ok(all)
    }
}

/// Publishes numbers to all, and the last word when it is over. Returns how many numbers there were.
async fn publish(namespace: &Namespace, over: &CancellationToken) -> Result<u64> {
    let outside = outside().await?;
    let (subject, run) = (format!("{}.acme.all", prefix(&namespace.name)), rand::random::<u64>());
    let (mut pace, mut number) = (interval(PACE), 0_u64);
    while over.run_until_cancelled(pace.tick()).await.is_some() {
        outside.publisher.insist(&subject, &format!("acme:{run:x}:{number}"), &number.to_string()).await?;
        number += 1;
    }
    outside.publisher.insist(&subject, &format!("acme:{run:x}:last"), LAST).await?;
    Ok(number)
}

/// Notes how many pods the autoscaler wants, each time that it changes its mind.
fn watch_replicas(namespace: &Namespace, over: CancellationToken) -> JoinHandle<Result<Vec<i32>>> {
    let deployments = namespace.api::<Deployment>();
    tokio::spawn(async move {
        let (mut wanted, mut pace) = (Vec::new(), interval(Duration::from_millis(200)));
        while over.run_until_cancelled(pace.tick()).await.is_some() {
            let spec = deployments.get("live").await?.spec.context("a spec")?;
            let replicas = spec.replicas.context("a number of pods")?;
            if wanted.last() != Some(&replicas) {
                wanted.push(replicas);
            }
        }
        Ok(wanted)
    })
}

async fn ready(namespace: &Namespace, count: usize) -> Result<HashSet<String>> {
    eventually("pods that the autoscaler wants", Duration::from_secs(90), || async {
        let pods: HashSet<_> = namespace.ready_pods("live").await?.into_iter().collect();
        ensure!(pods.len() == count, "{pods:?}");
        Ok(pods)
    })
    .await
}

/// Whether the pods have about as many.
fn are_even(streams: &[u64]) -> Result<bool> {
    let (most, fewest) = (streams.iter().max().context("a pod")?, streams.iter().min().context("a pod")?);
    Ok((most - fewest) * 5 <= *most)
}

/// Waits until nobody is between two pods, and all have about as many.
async fn even(namespace: &Namespace, pods: &HashSet<String>) -> Result<Vec<u64>> {
    eventually("pods within 20 %", Duration::from_mins(3), || async {
        let streams = streams(namespace, pods).await?;
        let all = streams.iter().sum::<u64>() == CLIENTS as u64;
        ensure!(all && are_even(&streams)?, "{streams:?}");
        Ok(streams)
    })
    .await
}

/// The one number that a query answers.
async fn answers(prometheus: &Prometheus, query: &str, fits: impl Fn(f64) -> bool) -> Result<()> {
    eventually(query, Duration::from_secs(30), || async {
        let series = prometheus.now(query).await?;
        ensure!(series.len() == 1 && fits(series[0].1), "{series:?}");
        Ok(())
    })
    .await
}

/// What KEDA would ask of Prometheus, as the documentation has it.
fn query_of_keda(namespace: &Namespace) -> Result<String> {
    let scaled: Value = serde_saphyr::from_str(include_str!("../../docs/autoscaling/keda.yaml"))?;
    let query = scaled["spec"]["triggers"][0]["metadata"]["query"].as_str().context("a query")?;
    ensure!(query.contains(r#"namespace="default""#), "{query}");
    Ok(query.replace(r#""default""#, &format!("{:?}", namespace.name)))
}

/// Out, even, and in again.
async fn scale(namespace: &Namespace, prometheus: &Prometheus, crowd: &CancellationToken) -> Result<String> {
    let begun = Instant::now();
    let pods = ready(namespace, 3).await?;
    let (out, before) = (begun.elapsed(), streams(namespace, &pods).await?);
    ensure!(!are_even(&before)?, "even without a rebalance: {before:?}");
    let even = even(namespace, &pods).await?;
    let balanced = begun.elapsed();
    // Whoever is missing where there were more was sent away for it: nobody left by himself.
    let moved: u64 = before.iter().zip(&even).map(|(before, after)| before.saturating_sub(*after)).sum();
    let sent_away = r#"sum(sse_server_connection_duration_seconds_count{reason="rebalance"})"#;
    let (moved, clients) = (u32::try_from(moved)?, u32::try_from(CLIENTS)?);
    answers(prometheus, sent_away, |count| count >= f64::from(moved.max(1))).await?;
    answers(prometheus, &query_of_keda(namespace)?, |count| (count - f64::from(clients)).abs() < 0.5).await?;
    crowd.cancel();
    let left = ready(namespace, 1).await?;
    eventually("everybody on the one that is left", Duration::from_mins(1), || async {
        let streams = streams(namespace, &left).await?;
        ensure!(streams == [STAY as u64], "{streams:?}");
        try_join_all(pods.difference(&left).map(|pod| namespace.gone(pod))).await.map(drop)
    })
    .await?;
    Ok(format!(
        "three pods after {out:.1?} with {before:?}, {even:?} after {balanced:.1?}, one after {:.1?}",
        begun.elapsed()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_autoscaler_follows_the_clients_and_none_of_them_loses_an_event() -> Result<()> {
    in_namespace("scaling", async |namespace: &Namespace| {
        measured(namespace, async |prometheus: Prometheus| {
            namespace.gateway("live", spec()).await?;
            ready(namespace, 1).await?;
            eventually("the metric of the pod", Duration::from_mins(1), || async {
                let streams = of_pods(&namespace.name, "sse_server_active_connections").await?;
                ensure!(streams == ["0"], "{streams:?}");
                Ok(())
            })
            .await?;
            let seen = Shell::of(&documented(file!())?)?.within(&namespace.name);
            let seen = seen.with("namespaces/default", &format!("namespaces/{}", namespace.name)).run().await?.printed;
            ensure!(seen.contains("MetricValueList") && seen.contains("Deployment/live"), "{seen}");
            let (over, door) = (CancellationToken::new(), Arc::new(Door::of(namespace).await?));
            let wanted = watch_replicas(namespace, over.clone());
            let crowd = Crowd::enter(&door).await?;
            let leave = crowd.leave.clone();
            let scaled = async {
                let told = scale(namespace, &prometheus, &leave).await;
                over.cancel();
                told
            };
            let clients = try_join(crowd.followed(), publish(namespace, &over));
            let (told, (clients, published)) = try_join(scaled, clients).await?;
            let wanted = wanted.await??;
            for (stays, followed) in &clients {
                ensure!(!stays || followed.seen == published, "{} of {published} events", followed.seen);
            }
            let sent_away: Vec<_> = clients.iter().flat_map(|(_, followed)| followed.sent_away.clone()).collect();
            let (returns, most) = (sent_away.len(), most_within(sent_away, Duration::from_secs(10)));
            println!("scaling: {wanted:?}: {told}; {published} events, {returns} returns, {most} in ten seconds at most");
            // On the way up one may be seen between.
            let steps = wanted.iter().filter(|pods| **pods != 2).collect::<Vec<_>>();
            ensure!(steps == [&1, &3, &1], "{wanted:?}");
            Ok(())
        })
        .await
    })
    .await
}
