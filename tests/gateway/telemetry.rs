//! How telemetry gets to a collector: with which headers, how much of it, and what a collector that is away costs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::collector::{Collector, Sink, Span};
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats};

use crate::metrics::value;
use crate::traces::PAGE;

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test]
async fn headers_of_a_secret_go_with_each_export_and_change_with_it() -> Result<()> {
    let (nats, sink) = (Nats::start().await?, Sink::start().await?);
    let telemetry = json!({
        "otlpEndpoint": format!("http://{}/otlp", sink.address), "otlpProtocol": "http",
        "otlpHeadersSecretRef": {"name": "otlp", "key": "headers"},
    });
    let gateway = Gateway::start_unready(&nats, "tests/gateway", json!({"telemetry": telemetry}))?;
    gateway.write_secret("otlp", "headers", "Authorization=Bearer first-s3cret\nx-scope = of-the-shop\n")?;
    gateway.ready().await?;
    let client = gateway.client("acme", "alice");
    let seen = async |authorization: &str| {
        eventually("an export with the header", Duration::from_secs(20), || async {
            drop(client.open("").await?);
            let taken = sink.taken();
            let found = taken
                .iter()
                .find(|taken| taken.headers.get("authorization").is_some_and(|it| it == authorization));
            let found = found.context("none")?;
            ensure!(
                found.path == "/otlp/v1/traces" && found.headers["x-scope"] == "of-the-shop",
                "{found:?}"
            );
            Ok(())
        })
        .await
    };
    seen("Bearer first-s3cret").await?;
    gateway.write_secret("otlp", "headers", "Authorization=Bearer second-s3cret\nx-scope=of-the-shop\n")?;
    seen("Bearer second-s3cret").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_sampled_is_not_traced_and_events_come_all_the_same() -> Result<()> {
    let (nats, collector) = (Nats::start().await?, Collector::start().await?);
    let mut none = collector.telemetry("grpc");
    none["traceSamplePercent"] = json!(0);
    let mut all = collector.telemetry("grpc");
    all["deliverySamplePercent"] = json!(0);
    let none = Gateway::start(&nats, json!({"telemetry": none})).await?;
    let all = Gateway::start(&nats, json!({"telemetry": all})).await?;
    let publisher = nats.publisher().await?;
    let mut streams = Vec::new();
    for (gateway, traceparent) in [(&none, PAGE), (&all, &PAGE.replace("-01", "-00")), (&all, PAGE)] {
        let client = gateway.client("acme", "alice");
        let path = format!("/api/v1/sse/stream?token={}", client.token().await?);
        streams.push(client.stream(&path, &[("traceparent", traceparent)]).await?);
    }
    publisher.publish("sse.acme.user.alice", "event").await?;
    for stream in &mut streams {
        assert_eq!(stream.event().await?.data, "event");
    }
    drop(streams);
    // The last one of all: what was to come before it has come.
    collector.spans(|spans| named(spans, "sse.connection").first().map(|_| ())).await?;
    let spans = collector.sink.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["sse.connect", "sse.connection"]);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_costs_a_count_and_is_told_of_once() -> Result<()> {
    let (nats, mut collector) = (Nats::start().await?, Collector::start().await?);
    let telemetry = collector.telemetry("grpc");
    collector.kill().await?;
    let gateway = Gateway::start(&nats, json!({"telemetry": telemetry})).await?;
    let publisher = nats.publisher().await?;
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    for i in 0..100 {
        publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
    }
    for i in 0..100 {
        assert_eq!(stream.event().await?.data, i.to_string());
    }
    eventually("spans counted as dropped", Duration::from_secs(30), || async {
        drop(client.open("").await?);
        let dropped = value(&gateway.get("/metrics").await?.1, "sse_server_spans_dropped_total")?;
        ensure!(dropped >= 3.0, "{dropped}");
        Ok(())
    })
    .await?;
    assert_eq!(gateway.log().matches("The collector takes no telemetry").count(), 1);
    collector.restart().await?;
    eventually("spans that come again", Duration::from_secs(30), || async {
        drop(client.open("").await?);
        ensure!(!collector.sink.spans().is_empty(), "none");
        Ok(())
    })
    .await?;
    eventually("a line that says so", Duration::from_secs(5), || async {
        ensure!(gateway.log().contains("The collector takes telemetry again"), "no line");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_waits_for_the_collector_goes_out_before_the_process_ends() -> Result<()> {
    let (nats, mut collector) = (Nats::start().await?, Collector::start().await?);
    let mut gateway = Gateway::start(&nats, json!({"telemetry": collector.telemetry("grpc")})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    gateway.terminate()?;
    stream.to_end(Duration::from_secs(10)).await?;
    assert_eq!(gateway.exit_code(Duration::from_secs(10)).await?, 0);
    // Asked for once: nothing comes after the end.
    let spans = collector.sink.spans();
    let ended = named(&spans, "sse.connection");
    assert_eq!(ended.len(), 1, "{spans:#?}");
    assert_eq!(ended[0].attributes["sse.close.reason"], "drain");

    // And one that does not answer holds nobody up for long.
    collector.kill().await?;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let telemetry = json!({"otlpEndpoint": format!("http://{}", dead.local_addr()?)});
    let mut gateway =
        Gateway::start(&nats, json!({"telemetry": telemetry, "drain": {"windowSeconds": 0}})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    gateway.terminate()?;
    stream.to_end(Duration::from_secs(10)).await?;
    assert_eq!(gateway.exit_code(Duration::from_secs(6)).await?, 0);
    Ok(())
}
