//! The operator as a control plane that survives: its leader killed, the API server gone, hundreds of
//! gateways at once. What it does is done once, and by one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::cluster::{Namespace, RELEASE, SYSTEM, alone_in_namespace, apply, kubectl, manifest, run};
use sse_tests::eventually;

/// Ours of all gateways.
pub const OURS: &str = "app.kubernetes.io/managed-by=sse-operator";
pub const OPERATOR: &str = "app.kubernetes.io/component=operator";

/// The pod whose operator holds the Lease.
pub async fn leader(namespace: &Namespace) -> Result<String> {
    let leases = Api::<Lease>::namespaced(namespace.client.clone(), SYSTEM);
    let holder = leases.get(RELEASE).await?.spec.and_then(|spec| spec.holder_identity);
    let holder = holder.context("nobody holds the Lease")?;
    let (pod, _) = holder.rsplit_once('_').context("a pod and a number")?;
    Ok(pod.to_owned())
}

/// What an operator answers at a path.
async fn ask(namespace: &Namespace, pod: &str, path: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/{path}");
    let request = hyper::Request::get(path).body(Vec::new())?;
    Ok(namespace.client.request_text(request).await?)
}

/// The value of a metric of an operator.
pub async fn metric(namespace: &Namespace, pod: &str, name: &str) -> Result<u64> {
    let text = ask(namespace, pod, "metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.with_context(|| format!("no {name} in {text}"))?.parse().context("a count")
}

/// Requests of an operator since its start, by verb.
async fn requests(namespace: &Namespace, pod: &str) -> Result<BTreeMap<String, u64>> {
    let text = ask(namespace, pod, "metrics").await?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("sse_operator_api_requests_total{verb=\""));
    lines
        .map(|line| {
            let (verb, count) = line.split_once("\"} ").context("a verb and a count")?;
            Ok((verb.to_owned(), count.parse()?))
        })
        .collect()
}

/// Which version every object of ours in a namespace has.
pub async fn versions(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    async fn of<K>(namespace: &Namespace, into: &mut BTreeMap<String, String>) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: DeserializeOwned,
    {
        for object in namespace.api::<K>().list(&ListParams::default().labels(OURS)).await? {
            let name = format!("{}/{}", K::kind(&()), object.name_any());
            let meta = object.meta();
            // A Deployment's own status moves on by itself; what it has to be does not.
            let version = meta.generation.map_or_else(|| object.resource_version(), |n| Some(n.to_string()));
            into.insert(name, format!("{:?} {version:?} {:?} {:?}", meta.uid, meta.labels, meta.annotations));
        }
        Ok(())
    }
    let mut versions = BTreeMap::new();
    of::<Deployment>(namespace, &mut versions).await?;
    of::<Service>(namespace, &mut versions).await?;
    of::<ServiceAccount>(namespace, &mut versions).await?;
    of::<ConfigMap>(namespace, &mut versions).await?;
    for event in namespace.api::<Event>().list(&ListParams::default()).await? {
        if event.reporting_controller.as_deref() == Some("sse-operator") {
            versions.insert(format!("Event/{}", event.name_any()), format!("{:?}", event.resource_version()));
        }
    }
    Ok(versions)
}

/// Waits until a pod that is none of `before` leads and has looked at so many gateways.
pub async fn taken_over(namespace: &Namespace, before: &[String], looks: u64) -> Result<String> {
    eventually("another leader at work", Duration::from_secs(40), || async {
        let now = leader(namespace).await?;
        ensure!(!before.contains(&now), "{now} still leads");
        ensure!(metric(namespace, &now, "sse_operator_leader").await? == 1, "{now} does not know it");
        let seen = metric(namespace, &now, "sse_operator_reconcile_duration_seconds_count").await?;
        ensure!(seen >= looks, "{now} has looked {seen} times");
        Ok(now)
    })
    .await
}

/// Names of the operators' pods.
pub async fn operators(namespace: &Namespace) -> Result<Vec<String>> {
    let pods = Api::<Pod>::namespaced(namespace.client.clone(), SYSTEM);
    let pods = pods.list(&ListParams::default().labels(OPERATOR)).await?;
    Ok(pods.iter().map(ResourceExt::name_any).collect())
}

pub async fn operators_ready() -> Result<()> {
    let deployment = format!("deployment/{RELEASE}");
    kubectl(&["-n", SYSTEM, "rollout", "status", &deployment, "--timeout=90s"]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_killed_is_followed_by_the_other_and_nothing_is_done_twice() -> Result<()> {
    alone_in_namespace("leader", async |namespace: &Namespace| {
        namespace.gateway("live", json!({"replicas": 1})).await?;
        for name in ["zero", "nil"] {
            apply(&manifest(&namespace.name, name, json!({"replicas": 0}))).await?;
            namespace.resting(name).await?;
        }
        let pods = Api::<Pod>::namespaced(namespace.client.clone(), SYSTEM);
        for (how, grace, within) in [("killed", 0, 25), ("told to end", 30, 10)] {
            operators_ready().await?;
            let old = leader(namespace).await?;
            let (ready, before) = (namespace.ready_pods("live").await?, versions(namespace).await?);
            for name in operators(namespace).await? {
                let role = ask(namespace, &name, "readyz").await?;
                ensure!(role.contains("leader") == (name == old), "{name} says {role}, {old} leads");
            }
            let began = Instant::now();
            pods.delete(&old, &DeleteParams::default().grace_period(grace)).await?;
            let new = taken_over(namespace, std::slice::from_ref(&old), 3).await?;
            let took = began.elapsed();
            println!("leader {how}: another had looked at all gateways after {took:?}");
            ensure!(took < Duration::from_secs(within), "{how}: {took:?}");
            ensure!(versions(namespace).await? == before, "{before:?} {:?}", versions(namespace).await?);
            ensure!(namespace.ready_pods("live").await? == ready, "pods were replaced");
            // It works: what is deleted comes back.
            namespace.api::<Service>().delete("zero", &DeleteParams::default()).await?;
            eventually("the Service again", Duration::from_secs(10), || async {
                Ok(namespace.api::<Service>().get("zero").await.map(drop)?)
            })
            .await?;
            ensure!(leader(namespace).await? == new, "the Lease went on");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_was_taken_ends_at_once_with_an_error() -> Result<()> {
    alone_in_namespace("taken", async |namespace: &Namespace| {
        operators_ready().await?;
        let old = leader(namespace).await?;
        let pods = Api::<Pod>::namespaced(namespace.client.clone(), SYSTEM);
        let container = async || {
            let statuses = pods.get(&old).await?.status.and_then(|status| status.container_statuses);
            statuses.and_then(|mut statuses| statuses.pop()).context("a container")
        };
        let leading = container().await?.container_id;
        let taken = json!({"spec": {"holderIdentity": "another_0"}}).to_string();
        kubectl(&["-n", SYSTEM, "patch", "lease", RELEASE, "--type=merge", "-p", &taken]).await?;
        let began = Instant::now();
        let exit_code = eventually("the end of the leader", Duration::from_secs(10), || async {
            let container = container().await?;
            let ended = [container.last_state, container.state]
                .into_iter()
                .flatten()
                .filter_map(|state| state.terminated)
                .find(|ended| ended.container_id == leading);
            Ok(ended.context("it goes on")?.exit_code)
        })
        .await?;
        println!("a leader whose Lease was taken ended with {exit_code} after {:?}", began.elapsed());
        ensure!(exit_code == 1, "{exit_code}");
        // Its log is the one before only when it was started again.
        let logs = eventually("the log of the leader", Duration::from_mins(1), || async {
            kubectl(&["-n", SYSTEM, "logs", &old, "--previous"]).await
        })
        .await?;
        ensure!(logs.contains("another_0 holds it"), "{logs}");
        // The other never renews it: one of ours has it again, and works.
        let new = taken_over(namespace, &["another".into()], 0).await?;
        println!("{new} led again after {:?}", began.elapsed());
        apply(&manifest(&namespace.name, "live", json!({"replicas": 0}))).await?;
        namespace.resting("live").await
    })
    .await
}

/// The folder of the cluster that this test runs on, if it is a node of our own.
fn own_node() -> Option<PathBuf> {
    let root = PathBuf::from(std::env::var_os("KUBECONFIG")?).parent()?.to_path_buf();
    root.join("run/apiserver.pid").exists().then_some(root)
}

/// Kills the API server by force, and returns when it serves again.
async fn api_server_killed() -> Result<()> {
    let kind = "sse-test-control-plane";
    match own_node() {
        Some(root) => {
            let recorded = std::fs::read_to_string(root.join("run/apiserver.pid"))?;
            let pid = recorded.split_whitespace().next().context("a process id")?;
            run("kill", &["-KILL", pid]).await?;
            let up = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/up.sh");
            let name = root.file_name().context("a name")?.to_string_lossy().into_owned();
            run("env", &["-u", "FRESH", &up.to_string_lossy(), &name]).await?;
        }
        // The kubelet of kind starts it again.
        None => {
            run("docker", &["exec", kind, "pkill", "-KILL", "kube-apiserver"]).await?;
        }
    }
    eventually("the API server", Duration::from_mins(1), || async {
        kubectl(&["get", "--raw", "/readyz"]).await
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_killed_is_waited_for_and_work_goes_on_by_itself() -> Result<()> {
    alone_in_namespace("apiserver", async |namespace: &Namespace| {
        namespace.gateway("live", json!({"replicas": 1})).await?;
        operators_ready().await?;
        let (ready, before) = (namespace.ready_pods("live").await?, versions(namespace).await?);
        let began = Instant::now();
        api_server_killed().await?;
        let away = began.elapsed();
        // By a change that only the watch of the gateways, and one that only a watch of children, tells.
        namespace.patch("live", json!({"expose": {"service": {"annotations": {"a": "b"}}}})).await?;
        let services = namespace.api::<Service>();
        eventually("the change carried out", Duration::from_mins(1), || async {
            ensure!(services.get("live").await?.annotations().contains_key("a"), "not yet");
            Ok(())
        })
        .await?;
        services.delete("live", &DeleteParams::default()).await?;
        eventually("the Service again", Duration::from_mins(1), || async {
            Ok(services.get("live").await.map(drop)?)
        })
        .await?;
        println!("API server killed: back after {away:?}, caught up after {:?}", began.elapsed());
        let after = versions(namespace).await?;
        let changed: Vec<_> =
            before.iter().filter(|(name, version)| after.get(*name) != Some(version)).collect();
        // The generation in the Deployment's annotation, and the Service itself.
        let expected = |name: &str| matches!(name, "Service/live" | "Deployment/live");
        ensure!(changed.iter().all(|(name, _)| expected(name)), "{changed:?} {after:?}");
        ensure!(namespace.ready_pods("live").await? == ready, "pods were replaced");
        let table = kubectl(&["-n", SYSTEM, "get", "pods", "-l", OPERATOR]).await?;
        println!("{table}");
        // Nobody stumbled: a leader that could not renew in time may have ended itself, and says so.
        for pod in table.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
            let previous = kubectl(&["-n", SYSTEM, "logs", pod, "--previous"]).await.unwrap_or_default();
            ensure!(previous.is_empty() || previous.contains("the Lease is lost"), "{pod}: {previous}");
            ensure!(!previous.contains("panicked"), "{pod}: {previous}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_gateways_declared_at_once_settle_and_then_cost_next_to_nothing() -> Result<()> {
    const MANY: usize = 200;
    alone_in_namespace("many", async |namespace: &Namespace| {
        namespace.gateway("live", json!({"replicas": 2})).await?;
        let operator = leader(namespace).await?;
        let before = requests(namespace, &operator).await?;
        let items: Vec<_> = (0..MANY)
            .map(|i| manifest(&namespace.name, &format!("many-{i}"), json!({"replicas": 0})))
            .collect();
        let began = Instant::now();
        apply(&json!({"apiVersion": "v1", "kind": "List", "items": items})).await?;
        let declared = began.elapsed();
        let settled = || async {
            let gateways = namespace.api::<SseGateway>().list(&ListParams::default()).await?;
            let deployments = namespace.api::<Deployment>().list(&ListParams::default().labels(OURS)).await?;
            let told = gateways.iter().filter(|gateway| {
                let status = gateway.status.as_ref();
                status.is_some_and(|status| status.conditions.iter().any(|c| c.reason == "RolledOut"))
            });
            let (told, made) = (told.count(), deployments.items.len());
            ensure!(told > MANY && made > MANY, "{told} told, {made} made");
            Ok(())
        };
        eventually("all settled", Duration::from_mins(4), settled).await?;
        let after = requests(namespace, &operator).await?;
        let spent: BTreeMap<_, _> = after.iter().map(|(verb, count)| (verb, count - before[verb])).collect();
        println!(
            "{MANY} gateways: declared in {declared:?}, settled after {:?}, requests {spent:?}",
            began.elapsed()
        );

        // A minute in which nothing happens: the two running pods are asked, the API server hardly.
        let quiet = quiet_minute(namespace, &operator).await?;
        println!("a quiet minute with {} gateways: {quiet:?}", MANY + 1);
        let (reads, patches) = (quiet["read"], quiet["patch"] + quiet["create"]);
        ensure!(reads < 20 && patches < 5, "{quiet:?}");
        Ok(())
    })
    .await
}

/// Requests of a minute in which nothing was written.
async fn quiet_minute(namespace: &Namespace, operator: &str) -> Result<BTreeMap<String, u64>> {
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    let deadline = Instant::now() + Duration::from_mins(5);
    let (mut since, mut first) = (Instant::now(), requests(namespace, operator).await?);
    loop {
        looks.tick().await;
        let now = requests(namespace, operator).await?;
        if now["patch"] != first["patch"] {
            ensure!(Instant::now() < deadline, "it is still writing: {now:?}");
            (since, first) = (Instant::now(), now);
        } else if since.elapsed() >= Duration::from_mins(1) {
            return Ok(now.iter().map(|(verb, count)| (verb.clone(), count - first[verb])).collect());
        }
    }
}
