//! The spans of a gateway are what docs/telemetry.md says, from the publisher to the browser, at a real collector.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::collector::{Collector, Span};
use sse_tests::eventually;
use sse_tests::jwt::ISSUER;
use sse_tests::process::{Gateway, Nats, merge};
use sse_tests::publisher::publish_traced;

use crate::metrics::{quoted, table};

/// What a browser's page, or what is before it, says of itself.
pub const PAGE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// What the collector makes of spans, as Prometheus names it.
const CALLS: &str = "traces_span_metrics_calls_total";
const DURATIONS: &str = "traces_span_metrics_duration_milliseconds";
const DOCUMENT: &str = include_str!("../../docs/telemetry.md");

/// Attributes of a span, by the documentation.
fn documented(span: &str) -> BTreeSet<String> {
    let rows = table("Span | Attribute");
    let of = rows.iter().filter(|row| quoted(&row[0]) == [span]);
    of.flat_map(|row| quoted(&row[1])).collect()
}

/// What others refer to a span by.
fn id(span: &Span) -> (String, String) {
    (span.trace.clone(), span.id.clone())
}

fn assert_attributes(span: &Span, expected: &[(&str, Value)]) {
    for (key, value) in expected {
        assert_eq!(&span.attributes[*key], value, "{key} of {}", span.name);
    }
}

/// One script: a stream with an event; a second one, asked for by a page, with the event that the first missed and
/// one of a publisher who traces. Answers the spans of all of it, in the order in which they began.
async fn script(collector: &Collector, more: Value) -> Result<[Span; 8]> {
    let ended = |spans: &[Span]| spans.iter().filter(|span| span.name == "sse.connection").count();
    let nats = Nats::start().await?;
    let mut telemetry = json!({"deliverySamplePercent": 100});
    merge(&mut telemetry, more);
    let patch =
        json!({"telemetry": telemetry, "drain": {"windowSeconds": 0}, "auth": {"tagClaims": ["iss"]}});
    let mut gateway = Gateway::start_unready(&nats, "shop/live", patch)?;
    gateway.write_secret("collector", "ca", &format!("{} ", collector.authority))?;
    gateway.ready().await?;
    let publisher = nats.publisher().await?;
    let client = gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    publisher.publish("sse.acme.user.alice", "first").await?;
    let cursor = stream.event().await?.id;
    drop(stream);
    collector.spans(|spans| (ended(spans) == 1).then_some(())).await?;
    let missed = publisher.publish("sse.acme.user.alice", "missed").await?;
    let token = client.token().await?;
    let path = format!("/api/v1/sse/stream?token={token}&lastEventId={cursor}");
    let mut stream = client.stream(&path, &[("traceparent", PAGE)]).await?;
    assert_eq!(stream.event().await?.data, "missed");
    stream.position().await?;
    let live = publish_traced(&nats, collector, "sse.acme.all", "live").await?;
    assert_eq!(stream.event().await?.data, "live");

    // While the stream is open, however long that is.
    let open = ["sse.connect", "sse.connection", "sse.deliver", "sse.deliver", "sse.connect", "sse.deliver"];
    let of_gateway = |span: &&Span| span.name.starts_with("sse.");
    collector
        .spans(|spans| spans.iter().filter(of_gateway).map(|span| &*span.name).eq(open).then_some(()))
        .await?;
    drop(stream);
    collector.spans(|spans| (ended(spans) == 2).then_some(())).await?;
    gateway.terminate()?;
    assert_eq!(gateway.exit_code(Duration::from_secs(10)).await?, 0);
    // Asked for once: nothing comes after the end.
    let spans = collector.sink.spans();
    let spans = <[Span; 8]>::try_from(spans).map_err(|spans| anyhow::anyhow!("{spans:#?}"))?;
    for (span, sequence, replayed) in [(&spans[3], missed, true), (&spans[7], live, false)] {
        let about = [("sse.event.sequence", json!(sequence)), ("sse.event.replayed", json!(replayed))];
        assert_attributes(span, &about);
    }
    // Log lines lead to the trace.
    let line = format!(r#""trace_id":"{}""#, spans[4].trace);
    assert_eq!(gateway.log().matches(&line).count(), 2);
    Ok(spans)
}

/// The whole of what a script leaves at the collector: no span more, and none less.
async fn traced(collector: &Collector, more: Value) -> Result<()> {
    let spans = script(collector, more).await?;
    let [connect, connection, first, missed, resumed, stream, published, live] = &spans;
    let page = ("0af7651916cd43dd8448eb211c80319c".to_owned(), "b7ad6b7169203331".to_owned());
    let none = (String::new(), String::new());
    for (span, name, kind, parent, link) in [
        (connect, "sse.connect", 2, &none, Some(connection)),
        (connection, "sse.connection", 1, &none, Some(connect)),
        (first, "sse.deliver", 5, &id(connection), None),
        (missed, "sse.deliver", 5, &id(stream), None),
        (resumed, "sse.connect", 2, &page, Some(stream)),
        (stream, "sse.connection", 1, &none, Some(resumed)),
        (published, "order.publish", 4, &none, None),
        (live, "sse.deliver", 5, &id(stream), Some(published)),
    ] {
        assert_eq!((&*span.name, span.kind, &span.parent), (name, kind, &parent.1), "{span:#?}");
        assert!(parent == &none || span.trace == parent.0, "{span:#?}");
        assert_eq!(span.links, Vec::from_iter(link.map(id)), "{span:#?}");
        assert!(span.start <= span.end, "{span:#?}");
        if name.starts_with("sse.") {
            let mut attributes = documented(name);
            if name != "sse.deliver" {
                assert_eq!(span.attributes["sse.tag.iss"], ISSUER, "{name}");
                attributes.insert("sse.tag.iss".into());
            }
            assert_eq!(span.attributes.keys().cloned().collect::<BTreeSet<_>>(), attributes);
            let resource = [
                ("service.name", "sse-gateway"),
                ("sse.gateway.name", "live"),
                ("k8s.namespace.name", "shop"),
            ];
            for (key, value) in resource {
                assert_eq!(span.resource[key], value, "{key}");
            }
        }
    }
    let roots = [connect, connection, resumed, stream, published].map(|span| &span.trace);
    assert_eq!(BTreeSet::from(roots).len(), roots.len(), "each begins a trace, or goes on with the page's");
    assert_attributes(connect, &[("sse.resumed", json!(false))]);
    let stream_id = stream.attributes["sse.connection.id"].clone();
    for of_it in [missed, resumed, live] {
        assert_attributes(of_it, &[("sse.connection.id", stream_id.clone()), ("sse.tenant", json!("acme"))]);
    }
    assert_attributes(
        resumed,
        &[
            ("http.response.status_code", json!(200)),
            ("http.route", json!("/api/v1/sse/stream")),
            ("sse.resumed", json!(true)),
            ("sse.result", json!("ok")),
            ("network.protocol.version", json!("1.1")),
        ],
    );
    assert_attributes(
        stream,
        &[
            ("sse.close.reason", json!("client")),
            ("sse.events.delivered", json!(2)),
            ("sse.events.replayed", json!(1)),
        ],
    );
    for delivered in [missed, live] {
        assert!(delivered.end <= stream.end);
    }
    shown(collector, &spans).await
}

/// The collector's log has each span, and its metrics count them.
async fn shown(collector: &Collector, spans: &[Span]) -> Result<()> {
    let log = collector.log();
    for span in spans {
        let named =
            |line: &&str| [&span.name, &span.trace, &span.id].iter().all(|part| line.contains(&***part));
        assert_eq!(log.lines().filter(named).count(), 1, "{} in {log}", span.name);
    }
    assert!(DOCUMENT.contains(&format!("`{CALLS}`")) && DOCUMENT.contains(&format!("`{DURATIONS}`")));
    eventually("the metrics of spans", Duration::from_secs(10), || async {
        let metrics = collector.metrics().await?;
        for (span, labels, count) in [
            ("sse.connect", r#"sse_result="ok""#, 2),
            ("sse.connection", "", 2),
            ("sse.deliver", "", 3),
            ("order.publish", "", 1),
        ] {
            let span = format!(r#"span_name="{span}""#);
            for name in [CALLS.to_owned(), format!("{DURATIONS}_count")] {
                let of_it =
                    |line: &&str| line.starts_with(&*name) && line.contains(&span) && line.contains(labels);
                let series: Vec<_> = metrics.lines().filter(of_it).collect();
                ensure!(
                    series.len() == 1 && series[0].ends_with(&format!(" {count}")),
                    "{name} {span}: {series:?}"
                );
            }
        }
        Ok(())
    })
    .await
}

#[test]
fn the_documented_publisher_is_the_one_that_is_tested() {
    let documented = DOCUMENT.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```"));
    assert_eq!(documented.expect("a program").0, include_str!("../publisher/publish.py"));
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
