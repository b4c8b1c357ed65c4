//! The spans of a gateway are what docs/telemetry.md says, at a real collector; and what a collector that is away costs.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::collector::{Collector, Sink, Span};
use sse_tests::eventually;
use sse_tests::process::{Gateway, Nats, merge};

use crate::metrics::{quoted, table, value};

const PAGE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const SHOP: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Attributes of a span, by the documentation.
fn documented(span: &str) -> BTreeSet<String> {
    let rows = table("Span | Attribute");
    let of = rows.iter().filter(|row| quoted(&row[0]) == [span]);
    of.flat_map(|row| quoted(&row[1])).collect()
}

fn keys(span: &Span) -> BTreeSet<String> {
    span.attributes.keys().cloned().collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// A stream with a cursor, one event live and one replayed, and its spans.
async fn traced(collector: &Collector, more: Value) -> Result<()> {
    let nats = Nats::start().await?;
    let mut telemetry = json!({"deliverySamplePercent": 100});
    merge(&mut telemetry, more);
    let gateway = Gateway::start_unready(&nats, "shop/live", json!({"telemetry": telemetry}))?;
    gateway.write_secret("collector", "ca", &format!("{} ", collector.authority))?;
    gateway.ready().await?;
    let publisher = nats.publisher().await?;
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    publisher.publish("sse.acme.user.alice", "first").await?;
    let cursor = stream.event().await?.id;
    drop(stream);
    let missed = publisher.publish("sse.acme.user.alice", "missed").await?;
    let token = client.token().await?;
    let path = format!("/api/v1/sse/stream?token={token}&lastEventId={cursor}");
    let mut stream = client.stream(&path, &[("traceparent", PAGE)]).await?;
    assert_eq!(stream.event().await?.data, "missed");
    stream.position().await?;
    let live = publisher.publish_with("sse.acme.all", &[("traceparent", SHOP)], "live").await?;
    assert_eq!(stream.event().await?.data, "live");

    // While the stream is open, however long that is.
    let (connect, delivered) = collector
        .spans(|spans| {
            let connect =
                named(spans, "sse.connect").into_iter().find(|span| span.parent == "b7ad6b7169203331")?;
            let id = &connect.attributes["sse.connection.id"];
            let of = |span: &&&Span| span.attributes.get("sse.connection.id") == Some(id);
            let delivered =
                named(spans, "sse.deliver").iter().filter(of).map(|span| (**span).clone()).collect();
            Some((connect.clone(), delivered)).filter(|(_, spans): &(_, Vec<Span>)| spans.len() == 2)
        })
        .await?;
    assert_eq!(named(&collector.sink.spans(), "sse.connection").len(), 1, "only the first has ended");
    drop(stream);
    let connection = collector
        .spans(|spans| {
            let link = (connect.trace.clone(), connect.id.clone());
            named(spans, "sse.connection").into_iter().find(|span| span.links == [link.clone()]).cloned()
        })
        .await?;

    assert_eq!((connect.trace.as_str(), connect.kind), ("0af7651916cd43dd8448eb211c80319c", 2));
    assert_eq!(connect.links, [(connection.trace.clone(), connection.id.clone())]);
    assert_eq!(keys(&connect), documented("sse.connect"));
    for (key, value) in [
        ("http.response.status_code", json!(200)),
        ("http.route", json!("/api/v1/sse/stream")),
        ("sse.tenant", json!("acme")),
        ("sse.resumed", json!(true)),
        ("sse.result", json!("ok")),
        ("network.protocol.version", json!("1.1")),
    ] {
        assert_eq!(connect.attributes[key], value, "{key}");
    }
    assert_eq!((connection.parent.as_str(), connection.kind), ("", 1));
    assert_eq!(keys(&connection), documented("sse.connection"));
    for (key, value) in [
        ("sse.close.reason", json!("client")),
        ("sse.events.delivered", json!(2)),
        ("sse.events.replayed", json!(1)),
    ] {
        assert_eq!(connection.attributes[key], value, "{key}");
    }
    for span in &delivered {
        assert_eq!((&span.trace, &span.parent, span.kind), (&connection.trace, &connection.id, 5));
        assert_eq!(keys(span), documented("sse.deliver"));
        assert!(span.start <= span.end && span.end <= connection.end);
    }
    let told = |span: &Span| {
        (span.attributes["sse.event.sequence"].clone(), span.attributes["sse.event.replayed"].clone())
    };
    assert_eq!(
        delivered.iter().map(told).collect::<Vec<_>>(),
        [(json!(missed), json!(true)), (json!(live), json!(false))]
    );
    assert_eq!(delivered[0].links, []);
    assert_eq!(delivered[1].links, [("4bf92f3577b34da6a3ce929d0e0e4736".into(), "00f067aa0ba902b7".into())]);
    for (key, value) in
        [("service.name", "sse-gateway"), ("sse.gateway.name", "live"), ("k8s.namespace.name", "shop")]
    {
        assert_eq!(connect.resource[key], value, "{key}");
    }
    // Log lines lead to the trace.
    let line = format!(r#""trace_id":"{}""#, connect.trace);
    assert_eq!(gateway.log().matches(&line).count(), 2);
    let metrics = gateway.get("/metrics").await?.1;
    let exported =
        collector.sink.taken().into_iter().map(|taken| String::from_utf8_lossy(&taken.body).into_owned());
    for told in exported.chain([metrics, gateway.log()]) {
        for secret in [token.as_str(), client.jwt.as_str(), "alice"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_is_traced_over_grpc_from_its_handshake_to_its_end() -> Result<()> {
    let collector = Collector::start().await?;
    traced(&collector, collector.telemetry("grpc")).await
}

#[tokio::test]
async fn a_stream_is_traced_over_http_from_its_handshake_to_its_end() -> Result<()> {
    let collector = Collector::start().await?;
    traced(&collector, collector.telemetry("http")).await
}

#[tokio::test]
async fn a_collector_of_a_private_authority_is_trusted_by_its_certificate() -> Result<()> {
    for protocol in ["grpc", "http"] {
        let collector = Collector::start_tls().await?;
        let mut telemetry = collector.telemetry(protocol);
        telemetry["caSecretRef"] = json!({"name": "collector", "key": "ca"});
        traced(&collector, telemetry).await.context(protocol)?;
    }
    Ok(())
}

#[tokio::test]
async fn headers_of_a_secret_go_with_each_export_and_change_with_it() -> Result<()> {
    let (nats, sink) = (Nats::start().await?, Sink::start().await?);
    let telemetry = json!({
        "otlpEndpoint": format!("http://{}/otlp", sink.address), "otlpProtocol": "http",
        "otlpHeadersSecretRef": {"name": "otlp", "key": "headers"},
    });
    let gateway = Gateway::start_unready(&nats, "tests/gateway", json!({"telemetry": telemetry}))?;
    gateway.write_secret("otlp", "headers", "Authorization=Bearer s3cret\nx-scope = acme\n")?;
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
            ensure!(found.path == "/otlp/v1/traces" && found.headers["x-scope"] == "acme", "{found:?}");
            Ok(())
        })
        .await
    };
    seen("Bearer s3cret").await?;
    gateway.write_secret("otlp", "headers", "Authorization=Bearer n3w\nx-scope=acme\n")?;
    seen("Bearer n3w").await?;
    assert!(!gateway.log().contains("s3cret") && !gateway.log().contains("n3w"));
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
