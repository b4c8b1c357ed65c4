//! Looks at gateways, as a collector hears of them by OTLP over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use clap::Parser as _;
use opentelemetry::trace::TraceId;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as Pair};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry;

use super::*;
use crate::logs;
use crate::metrics::tests::{quoted, table};
use crate::reconcile::reconcile;
use crate::reconcile::tests::{PODS, context, no_pods, watched};
use crate::stub::Stub;

type Requests = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// Takes what is exported, and says where.
async fn receiver() -> (String, Requests) {
    async fn take(State(taken): State<Requests>, uri: Uri, headers: HeaderMap, body: Bytes) {
        taken.lock().expect("no panic").push((uri.path().into(), headers, body));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let endpoint = format!("http://{}/otlp", listener.local_addr().expect("an address"));
    let taken = Requests::default();
    let router = Router::new().fallback(take).with_state(taken.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint, taken)
}

/// A span, as it came out.
#[derive(Debug)]
struct Told {
    name: String,
    trace: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    kind: SpanKind,
    failed: Option<String>,
    attributes: BTreeMap<String, Value>,
}

fn plain(pairs: Vec<Pair>) -> BTreeMap<String, Value> {
    let plain = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::BoolValue(truth)) => json!(truth),
        other => panic!("{other:?}"),
    };
    let count = pairs.len();
    let attributes: BTreeMap<_, _> = pairs.into_iter().map(|pair| (pair.key, plain(pair.value))).collect();
    assert_eq!(attributes.len(), count, "each once: {attributes:?}");
    attributes
}

/// All spans, in the order of their ends, and what their resource says.
fn spans(taken: &Requests) -> (Vec<Told>, BTreeMap<String, Value>) {
    let (mut spans, mut about) = (Vec::new(), BTreeMap::new());
    for (path, _, body) in taken.lock().expect("no panic").iter() {
        if path != "/otlp/v1/traces" {
            continue;
        }
        for resource in ExportTraceServiceRequest::decode(&body[..]).expect("OTLP").resource_spans {
            about = plain(resource.resource.expect("a resource").attributes);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let failed = span.status.clone().filter(|status| status.code == 2);
                spans.push(Told {
                    kind: span.kind(),
                    name: span.name,
                    trace: TraceId::from_bytes(span.trace_id.try_into().expect("an id")).to_string(),
                    id: span.span_id,
                    parent: span.parent_span_id,
                    failed: failed.map(|status| status.message),
                    attributes: plain(span.attributes),
                });
            }
        }
    }
    (spans, about)
}

/// Log lines go here.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn arguments(endpoint: &str, more: &[&str]) -> Arguments {
    let named = ["--pod-name", "operator-0", "--pod-namespace", "sse-system", "--gateway-image", "i"];
    let otlp = ["--otlp-protocol", "http", "--otlp-endpoint", endpoint];
    Arguments::parse_from([&["sse-operator"], &named[..], &otlp, more].concat())
}

/// Looks once at `live`, and answers with the log lines.
async fn look_at(stub: &Stub, arguments: &Arguments, telemetry: &Telemetry) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer = logs::lines(arguments, move || writer.clone()).expect("a filter");
    let subscriber =
        registry().with(layer).with(telemetry.tracer().map(|tracer| sse_otlp::layer(tracer, TARGET)));
    let look = reconcile(watched(json!({})), context(stub));
    look.with_subscriber(subscriber).await.expect("never");
    let bytes = lines.0.lock().expect("no panic").clone();
    String::from_utf8(bytes).expect("text")
}

/// A gateway of one pod, which nobody listens in.
fn one_pod() -> Stub {
    let pod = json!({"metadata": {"name": "live-0"}, "status": {"phase": "Running", "podIP": "127.0.0.254"}});
    no_pods().with(PODS, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [pod]}))
}

#[tokio::test]
async fn a_look_is_traced_with_its_steps_and_one_that_fails_says_why() {
    let (endpoint, taken) = receiver().await;
    let (arguments, metrics) = (arguments(&endpoint, &[]), Arc::<Metrics>::default());
    let telemetry = Telemetry::start(&arguments, &metrics);
    assert_eq!(look_at(&one_pod(), &arguments, &telemetry).await, "");
    let refusing = no_pods().refusing("/api/v1/namespaces/demo/services/live", "too many ports");
    let line = look_at(&refusing, &arguments, &telemetry).await;
    metrics.reconciled(std::time::Duration::from_millis(1));
    telemetry.stop().await;

    let (spans, resource) = spans(&taken);
    for (key, value) in [
        ("service.name", "sse-operator"),
        ("k8s.pod.name", "operator-0"),
        ("k8s.namespace.name", "sse-system"),
    ] {
        assert_eq!(resource[key], value, "{key}");
    }
    let looks: Vec<_> = spans.iter().filter(|span| span.name == "sse.reconcile").collect();
    let [good, bad] = looks[..] else { panic!("{looks:#?}") };
    assert_ne!(good.trace, bad.trace);
    for (look, result, failed) in [
        (good, "RollingOut", None),
        (bad, "ApplyFailed", Some("Service demo/live was not applied: too many ports")),
    ] {
        assert_eq!((look.parent.len(), look.kind, look.failed.as_deref()), (0, SpanKind::Internal, failed));
        for (key, value) in [
            ("k8s.namespace.name", json!("demo")),
            ("sse.gateway.name", json!("live")),
            ("sse.gateway.generation", json!(3)),
            ("sse.result", json!(result)),
            ("sse.waiting", json!(false)),
            ("sse.changed", json!(true)),
        ] {
            assert_eq!(look.attributes[key], value, "{key}");
        }
    }
    assert_eq!(bad.attributes["error.type"], "apply_failed");

    let steps = |look: &Told| -> Vec<(String, String, Option<bool>)> {
        let steps = spans.iter().filter(|span| span.parent == look.id && span.trace == look.trace);
        let text = |span: &Told, key: &str| {
            span.attributes.get(key).map_or("", |v| v.as_str().expect("text")).into()
        };
        steps
            .map(|step| {
                assert_eq!(step.kind, SpanKind::Client);
                let changed = step.attributes.get("sse.changed").and_then(Value::as_bool);
                (step.name.clone(), text(step, "k8s.object.kind"), changed)
            })
            .collect()
    };
    let applied = |kind: &str| ("sse.apply".to_owned(), kind.to_owned(), Some(true));
    let step = |name: &str| (name.to_owned(), String::new(), None);
    assert_eq!(
        steps(good),
        [
            applied("ServiceAccount"),
            applied("ConfigMap"),
            applied("Service"),
            applied("Service"),
            applied("NetworkPolicy"),
            applied("Deployment"),
            applied("PodDisruptionBudget"),
            step("sse.probe"),
            step("sse.status"),
        ]
    );
    let refused = ("sse.apply".to_owned(), "Service".to_owned(), None);
    assert_eq!(steps(bad), [applied("ServiceAccount"), applied("ConfigMap"), refused, step("sse.status")]);
    let line: Value = serde_json::from_str(&line).expect("one line");
    assert_eq!((&line["gateway"], &line["trace_id"]), (&json!("demo/live"), &json!(bad.trace)));
    documented(&spans);
    pushed(&taken);
}

/// Each span has the attributes that are documented, and no other; all but removals were there.
fn documented(spans: &[Told]) {
    let mut attributes = BTreeMap::<&str, BTreeSet<String>>::new();
    for span in spans {
        attributes.entry(&span.name).or_default().extend(span.attributes.keys().cloned());
    }
    let rows = table("Span | Attribute");
    let mut expected = BTreeMap::<String, BTreeSet<String>>::new();
    for row in &rows {
        expected.entry(quoted(&row[0]).remove(0)).or_default().extend(quoted(&row[1]).first().cloned());
    }
    let named: BTreeSet<_> = table("Span | Kind").iter().map(|row| quoted(&row[0]).remove(0)).collect();
    let removal = expected.remove("sse.remove").expect("documented");
    assert_eq!(removal, ["k8s.object.kind", "k8s.object.name"].map(str::to_owned).into());
    for (name, attributes) in &attributes {
        assert!(named.contains(*name), "{name}");
        assert_eq!(&expected.remove(*name).unwrap_or_default(), attributes, "{name}");
    }
    assert!(expected.is_empty(), "{expected:?}");
    assert_eq!(named.len(), attributes.len() + 1, "{named:?}");
}

/// The same metrics as are scraped are pushed.
fn pushed(taken: &Requests) {
    let mut names = BTreeSet::new();
    for (path, _, body) in
        taken.lock().expect("no panic").iter().filter(|(path, ..)| path == "/otlp/v1/metrics")
    {
        let request = ExportMetricsServiceRequest::decode(&body[..]).expect(path);
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        names.extend(scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name.replace('.', "_")));
    }
    let scraped = table("Metric | Type").into_iter().map(|row| quoted(&row[0]).remove(0));
    let scraped = scraped.map(|name| name.trim_end_matches("_total").trim_end_matches("_seconds").to_owned());
    // What runs is in the resource.
    assert_eq!(names, scraped.filter(|name| name != "sse_operator_build_info").collect());
}

#[tokio::test]
async fn a_child_that_is_as_planned_is_told_as_unchanged() {
    let (endpoint, taken) = receiver().await;
    let arguments = arguments(&endpoint, &[]);
    let telemetry = Telemetry::start(&arguments, &Arc::default());
    let owner = json!([{"apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway", "name": "live", "uid": "u-1",
        "controller": true}]);
    let account = json!({"metadata": {"name": "live-gateway", "uid": "s-1", "ownerReferences": owner}});
    let stub = no_pods().with("/api/v1/namespaces/demo/serviceaccounts/live-gateway", account);
    look_at(&stub, &arguments, &telemetry).await;
    telemetry.stop().await;
    let (spans, _) = spans(&taken);
    let changed = |kind: &str| {
        let of = spans.iter().find(|span| span.attributes.get("k8s.object.kind") == Some(&json!(kind)));
        of.expect("a span").attributes["sse.changed"].clone()
    };
    assert_eq!((changed("ServiceAccount"), changed("ConfigMap")), (json!(false), json!(true)));
}

#[tokio::test]
async fn headers_come_from_a_file_as_it_is_now_and_are_told_to_nobody_else() {
    let (endpoint, taken) = receiver().await;
    let file = std::env::temp_dir().join(format!("sse-operator-headers-{}", std::process::id()));
    let arguments = arguments(&endpoint, &["--otlp-headers-file", &file.to_string_lossy()]);
    let metrics = Arc::<Metrics>::default();
    let telemetry = Telemetry::start(&arguments, &metrics);
    let refusing = no_pods().refusing("/api/v1/namespaces/demo/services/live", "no");
    for header in [None, Some("s3cret"), Some("n3w")] {
        if let Some(header) = header {
            std::fs::write(&file, format!("Authorization = {header}\n")).expect("written");
        }
        let lines = look_at(&refusing, &arguments, &telemetry).await;
        let (spans, _) = telemetry.0.clone().expect("a collector");
        // The library blocks, and says itself that nothing was exported.
        let _ = tokio::task::spawn_blocking(move || spans.force_flush()).await.expect("no panic");
        let requests = std::mem::take(&mut *taken.lock().expect("no panic"));
        assert_eq!(requests.is_empty(), header.is_none(), "without its headers nothing goes out");
        for (_, headers, body) in requests {
            assert_eq!(headers.get("authorization").map(|it| it.to_str().expect("text")), header);
            assert!(!String::from_utf8_lossy(&body).contains("s3cret"));
        }
        assert!(!lines.contains("s3cret") && !lines.contains("n3w"), "{lines}");
    }
    std::fs::remove_file(&file).expect("removed");
    // Of the first look: itself, three children, its status.
    assert_eq!(metrics.spans_dropped.get(), 5);
    telemetry.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_a_count() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let (arguments, metrics) = (arguments(&endpoint, &[]), Arc::<Metrics>::default());
    let telemetry = Telemetry::start(&arguments, &metrics);
    look_at(&no_pods(), &arguments, &telemetry).await;
    telemetry.stop().await;
    // The look, its seven children, and its status.
    assert_eq!(metrics.spans_dropped.get(), 9);
}

#[tokio::test]
async fn without_a_collector_nothing_is_traced() {
    let arguments = arguments("", &[]);
    let telemetry = Telemetry::start(&arguments, &Arc::default());
    assert!(telemetry.tracer().is_none());
    let refusing = no_pods().refusing("/api/v1/namespaces/demo/services/live", "no");
    let line: Value =
        serde_json::from_str(&look_at(&refusing, &arguments, &telemetry).await).expect("one line");
    assert_eq!(line["message"], "The gateway is not as declared.");
    assert_eq!(line.get("trace_id"), None);
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_nobody_who_ends_at_once() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let arguments = arguments(&format!("http://{}", silent.local_addr().expect("an address")), &[]);
    let telemetry = Telemetry::start(&arguments, &Arc::default());
    look_at(&no_pods(), &arguments, &telemetry).await;
    let began = std::time::Instant::now();
    telemetry.abandon();
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}
