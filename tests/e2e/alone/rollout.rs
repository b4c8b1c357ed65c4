//! A rollout under two thousand clients that came through the Service: none loses an event or sees one
//! twice, one pod lets go of its streams at a time, and they come back spread over its window.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::{try_join_all, try_join4};
use futures::stream::StreamExt as _;
use hyper::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event as Watched, watcher};
use serde_json::{Value, json};
use sse_crds::SseGateway;
use sse_tests::cluster::{Namespace, alone_in_namespace, prefix};
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::outside::outside;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::crowd::{CLIENTS, Crowd, Door, Followed, LAST, TEAMS, USERS, team, user};

const PODS: usize = 3;
/// Long enough for the last old pod, which has more than its third of the clients.
const WINDOW: Duration = Duration::from_secs(10);
/// Clients that may come back in any one second.
const MOST_IN_A_SECOND: usize = CLIENTS / 10;
/// One event in this time; of twenty one is for all, and two are for a team.
const PACE: Duration = Duration::from_millis(50);

/// An acknowledged event.
struct Published {
    subject: String,
    sequence: u64,
    data: String,
}

/// Open streams of each pod, by its own account.
pub async fn streams(namespace: &Namespace, pods: &HashSet<String>) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    for pod in pods {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/status", namespace.name);
        let status: Value = namespace.client.request(Request::get(path).body(Vec::new())?).await?;
        counts.push(status["connections"].as_u64().context("a number of streams")?);
    }
    Ok(counts)
}

/// Waits until the door leads to each of the pods: or the first clients would all be one pod's.
async fn leads_to_all(namespace: &Namespace, door: &Door, pods: &HashSet<String>) -> Result<()> {
    eventually("a way to each pod", Duration::from_secs(20), || async {
        let jwt = jwt("acme", "scout");
        let scouts = try_join_all((0..10).map(|_| door.open(0, &jwt, ""))).await?;
        let streams = streams(namespace, pods).await?;
        drop(scouts);
        ensure!(streams.iter().all(|count| *count > 0), "{streams:?}");
        Ok(())
    })
    .await
}

/// Publishes to users, teams and all, until there is nothing left to disturb.
async fn publish(namespace: &Namespace, over: &AtomicBool) -> Result<Vec<Published>> {
    let outside = outside().await?;
    let (prefix, run) = (prefix(&namespace.name), rand::random::<u64>());
    let (mut published, mut pace) = (Vec::new(), interval(PACE));
    loop {
        pace.tick().await;
        let (number, last) = (published.len(), over.load(Relaxed));
        let to = match number % 20 {
            _ if last => "all".into(),
            0 => "all".into(),
            7 | 14 => format!("topic.team.{}", rand::random_range(0..TEAMS)),
            _ => format!("user.user-{}", rand::random_range(0..USERS)),
        };
        let subject = format!("{prefix}.acme.{to}");
        let data = if last { LAST.to_owned() } else { number.to_string() };
        let sequence = outside.publisher.insist(&subject, &format!("acme:{run:x}:{number}"), &data).await?;
        published.push(Published { subject: to, sequence, data });
        if last {
            return Ok(published);
        }
    }
}

/// Whether all pods are new ones, by the Deployment's own account.
async fn is_rolled_out(namespace: &Namespace) -> Result<bool> {
    let deployment = namespace.api::<Deployment>().get("live").await?;
    let status = deployment.status.context("a status")?;
    let pods = Some(i32::try_from(PODS)?);
    Ok(status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.ready_replicas] == [pods; 3])
}

/// Follows the status from the change on. Until every pod is new it says that they are not, and how far
/// it is; then that they are. Returns what it said.
async fn told_truly(namespace: &Namespace, generation: i64) -> Result<BTreeSet<String>> {
    let mut told = BTreeSet::new();
    let heard = eventually("a word about the rollout", Duration::from_secs(5), || async {
        let gateway = namespace.api::<SseGateway>().get("live").await?;
        ensure!(gateway.status.context("a status")?.observed_generation == Some(generation));
        Ok(())
    });
    heard.await?;
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let status = namespace.api::<SseGateway>().get("live").await?.status.context("a status")?;
        let condition =
            |kind: &str| status.conditions.iter().find(|c| c.type_ == kind).context("a condition");
        let (progressing, ready) = (condition("Progressing")?, condition("Ready")?);
        let said = [&progressing.status, &progressing.reason, &ready.status, &ready.reason];
        told.insert(progressing.message.clone());
        if said == ["False", "RolledOut", "True", "Ready"] {
            // Looked at after the status: what is complete stays so.
            ensure!(is_rolled_out(namespace).await?, "told too early: {told:?}");
            return Ok(told);
        }
        ensure!(said == ["True", "RollingOut", "False", "RollingOut"], "{said:?}: {}", ready.message);
        ensure!(Instant::now() < deadline, "not rolled out: {told:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Watches the pods until only new ones are left; of those that are told to go there is one at a time.
/// Returns how long each took to go.
async fn one_at_a_time(namespace: &Namespace, old: &HashSet<String>) -> Result<Vec<Duration>> {
    let config = watcher::Config::default().labels("app.kubernetes.io/instance=live");
    let mut events = std::pin::pin!(watcher(namespace.api::<Pod>(), config));
    let (mut going, mut gone) = (Vec::<(String, Instant)>::new(), Vec::new());
    while gone.len() < old.len() {
        let event = timeout(Duration::from_secs(90), events.next()).await.context("no pod changes")?;
        match event.context("the watch ended")?? {
            Watched::Apply(pod) if pod.metadata.deletion_timestamp.is_some() => {
                let name = pod.name_any();
                ensure!(old.contains(&name), "{name} is new, and is told to go");
                if !going.iter().any(|(known, _)| *known == name) {
                    going.push((name, Instant::now()));
                }
                ensure!(going.len() <= 1, "several are told to go at once: {going:?}");
            }
            Watched::Delete(pod) => {
                let index = going.iter().position(|(known, _)| *known == pod.name_any());
                gone.push(going.remove(index.context("deleted, but was not told to go")?).1.elapsed());
            }
            _ => {}
        }
    }
    Ok(gone)
}

/// Waits until the status has counted everybody again.
async fn all_counted(namespace: &Namespace) -> Result<()> {
    eventually("all clients counted", Duration::from_secs(45), || async {
        let status = namespace.api::<SseGateway>().get("live").await?.status.context("a status")?;
        let counted = status.connections.and_then(|count| usize::try_from(count).ok());
        // It is not written for less.
        ensure!(counted.is_some_and(|count| count.abs_diff(CLIENTS) * 100 <= CLIENTS), "{counted:?}");
        Ok(())
    })
    .await
}

/// The most within one second, wherever that begins.
fn most_in_a_second(mut times: Vec<Instant>) -> usize {
    times.sort_unstable();
    let second = Duration::from_secs(1);
    let within = |(index, from): (usize, &Instant)| {
        times[index..].iter().take_while(|time| **time - *from < second).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or_default()
}

/// Compares what a client saw with what was acknowledged for it.
fn check(followed: &Followed, published: &[Published]) -> Result<()> {
    let (user, team) =
        (format!("user.user-{}", user(followed.client)), format!("topic.team.{}", team(followed.client)));
    let is_for =
        |event: &&Published| event.subject == "all" || event.subject == user || event.subject == team;
    let due: Vec<_> =
        published.iter().filter(is_for).map(|event| (event.sequence, event.data.clone())).collect();
    let wrong = followed.seen.iter().zip(&due).find(|(seen, due)| seen != due);
    ensure!(
        followed.seen == due,
        "client {}: {} of {} events, the first that is another: {wrong:?}",
        followed.client,
        followed.seen.len(),
        due.len()
    );
    // Each old pod can send it away once, and a new one never.
    let times = followed.came_back.len();
    ensure!((1..=PODS).contains(&times), "client {} came back {times} times", followed.client);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_clients_of_three_pods_come_through_a_rollout_one_pod_and_a_tenth_at_a_time()
-> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    alone_in_namespace("roll", async |namespace: &Namespace| {
        let patch = json!({"replicas": PODS, "drain": {"windowSeconds": WINDOW.as_secs()},
            "topics": {"public": ["team.*"]}, "expose": {"service": {"type": "NodePort"}}});
        namespace.gateway("live", patch).await?;
        let old: HashSet<String> = namespace.ready_pods("live").await?.into_iter().collect();
        ensure!(old.len() == PODS, "{old:?}");
        let door = Arc::new(Door::of(namespace).await?);
        leads_to_all(namespace, &door, &old).await?;
        let begun = Instant::now();
        let crowd = Crowd::enter(&door).await?;
        let opened = begun.elapsed();
        let spread = streams(namespace, &old).await?;
        let over = AtomicBool::new(false);
        let rollout = async {
            let begun = Instant::now();
            let changed = json!({"pod": {"annotations": {"rolled": "yes"}}});
            let generation = namespace.patch("live", changed).await?;
            let told = told_truly(namespace, generation).await?;
            Ok((told, begun.elapsed()))
        };
        // Over when the last old pod is gone, and the status has counted everybody again.
        let drains = async {
            let drains = one_at_a_time(namespace, &old).await?;
            all_counted(namespace).await?;
            over.store(true, Relaxed);
            Ok(drains)
        };
        let (followed, published, (told, took), drains) =
            try_join4(crowd.followed(), publish(namespace, &over), rollout, drains).await?;
        followed.iter().try_for_each(|client| check(client, &published))?;
        let deliveries: usize = followed.iter().map(|client| client.seen.len()).sum();
        let came_back: Vec<Instant> = followed.iter().flat_map(|client| client.came_back.clone()).collect();
        let (returns, most) = (came_back.len(), most_in_a_second(came_back));
        println!(
            "rollout: {CLIENTS} clients opened in {opened:.1?}, by pod {spread:?}; {} events, {deliveries} deliveries; rolled out \
             after {took:.1?}, pods went in {drains:.1?}; {returns} returns, {most} in a second at most; told {told:?}",
            published.len()
        );
        ensure!(most <= MOST_IN_A_SECOND, "{most} clients came back within one second");
        for new in 1..PODS {
            let count = format!("{new} of {PODS} pods are of this generation");
            ensure!(told.iter().any(|message| message.starts_with(&count)), "never told {count:?}: {told:?}");
        }
        Ok(())
    })
    .await
}
