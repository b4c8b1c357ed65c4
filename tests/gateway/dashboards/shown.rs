//! What the dashboards of the gateways ask for is there, in a real Prometheus, and is what happened; and a dot leads
//! to its trace. The operator's dashboard and the alerts are asked on a cluster.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::json;
use sse_tests::collector::Collector;
use sse_tests::dashboards::asked::{self, board, files};
use sse_tests::dashboards::read::{Chosen, list, text};
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};
use sse_tests::prometheus::Prometheus;

const LABEL: &str = "app_kubernetes_io_instance";
/// As Grafana would send it, with two choices in each variable.
const CHOSEN: Chosen = Chosen { namespace: "shop|other", gateway: "live|other", rate: "300s" };
/// No operator runs here.
const EMPTY: [(&str, &str); 2] = [
    ("SSE gateways / Overview: annotation Rollouts", "the operator tells of them"),
    ("SSE gateways / One gateway: annotation Rollouts", "the operator tells of them"),
];

/// Two pods of one gateway that Prometheus scrapes, with the labels that a `PodMonitor` gives.
struct World {
    nats: Nats,
    collector: Collector,
    pods: [Gateway; 2],
    prometheus: Prometheus,
}

impl World {
    async fn start() -> Result<Self> {
        let (nats, collector) = (Nats::start().await?, Collector::start().await?);
        let mut telemetry = collector.telemetry("grpc");
        telemetry["deliverySamplePercent"] = json!(100);
        let spec = json!({
            "telemetry": telemetry, "drain": {"windowSeconds": 4}, "publish": {"enabled": true},
            "limits": {"maxConnectionsPerUser": 2, "maxConnectionsPerPod": 50},
        });
        let start = || Gateway::start_unready(&nats, "shop/live", spec.clone());
        let pods = [start()?, start()?];
        for pod in &pods {
            pod.ready().await?;
        }
        let labels = |pod: &str| json!({"namespace": "shop", "pod": pod, LABEL: "live"});
        let targets = [(pods[0].admin, labels("live-0")), (pods[1].admin, labels("live-1"))];
        let prometheus = Prometheus::start(&targets, &files().join("alerts.yaml")).await?;
        let world = Self { nats, collector, pods, prometheus };
        // What is counted before the first scrape is in no rate.
        world.counted("sse_server_connections_limit", 100.0).await?;
        Ok(world)
    }

    /// Waits until a sum is scraped.
    async fn counted(&self, metric: &str, expected: f64) -> Result<()> {
        eventually(metric, Duration::from_secs(10), || async {
            let series = self.prometheus.now(&format!("sum({metric})")).await?;
            let (_, sum) = series.first().context("no series")?;
            ensure!((sum - expected).abs() < 0.5, "{sum}, not {expected}");
            Ok(())
        })
        .await
    }
}

/// Handshakes that succeed and fail, events live, replayed and refused: five streams stay open.
async fn load(world: &World) -> Result<Vec<sse_tests::client::Stream>> {
    let [first, second] = &world.pods;
    let publisher = world.nats.publisher().await?;
    let alice = first.client("acme", "alice");
    let (mut gone, mut stays) = (alice.open("").await?, alice.open("").await?);
    let path = format!("/api/v1/sse/stream?token={}", alice.token().await?);
    ensure!(alice.request(Method::GET, &path, &[]).await?.status == 429, "a third stream");
    ensure!(alice.request(Method::GET, "/api/v1/sse/stream?token=no", &[]).await?.status == 401, "no token");
    ensure!(alice.post("user.bob", &[], "hello").await?.status == 403, "she may not publish");
    let mut streams = Vec::new();
    for user in ["bob", "carol", "dave"] {
        streams.push(second.client("acme", user).open("").await?);
    }
    for i in 0..10 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
        gone.event().await?;
        stays.event().await?;
    }
    for i in 0..5 {
        publisher.publish("sse.acme.user.bob", &i.to_string()).await?;
        streams[0].event().await?;
    }
    let cursor = gone.last_id.clone();
    drop(gone);
    eventually("the slot of the one that went", Duration::from_secs(5), || async {
        let open = first.status().await?["connections"].as_u64();
        ensure!(open == Some(1), "{open:?}");
        Ok(())
    })
    .await?;
    for i in 0..3 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
        stays.event().await?;
    }
    let mut back = alice.open(&cursor).await?;
    for _ in 0..3 {
        back.event().await?;
    }
    publisher.publish("sse.acme.nowhere", "").await?;
    streams.extend([stays, back]);
    Ok(streams)
}

/// Panels against what the load did.
async fn numbers(world: &World) -> Result<()> {
    let result = |value| Some(("result", value));
    let expected = [
        ("Open streams", None, 5.0),
        ("Fullest pod", None, 3.0 / 50.0),
        ("Room", None, 95.0),
        ("Pods that can serve", None, 2.0),
        ("Draining pods", None, 0.0),
        ("Open streams by pod", Some(("pod", "live-1")), 3.0),
        ("NATS connected by pod", Some(("pod", "live-0")), 1.0),
        ("Connects by result", result("ok"), 6.0),
        ("Connects by result", result("user_limit"), 1.0),
        ("Connects by result", result("unauthorized"), 1.0),
        ("Connects by result", result("unavailable"), 0.0),
        ("Tokens by result", result("minted"), 7.0),
        ("Tokens by result", result("refused"), 1.0),
        ("Events posted", result("forbidden"), 1.0),
        ("Streams that end", Some(("reason", "client")), 1.0),
        ("Events delivered", None, 31.0),
        ("Events replayed by pod", Some(("pod", "live-0")), 3.0),
        ("Share of replays", None, 3.0 / 31.0),
    ];
    let boards = [board("overview")?, board("gateway")?];
    asked::numbers(&world.prometheus, &boards, CHOSEN, &expected).await?;
    let p99 = asked::value(&world.prometheus, &boards, ("Latency, p99", None), CHOSEN).await?;
    ensure!(p99 > 0.0 && p99 < 10.0, "latency {p99}");
    Ok(())
}

/// The exemplars of the latency are traces that the collector has.
async fn exemplars(world: &World) -> Result<()> {
    let board = board("overview")?;
    let traced: Vec<_> = list(&board["panels"]).iter().flat_map(|panel| list(&panel["targets"])).collect();
    let traced =
        traced.iter().find(|target| target["exemplar"] == true).context("no panel with exemplars")?;
    let expression = CHOSEN.sent(text(&traced["expr"]));
    eventually("an exemplar that is a trace", Duration::from_secs(10), || async {
        let range = [("query", expression.as_str()), ("start", "0"), ("end", "9999999999")];
        let found = world.prometheus.api("query_exemplars", &range).await?;
        let all = list(&found).iter().flat_map(|series| list(&series["exemplars"]));
        let traces: Vec<&str> = all.map(|exemplar| text(&exemplar["labels"]["trace_id"])).collect();
        let spans = world.collector.sink.spans();
        let has = |trace: &&str| spans.iter().any(|span| span.name == "sse.deliver" && span.trace == **trace);
        ensure!(
            !traces.is_empty() && traces.iter().all(has),
            "{traces:?} are not all among {} spans",
            spans.len()
        );
        Ok(())
    })
    .await
}

/// The choices that the variables offer.
async fn variables(world: &World) -> Result<()> {
    for name in ["overview", "gateway"] {
        let board = board(name)?;
        for (variable, value) in [("namespace", "shop"), ("gateway", "live")] {
            let of = list(&board["templating"]["list"]).iter().find(|one| one["name"] == variable);
            let query = CHOSEN.sent(text(&of.context(variable)?["query"]["query"]));
            let query = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
            let (series, label) = query.and_then(|query| query.rsplit_once(", ")).context("label_values")?;
            let path = format!("label/{label}/values");
            let values = world.prometheus.api(&path, &[("match[]", series)]).await?;
            ensure!(values == json!([value]), "{name}, variable {variable}: {values}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_panel_of_the_gateways_shows_what_happened() -> Result<()> {
    let world = World::start().await?;
    let began = Instant::now();
    let streams = load(&world).await?;
    for (metric, expected) in [
        ("sse_server_events_delivered_total", 31.0),
        ("sse_server_active_connections", 5.0),
        ("sse_server_connects_total", 8.0),
    ] {
        world.counted(metric, expected).await?;
    }
    eventually("ten scrapes of each pod", Duration::from_secs(20), || async {
        let scrapes = world.prometheus.now("min(count_over_time(sse_server_draining[5m]))").await?;
        ensure!(scrapes.first().is_some_and(|(_, count)| *count >= 10.0), "{scrapes:?}");
        Ok(())
    })
    .await?;
    numbers(&world).await?;
    variables(&world).await?;
    exemplars(&world).await?;
    // A rollout, as far as one pod sees it.
    world.pods[1].terminate()?;
    world.counted("sse_server_draining", 1.0).await?;
    let soon = Chosen { rate: "5s", ..CHOSEN };
    for name in ["overview", "gateway"] {
        let asked = asked::all_shown(&world.prometheus, &board(name)?, soon, began.elapsed(), &EMPTY).await?;
        ensure!(asked > 25, "{name} asks {asked} times");
    }
    drop(streams);
    Ok(())
}
