//! The operator's own traces and metrics come to a collector: what a rollout took, look by look.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::cluster::{Namespace, alone_in_namespace, install, install_with};
use sse_tests::collector::{Collector, Span};
use sse_tests::eventually;
use sse_tests::proxy::Proxy;

use super::operator::{operators, operators_ready, taken_over};
use crate::crowd::node;

/// Metrics are pushed every 15 seconds.
const PUSHED: Duration = Duration::from_secs(40);

/// The looks at `live` in a namespace, in their order.
fn looks<'a>(spans: &'a [Span], namespace: &Namespace) -> Vec<&'a Span> {
    let is_ours = |span: &&Span| {
        let is = |key: &str, value: &str| span.attributes.get(key).is_some_and(|told| told == value);
        span.name == "sse.reconcile"
            && is("k8s.namespace.name", &namespace.name)
            && is("sse.gateway.name", "live")
    };
    spans.iter().filter(is_ours).collect()
}

/// Declares a gateway, and finds it in the collector from its first look until it is ready.
async fn a_rollout_is_traced(namespace: &Namespace, collector: &Collector) -> Result<()> {
    namespace.gateway("live", json!({"replicas": 1})).await?;
    let (first, children) = collector
        .spans(|spans| {
            let looks = looks(spans, namespace);
            let (first, last) = (*looks.first()?, *looks.last()?);
            let is_ready = last.attributes.get("sse.result").is_some_and(|result| result == "Ready");
            let children = spans.iter().filter(|span| span.parent == first.id).cloned().collect::<Vec<_>>();
            is_ready.then(|| (first.clone(), children))
        })
        .await?;
    for (key, value) in [
        ("sse.gateway.generation", json!(1)),
        ("sse.result", json!("RollingOut")),
        ("sse.changed", json!(true)),
        ("sse.waiting", json!(false)),
    ] {
        ensure!(first.attributes.get(key) == Some(&value), "{key}: {first:#?}");
    }
    ensure!(first.resource.get("service.name").is_some_and(|name| name == "sse-operator"), "{first:#?}");
    let made = children.iter().find(|span| {
        let kind = span.attributes.get("k8s.object.kind");
        span.name == "sse.apply" && kind.is_some_and(|kind| kind == "Deployment")
    });
    let made = made.with_context(|| format!("no Deployment in {children:#?}"))?;
    ensure!(made.attributes.get("sse.changed") == Some(&json!(true)), "{made:#?}");
    ensure!(children.iter().any(|span| span.name == "sse.status"), "{children:#?}");

    // The pod of the gateway was asked, and answered.
    let asked = |span: &Span| {
        let count = |key: &str| span.attributes.get(key).and_then(serde_json::Value::as_i64);
        span.name == "sse.probe"
            && count("sse.pods.answered") >= Some(1)
            && count("sse.pods.ready") >= Some(1)
    };
    collector.spans(|spans| spans.iter().any(asked).then_some(())).await?;
    eventually("the metrics at the collector", PUSHED, || async {
        let metrics = collector.metrics().await?;
        let leads = |line: &str| line.starts_with("sse_operator_leader{") && line.ends_with(" 1");
        ensure!(metrics.lines().any(leads), "{metrics}");
        ensure!(metrics.contains("sse_operator_reconcile_duration_seconds_count"), "{metrics}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_tells_a_collector_how_a_gateway_rolled_out() -> Result<()> {
    alone_in_namespace("traced", async |namespace: &Namespace| {
        let collector = Collector::start().await?;
        let told = collector.telemetry("http");
        let endpoint = told["otlpEndpoint"].as_str().context("an endpoint")?;
        let target = endpoint.strip_prefix("http://").context("an address")?.parse()?;
        // The collector listens on loopback, where no pod comes.
        let door = Proxy::start_at(Ipv4Addr::UNSPECIFIED, target).await?;
        let endpoint = format!("http://{}:{}", node(namespace).await?, door.address.port());
        let before = operators(namespace).await?;
        let values = format!("telemetry.otlpEndpoint={endpoint},telemetry.otlpProtocol=http");
        install_with("helm", &["--set", &values]).await?;
        operators_ready().await?;
        taken_over(namespace, &before, 0).await?;
        let traced = a_rollout_is_traced(namespace, &collector).await;
        // Other tests have no collector.
        install("helm").await?;
        traced
    })
    .await
}
