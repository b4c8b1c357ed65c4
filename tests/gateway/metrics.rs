//! The metrics of a gateway are what docs/telemetry.md says, scraped or pushed, and count what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::collector::Collector;
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};

/// The rows of the table in the documentation that begins with this column.
pub fn table(column: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../docs/telemetry.md");
    let head = format!("| {column} |");
    let rows = text.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.trim().to_owned();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

/// What stands in backticks.
pub fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The value of a series, by its whole name.
pub fn value(text: &str, series: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = line.with_context(|| format!("no {series} in\n{text}"))?;
    Ok(value.split(' ').next().context("a value")?.parse()?)
}

/// Name, and values of its labels, of every series of a kind; those of histograms by their base.
fn series(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, BTreeSet<String>>) {
    let mut types = BTreeMap::new();
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let name = match kind {
                "counter" => format!("{}_total", name.trim_end_matches("_total")),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            types.insert(name, kind.to_owned());
        } else if let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let name = name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
            let pairs = rest.split('}').next().unwrap_or_default().split(',');
            let pairs = pairs.filter(|pair| !pair.starts_with("le=") && !pair.starts_with("version="));
            labels.entry(name.to_owned()).or_default().extend(pairs.map(|pair| pair.replace('"', "")));
        }
    }
    labels.retain(|_, values| !values.is_empty());
    (types, labels)
}

#[tokio::test]
async fn every_metric_is_documented_with_its_type_and_labels_and_every_documented_one_is_there() -> Result<()>
{
    let (nats, collector) = (Nats::start().await?, Collector::start().await?);
    let gateway = Gateway::start(&nats, json!({"telemetry": collector.telemetry("http")})).await?;
    let (types, labels) = series(&gateway.get("/metrics").await?.1);
    let documented: BTreeMap<String, String> =
        table("Metric | Type").iter().map(|row| (quoted(&row[0]).remove(0), row[1].clone())).collect();
    assert_eq!(types, documented);
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table("Metric | Label") {
        let (name, label) = (quoted(&row[0]).remove(0), quoted(&row[1]).remove(0));
        values.insert(name, quoted(&row[2]).iter().map(|value| format!("{label}={value}")).collect());
    }
    assert_eq!(labels, values);

    // What a collector makes of what is pushed has the same names. A histogram is there with its first value.
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    nats.publisher().await?.publish("sse.acme.user.alice", "event").await?;
    stream.event().await?;
    drop(stream);
    eventually("the same metrics at the collector", Duration::from_secs(40), || async {
        let (pushed, _) = series(&collector.metrics().await?);
        let missing: Vec<_> = documented.keys().filter(|name| !pushed.contains_key(*name)).collect();
        // What runs is in the resource there.
        ensure!(missing == ["sse_server_build_info"], "{missing:?} of {pushed:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn metrics_count_what_happened() -> Result<()> {
    let nats = Nats::start().await?;
    let limits = json!({"limits": {"maxConnectionsPerUser": 2, "maxConnectionsPerPod": 50}});
    let gateway = Gateway::start(&nats, limits).await?;
    let publisher = nats.publisher().await?;
    let client = gateway.client("acme", "alice");
    let (mut first, mut second) = (client.open("").await?, client.open("").await?);
    let path = format!("/api/v1/sse/stream?token={}", client.token().await?);
    assert_eq!(client.request(hyper::Method::GET, &path, &[]).await?.status, 429);
    assert_eq!(client.request(hyper::Method::GET, "/api/v1/sse/stream?token=no", &[]).await?.status, 401);
    for i in 0..10 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
    }
    let mut cursor = String::new();
    for _ in 0..10 {
        cursor = first.event().await?.id;
        second.event().await?;
    }
    drop(first);
    // Before it has gone it would be sent the next events, too.
    eventually("the slot of the first", Duration::from_secs(5), || async {
        let text = gateway.get("/metrics").await?.1;
        let open = value(&text, "sse_server_active_connections")?;
        ensure!(open < 2.0, "{open}");
        Ok(())
    })
    .await?;
    for i in 0..3 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
        second.event().await?;
    }
    publisher.publish("sse.acme.nowhere", "").await?;
    let expected = [
        ("sse_server_active_connections", 2.0),
        ("sse_server_connections_limit", 50.0),
        ("sse_server_connects_total{result=\"ok\"}", 3.0),
        ("sse_server_connects_total{result=\"user_limit\"}", 1.0),
        ("sse_server_connects_total{result=\"unauthorized\"}", 1.0),
        ("sse_server_tokens_total{result=\"minted\"}", 4.0),
        ("sse_server_tokens_total{result=\"redeemed\"}", 4.0),
        ("sse_server_tokens_total{result=\"refused\"}", 1.0),
        ("sse_server_events_delivered_total", 26.0),
        ("sse_server_events_replayed_total", 3.0),
        ("sse_server_events_dropped_total{reason=\"refused\"}", 1.0),
        ("sse_server_delivery_latency_seconds_count", 23.0),
        ("sse_server_connection_duration_seconds_count{reason=\"client\"}", 1.0),
        ("sse_server_nats_connected", 1.0),
        ("sse_server_nats_reconnects_total", 0.0),
    ];
    let mut third = client.open(&cursor).await?;
    for _ in 0..3 {
        third.event().await?;
    }
    eventually("the numbers", Duration::from_secs(5), || async {
        let text = gateway.get("/metrics").await?.1;
        for (series, expected) in expected {
            let there = value(&text, series)?;
            ensure!((there - expected).abs() < 0.5, "{series}: {there}, not {expected}");
        }
        ensure!(text.ends_with("# EOF\n"), "not whole");
        for secret in ["alice", "acme", "eyJ"] {
            ensure!(!text.contains(secret), "{secret}");
        }
        Ok(())
    })
    .await
}
