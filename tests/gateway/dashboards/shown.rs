//! What the dashboards and alerts of the chart ask for is there, in a real Prometheus, and is what happened.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use sse_tests::collector::Collector;
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};
use sse_tests::prometheus::Prometheus;

use super::{board, files, list, queries, text};

const LABEL: &str = "app_kubernetes_io_instance";
/// What the operator has, and its labels: no operator runs here.
const OPERATOR: [&str; 9] = [
    "sse_operator_reconcile_duration_seconds_bucket",
    "sse_operator_reconcile_duration_seconds_count",
    "sse_operator_reconcile_duration_seconds_sum",
    "sse_operator_reconcile_errors_total",
    "sse_operator_gateways",
    "sse_operator_leader",
    "sse_operator_rollouts",
    "sse_operator_rollouts_waiting",
    "sse_operator_api_requests_total",
];
const OPERATOR_LABELS: [&str; 6] = ["__name__", "namespace", "le", "reason", "ready", "verb"];

/// As Grafana would send it.
fn sent(expression: &str, interval: &str) -> String {
    let expression = expression.replace("$__rate_interval", interval);
    expression.replace("$namespace", "shop|other").replace("$gateway", "live|other")
}

/// Metrics and matchers of each selector in an expression, as Prometheus reads it.
async fn selectors(prometheus: &Prometheus, expression: &str) -> Result<Vec<(String, Vec<Value>)>> {
    fn walk(node: &Value, found: &mut Vec<(String, Vec<Value>)>) {
        if ["vectorSelector", "matrixSelector"].contains(&text(&node["type"])) {
            found.push((text(&node["name"]).to_owned(), list(&node["matchers"]).to_vec()));
        }
        match node {
            Value::Array(nodes) => nodes.iter().for_each(|node| walk(node, found)),
            Value::Object(nodes) => nodes.values().for_each(|node| walk(node, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&prometheus.api("parse_query", &[("query", expression)]).await?, &mut found);
    ensure!(!found.is_empty(), "{expression} selects nothing");
    Ok(found)
}

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
            "telemetry": telemetry, "drain": {"windowSeconds": 4},
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

    /// The one value that a panel's first query shows, or that of the series with this label. Rates are per five minutes.
    async fn value(&self, panel: &str, label: Option<(&str, &str)>) -> Result<f64> {
        let boards = [board("overview")?, board("gateway")?];
        let all = boards.iter().flat_map(|board| list(&board["panels"]));
        let panel = all.into_iter().find(|one| text(&one["title"]) == panel).context("no such panel")?;
        let expression = sent(text(&panel["targets"][0]["expr"]), "300s");
        let series = self.prometheus.now(&expression).await?;
        let mut of =
            series.iter().filter(|(labels, _)| label.is_none_or(|(name, value)| labels[name] == value));
        let (_, value) = of.next().context("no series")?;
        ensure!(of.next().is_none(), "more than one series: {series:?}");
        let counts =
            expression.contains("rate(") && !expression.contains("/ sum") && !expression.contains("quantile");
        Ok(if counts { value * 300.0 } else { *value })
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
    for i in 0..3 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
        stays.event().await?;
    }
    eventually("the slot of the one that went", Duration::from_secs(5), || async {
        let open = first.status().await?["connections"].as_u64();
        ensure!(open == Some(1), "{open:?}");
        Ok(())
    })
    .await?;
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
        ("Streams that end", Some(("reason", "client")), 1.0),
        ("Events delivered", None, 31.0),
        ("Events replayed by pod", Some(("pod", "live-0")), 3.0),
        ("Share of replays", None, 3.0 / 31.0),
    ];
    for (panel, label, expected) in expected {
        let there = world.value(panel, label).await.with_context(|| format!("{panel} {label:?}"))?;
        // Ten scrapes and more: a rate is stretched over less than the eleventh.
        let near = expected * 0.9..=expected * 1.12;
        ensure!(near.contains(&there), "{panel} {label:?}: {there}, not {expected}");
    }
    let p99 = world.value("Latency, p99", None).await?;
    ensure!(p99 > 0.0 && p99 < 10.0, "latency {p99}");
    Ok(())
}

/// The exemplars of the latency are traces that the collector has.
async fn exemplars(world: &World) -> Result<()> {
    let board = board("overview")?;
    let traced: Vec<_> = list(&board["panels"]).iter().flat_map(|panel| list(&panel["targets"])).collect();
    let traced =
        traced.iter().find(|target| target["exemplar"] == true).context("no panel with exemplars")?;
    let expression = sent(text(&traced["expr"]), "300s");
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
            let query = sent(text(&of.context(variable)?["query"]["query"]), "");
            let query = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
            let (series, label) = query.and_then(|query| query.rsplit_once(", ")).context("label_values")?;
            let path = format!("label/{label}/values");
            let values = world.prometheus.api(&path, &[("match[]", series)]).await?;
            ensure!(values == json!([value]), "{name}, variable {variable}: {values}");
        }
    }
    Ok(())
}

/// Every query of the gateways' dashboards has an answer, none is empty by design; those of the operator ask for what there is.
async fn panels(world: &World, since: Instant) -> Result<()> {
    let (mut wrong, mut run) = (Vec::new(), 0);
    for name in ["overview", "gateway"] {
        for (title, expression) in queries(&board(name)?) {
            let shown = world.prometheus.shown(&sent(&expression, "5s"), since.elapsed()).await;
            run += 1;
            match shown {
                Ok(1..) => {}
                other => wrong.push(format!("{title}: {other:?} series, of {expression}")),
            }
        }
    }
    ensure!(wrong.is_empty() && run > 60, "{} of {run}:\n{}", wrong.len(), wrong.join("\n"));
    for (title, expression) in queries(&board("operator")?) {
        let found =
            selectors(&world.prometheus, &sent(&expression, "5s")).await.with_context(|| title.clone())?;
        for (metric, matchers) in found {
            operators(&metric, &matchers).with_context(|| title.clone())?;
        }
    }
    Ok(())
}

fn operators(metric: &str, matchers: &[Value]) -> Result<()> {
    ensure!(OPERATOR.contains(&metric), "{metric} is no metric of the operator");
    let labels: Vec<&str> = matchers.iter().map(|matcher| text(&matcher["name"])).collect();
    ensure!(labels.iter().all(|label| OPERATOR_LABELS.contains(label)), "{labels:?}");
    Ok(())
}

/// Every alert is evaluated, and each series that it asks for is there. Which fire when is tested by promtool.
async fn alerts(world: &World) -> Result<()> {
    let rules = eventually("every rule evaluated", Duration::from_secs(10), || async {
        let groups = world.prometheus.api("rules", &[]).await?;
        let rules: Vec<Value> =
            list(&groups["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect();
        let unwell: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
        ensure!(unwell.is_empty() && rules.len() >= 10, "{unwell:?} of {}", rules.len());
        Ok(rules)
    })
    .await?;
    for rule in rules {
        let name = text(&rule["name"]).to_owned();
        for (metric, matchers) in selectors(&world.prometheus, text(&rule["query"])).await? {
            if metric.starts_with("sse_operator_") {
                operators(&metric, &matchers).with_context(|| name.clone())?;
                continue;
            }
            let matchers: Vec<String> = matchers
                .iter()
                .filter(|matcher| matcher["name"] != "__name__")
                .map(|one| format!("{}{}{}", text(&one["name"]), text(&one["type"]), one["value"]))
                .collect();
            let selector = format!("{metric}{{{}}}", matchers.join(","));
            let there = world.prometheus.shown(&selector, Duration::from_secs(10)).await?;
            ensure!(there > 0, "{name}: there is no {selector}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_panel_shows_what_happened_and_every_alert_asks_for_what_is_there() -> Result<()> {
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
    alerts(&world).await?;
    // A rollout, as far as one pod sees it.
    world.pods[1].terminate()?;
    world.counted("sse_server_draining", 1.0).await?;
    panels(&world, began).await?;
    drop(streams);
    Ok(())
}
