//! The operator as a control plane that survives: its leader killed, the API server gone, hundreds of
//! gateways at once, an upgrade of their image. What it does is done once, and by one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::cluster::{
    Namespace, RELEASE, SYSTEM, alone_in_namespace, apply, in_namespace, install, install_with, kubectl,
    manifest, prefix, run,
};
use sse_tests::eventually;
use sse_tests::jwt::KEY;

/// Ours of all gateways.
const OURS: &str = "app.kubernetes.io/managed-by=sse-operator";
const OPERATOR: &str = "app.kubernetes.io/component=operator";

/// The pod whose operator holds the Lease.
async fn leader(namespace: &Namespace) -> Result<String> {
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
async fn metric(namespace: &Namespace, pod: &str, name: &str) -> Result<u64> {
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
async fn versions(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    async fn of<K>(namespace: &Namespace, into: &mut BTreeMap<String, String>) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: DeserializeOwned,
    {
        for object in namespace.api::<K>().list(&ListParams::default().labels(OURS)).await? {
            let name = format!("{}/{}", K::kind(&()), object.name_any());
            into.insert(name, format!("{:?} {:?}", object.meta().uid, object.resource_version()));
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

/// Waits until another pod than `before` leads and has looked at so many gateways.
async fn taken_over(namespace: &Namespace, before: &str, looks: u64) -> Result<String> {
    eventually("another leader at work", Duration::from_secs(40), || async {
        let now = leader(namespace).await?;
        ensure!(now != before, "{before} still leads");
        ensure!(metric(namespace, &now, "sse_operator_leader").await? == 1, "{now} does not know it");
        let seen = metric(namespace, &now, "sse_operator_reconcile_duration_seconds_count").await?;
        ensure!(seen >= looks, "{now} has looked {seen} times");
        Ok(now)
    })
    .await
}

async fn operators_ready() -> Result<()> {
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
            for pod in pods.list(&ListParams::default().labels(OPERATOR)).await? {
                let (name, role) = (pod.name_any(), ask(namespace, &pod.name_any(), "readyz").await?);
                ensure!(role.contains("leader") == (name == old), "{name} says {role}, {old} leads");
            }
            let began = Instant::now();
            pods.delete(&old, &DeleteParams::default().grace_period(grace)).await?;
            let new = taken_over(namespace, &old, 3).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_reads_no_secret_and_touches_no_lease_but_its_own() -> Result<()> {
    in_namespace("rights", async |namespace: &Namespace| {
        let may = async |what: &[&str]| {
            let account = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
            let ask = [&["auth", "can-i", "--as", &account], what].concat();
            // It answers by its exit code, too.
            run("kubectl", &ask).await.is_ok_and(|answer| answer.trim() == "yes")
        };
        let here = namespace.name.as_str();
        for verb in ["get", "list", "watch", "create", "patch", "update", "delete"] {
            ensure!(!may(&[verb, "secrets", "--all-namespaces"]).await, "{verb} secrets");
            ensure!(!may(&[verb, "secrets", "-n", SYSTEM]).await, "{verb} secrets");
            ensure!(!may(&[verb, "leases.coordination.k8s.io", "-n", here]).await, "{verb} leases");
        }
        ensure!(!may(&["update", "leases.coordination.k8s.io/another", "-n", SYSTEM]).await);
        ensure!(may(&["update", &format!("leases.coordination.k8s.io/{RELEASE}"), "-n", SYSTEM]).await);
        ensure!(may(&["list", "ssegateways.ssegateway.io", "-n", here]).await);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_live_side_by_side_and_a_log_has_one_owner() -> Result<()> {
    alone_in_namespace("side", async |one: &Namespace| {
        let name = format!("{}-b", one.name);
        kubectl(&["create", "namespace", &name]).await?;
        let two = Namespace { name, client: one.client.clone() };
        let outcome = side_by_side(one, &two).await;
        kubectl(&["delete", "namespace", &two.name, "--wait=false"]).await?;
        outcome
    })
    .await
}

async fn side_by_side(one: &Namespace, two: &Namespace) -> Result<()> {
    let key: Secret =
        serde_json::from_value(json!({"metadata": {"name": "jwt"}, "stringData": {"key": KEY}}))?;
    two.api::<Secret>().create(&PostParams::default(), &key).await?;
    let single = json!({"replicas": 1});
    // Its ServiceAccount must not be taken for the one that every namespace has.
    one.gateway("default", single.clone()).await?;
    two.gateway("live", single.clone()).await?;
    // The log of the first gateway, by its prefix.
    apply(&manifest(&one.name, "second", single)).await?;
    eventually("the owner of the log named", Duration::from_mins(1), || async {
        let (status, reason, message) = one.condition("second", "Ready").await?;
        ensure!(status == "False" && reason == "StreamOwned", "{status} {reason} {message}");
        ensure!(message.contains("default"), "{message}");
        Ok(())
    })
    .await?;
    one.wait_ready("default").await?;
    // Its own log, and it is well.
    let other = json!({"spec": {"nats": {"subjectPrefix": format!("{}_2", prefix(&two.name))}}});
    kubectl(&["-n", &one.name, "delete", "ssegateway", "second"]).await?;
    let mut third = manifest(&one.name, "third", json!({"replicas": 1}));
    sse_tests::process::merge(&mut third, other);
    apply(&third).await?;
    one.wait_ready("third").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_deleted_without_an_operator_takes_all_its_children_along() -> Result<()> {
    alone_in_namespace("orphan", async |namespace: &Namespace| {
        namespace.gateway("live", json!({"replicas": 1})).await?;
        ensure!(versions(namespace).await?.len() >= 4, "{:?}", versions(namespace).await?);
        let deployment = format!("deployment/{RELEASE}");
        kubectl(&["-n", SYSTEM, "scale", &deployment, "--replicas=0"]).await?;
        let outcome = async {
            kubectl(&["-n", SYSTEM, "wait", "--for=delete", "pod", "-l", OPERATOR, "--timeout=60s"]).await?;
            kubectl(&["-n", &namespace.name, "delete", "ssegateway", "live"]).await?;
            eventually("no child", Duration::from_mins(1), || async {
                let mut left = versions(namespace).await?;
                left.retain(|name, _| !name.starts_with("Event/"));
                let pods = namespace.api::<Pod>().list(&ListParams::default()).await?;
                ensure!(left.is_empty() && pods.items.is_empty(), "{left:?}, {} pods", pods.items.len());
                Ok(())
            })
            .await
        }
        .await;
        kubectl(&["-n", SYSTEM, "scale", &deployment, "--replicas=2"]).await?;
        operators_ready().await?;
        outcome
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_deleted_without_a_warning() -> Result<()> {
    alone_in_namespace("gone", async |namespace: &Namespace| {
        let name = format!("{}-b", namespace.name);
        kubectl(&["create", "namespace", &name]).await?;
        apply(&manifest(&name, "live", json!({"replicas": 0}))).await?;
        let there = Namespace { name: name.clone(), client: namespace.client.clone() };
        there.resting("live").await?;
        kubectl(&["delete", "namespace", &name, "--timeout=90s"]).await?;
        // What the operator does after it has seen all of that.
        apply(&manifest(&namespace.name, "after", json!({"replicas": 0}))).await?;
        namespace.resting("after").await?;
        let logs = kubectl(&["-n", SYSTEM, "logs", &leader(namespace).await?]).await?;
        let told: Vec<_> =
            logs.lines().filter(|line| line.contains(&name) && line.contains("WARN")).collect();
        ensure!(told.is_empty(), "{told:?}");
        Ok(())
    })
    .await
}

/// How a gateway's rollout goes: whether its pods are the new ones, whether they are about to be, whether
/// it waits, whether it is ready.
#[derive(Debug)]
struct Going {
    new: bool,
    rolling: bool,
    waits: bool,
    ready: bool,
}

async fn going(namespace: &Namespace, gateway: &str, policy: &str) -> Result<Going> {
    let deployment = namespace.api::<Deployment>().get(gateway).await?;
    let declared = namespace.api::<SseGateway>().get(gateway).await?;
    let conditions = declared.status.map(|status| status.conditions).unwrap_or_default();
    let spec = deployment.spec.context("a spec")?;
    let pod = spec.template.spec.context("a pod")?;
    let status = deployment.status.unwrap_or_default();
    let all = spec.replicas.unwrap_or(1);
    let complete = status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(all); 3];
    Ok(Going {
        new: pod.containers[0].image_pull_policy.as_deref() == Some(policy),
        rolling: !complete,
        waits: conditions.iter().any(|c| c.type_ == "Progressing" && c.reason == "WaitingForRollout"),
        ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
    })
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
        install_with("helm", &["--set", "podAnnotations.restarted=yes"]).await?;
        let new = leader(namespace).await?;
        taken_over(namespace, "", NAMES.len() as u64).await?;
        ensure!(versions(namespace).await? == before, "{new} changed {before:?}");

        // The pull policy stands for an image: it is part of the same default.
        let policy = "Never";
        let began = Instant::now();
        let upgrade = async {
            install_with("helm", &["--set", "podAnnotations.restarted=yes,gatewayImage.pullPolicy=Never"]).await
        };
        let (_, order) = try_join(upgrade, one_after_the_other(namespace, &NAMES, policy)).await?;
        println!("upgraded one after the other, {order:?}, in {:?}", began.elapsed());
        install("helm").await
    })
    .await
}

/// Follows an upgrade to its end; returns the order in which the gateways got their new pods.
async fn one_after_the_other(
    namespace: &Namespace,
    names: &[&'static str],
    policy: &str,
) -> Result<Vec<&'static str>> {
    let (mut waited, mut order) = (0, Vec::new());
    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        let mut all = Vec::new();
        for name in names {
            let going = going(namespace, name, policy).await?;
            if going.new && !order.contains(name) {
                order.push(*name);
            }
            waited += usize::from(going.waits);
            ensure!(going.new || going.ready, "{name} waits and is not ready: {going:?}");
            all.push(going);
        }
        ensure!(all.iter().filter(|going| going.rolling).count() <= 1, "several at once: {all:?}");
        if all.iter().all(|going| going.new && !going.rolling && going.ready && !going.waits) {
            ensure!(waited > 0, "nobody said that it waits");
            return Ok(order);
        }
        if Instant::now() >= deadline {
            bail!("not rolled out: {all:?}");
        }
    }
}
