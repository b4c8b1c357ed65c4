//! A real Prometheus scrapes gateways and operators in the cluster, under a load that comes through the Service. All that
//! the dashboards and the alerts ask for is there, much of it is what the load knows, and every panel can be drawn.
//!
//! With `SSE_PICTURES` naming a folder the load goes on for minutes, and the pictures go there.

mod load;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::cluster::monitor::{LABELS, monitored};
use sse_tests::cluster::{Namespace, SYSTEM, alone_in_namespace, apply, manifest, prefix};
use sse_tests::dashboards::asked::{alerts, all_shown, board, numbers};
use sse_tests::dashboards::read::Chosen;
use sse_tests::dashboards::recorded::{drawn, recorded};
use sse_tests::eventually;
use sse_tests::pages::documented;
use sse_tests::pages::shell::Shell;
use sse_tests::prometheus::Prometheus;

use super::operator::operators_ready;
use load::{Known, Scene};

/// What has no value though all is well, and why.
const EMPTY: [(&str, &str); 0] = [];
const PANELS: [(&str, usize); 3] = [("overview", 24), ("gateway", 39), ("operator", 11)];

/// Two gateways: one of two pods, and a smaller one with a log of its own.
async fn gateways(namespace: &Namespace) -> Result<()> {
    let spec = |replicas: u32, prefix: &str| {
        let monitor = json!([{"podSelector": {"matchLabels": {LABELS.0: LABELS.1}}}]);
        json!({
            "replicas": replicas, "nats": {"subjectPrefix": prefix}, "expose": {"service": {"type": "NodePort"}},
            "networkPolicy": {"metricsFrom": monitor}, "drain": {"windowSeconds": 4},
            "limits": {
                "maxConnectionsPerPod": load::ROOM, "maxConnectionsPerUser": load::OF_A_USER,
                "overflowPolicy": "DropOldest", "writeTimeoutSeconds": 10,
            },
        })
    };
    let prefix = prefix(&namespace.name);
    let news = spec(1, &format!("{prefix}_news"));
    apply(&manifest(&namespace.name, "news", news)).await?;
    namespace.gateway("live", spec(2, &prefix)).await?;
    namespace.wait_ready("news").await
}

/// Waits until a sum is scraped.
async fn counted(prometheus: &Prometheus, sum: &str, expected: f64) -> Result<()> {
    eventually(sum, Duration::from_secs(20), || async {
        let series = prometheus.now(&format!("sum({sum})")).await?;
        let (_, there) = series.first().context("no series")?;
        ensure!((there - expected).abs() < 0.5, "{there}, not {expected}");
        Ok(())
    })
    .await
}

/// The page's own question has an answer. The Prometheus of this cluster is a pod, without a Service.
async fn asked_by_hand(namespace: &Namespace) -> Result<()> {
    let shell = Shell::of(&documented(file!())?)?.with("-n monitoring", &format!("-n {}", namespace.name));
    let shell = shell.with("service/prometheus-operated", "pod/prometheus").with(":9090 &", ":8080 &");
    let told = shell.run().await?.printed;
    ensure!(told.contains(r#""app_kubernetes_io_instance":"live""#), "{told}");
    Ok(())
}

/// Panels of the gateways against what the load did, and of the operator against what the API server has.
async fn known(namespace: &Namespace, prometheus: &Prometheus, known: &Known) -> Result<()> {
    let chosen = Chosen { namespace: &namespace.name, gateway: "live", rate: "300s" };
    let boards = [board("overview")?, board("gateway")?];
    let told = numbers(prometheus, &boards, chosen, &known.expected()).await?;
    println!("{}", told.join("\n"));

    // Gateways of other tests may still be going.
    let told = eventually("a true count of the gateways", Duration::from_secs(30), || async {
        let (ready, unready) = declared(namespace).await?;
        let expected = [
            ("Leaders", None, 1.0),
            ("Gateways ready", None, ready),
            ("Gateways not ready", None, unready),
            ("Rollouts that wait", None, 0.0),
        ];
        numbers(prometheus, &[board("operator")?], operators("300s"), &expected).await
    })
    .await?;
    println!("{}", told.join("\n"));
    Ok(())
}

/// Gateways that are ready, and that are not, as the API server has them.
async fn declared(namespace: &Namespace) -> Result<(f64, f64)> {
    let gateways = Api::<SseGateway>::all(namespace.client.clone()).list(&ListParams::default()).await?;
    let is_ready = |gateway: &&SseGateway| {
        let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let ready = gateways.iter().filter(is_ready).count();
    Ok((f64::from(u32::try_from(ready)?), f64::from(u32::try_from(gateways.items.len() - ready)?)))
}

fn operators(rate: &str) -> Chosen<'_> {
    Chosen { namespace: SYSTEM, gateway: "", rate }
}

/// Asks for every panel of these last seconds, and draws it.
async fn pictures(
    namespace: &Namespace,
    prometheus: &Prometheus,
    scene: &Scene,
    last: Duration,
) -> Result<()> {
    std::fs::create_dir_all(&scene.pictures)?;
    try_join_all(PANELS.map(async |(name, panels)| {
        let gateways = Chosen { namespace: &namespace.name, gateway: "live", rate: scene.rate };
        let chosen = match name {
            "operator" => operators(scene.rate),
            "overview" => Chosen { gateway: "live|news", ..gateways },
            _ => gateways,
        };
        let (board, picture) = (board(name)?, scene.pictures.join(format!("{name}.png")));
        let asked = all_shown(prometheus, &board, chosen, last, &EMPTY).await?;
        let recorded = recorded(prometheus, &board, chosen, last, &EMPTY).await?;
        let drawn = drawn(&recorded, &picture).await?;
        println!("{name}: {asked} queries, {drawn} panels in {}", picture.display());
        ensure!(drawn == panels, "{name} has {panels} panels, {drawn} were drawn");
        Ok(())
    }))
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_in_the_cluster_has_what_every_panel_and_alert_asks_for() -> Result<()> {
    let scene = Scene::new(std::env::var_os("SSE_PICTURES").map(PathBuf::from));
    alone_in_namespace("shop", async |namespace: &Namespace| {
        operators_ready().await?;
        monitored(namespace, async |prometheus: Prometheus| {
            gateways(namespace).await?;
            // What is counted before the first scrape is in no rate.
            let pods = "sse_server_connections_limit";
            counted(&prometheus, pods, f64::from(3 * load::ROOM)).await?;
            asked_by_hand(namespace).await?;
            let began = Instant::now();
            let (facts, streams) = load::known(namespace).await?;
            counted(&prometheus, "sse_server_events_delivered_total", facts.delivered).await?;
            counted(&prometheus, "sse_server_active_connections", facts.open).await?;
            eventually("ten scrapes of each pod", Duration::from_secs(20), || async {
                let scrapes = prometheus.now("min(count_over_time(sse_server_draining[5m]))").await?;
                ensure!(scrapes.first().is_some_and(|(_, count)| *count >= 10.0), "{scrapes:?}");
                Ok(())
            })
            .await?;
            known(namespace, &prometheus, &facts).await?;
            println!("{} alerts ask for what there is", alerts(&prometheus).await?);
            drop(streams);
            load::play(namespace, &scene).await?;
            pictures(namespace, &prometheus, &scene, began.elapsed()).await
        })
        .await
    })
    .await
}
