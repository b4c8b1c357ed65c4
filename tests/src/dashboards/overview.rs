//! All gateways: is anything wrong, and where.

use serde_json::Value;

use super::both;
use super::model::{Board, Panel, changes, gateways};

pub fn board() -> Value {
    Board {
        uid: "sse-gateway-overview",
        title: "SSE gateways / Overview",
        description: "All gateways: whether clients get in, whether events reach them and how late, and what is short.",
        variables: gateways(true),
        annotations: changes(),
        rows: vec![
            ("Now", now()),
            ("Clients", clients()),
            ("Events", events()),
            ("NATS and telemetry", behind()),
        ],
    }
    .json()
}

fn now() -> Vec<Panel> {
    let n = Panel::number;
    vec![
        n("Open streams", "Streams that are open, over all pods.", "short")
            .of("sum(sse_server_active_connections{OF})", "streams"),
        n("Fullest pod", "Share of its limit that the fullest pod has open. At 100 % it answers 503 (pod_limit).", "percentunit")
            .of("max(sse_server_active_connections{OF} / sse_server_connections_limit{OF})", "share")
            .look_at(0.7, 0.85),
        n("Events delivered", "Events that go to sockets: one event for 100 clients counts 100.", "mps")
            .of("sum(rate(sse_server_events_delivered_total{OF}[$__rate_interval]))", "events"),
        n("Latency, p99", "Of live deliveries, from the storage in JetStream to the socket: 99 of 100 are faster.", "s")
            .of(
                "histogram_quantile(0.99, sum by (le) (rate(sse_server_delivery_latency_seconds_bucket{OF}[$__rate_interval])))",
                "p99",
            )
            .look_at(0.25, 1.0),
        n("Pods without NATS", "Pods that can not serve handshakes because NATS is away. Their open streams stay.", "short")
            .of("sum(1 - sse_server_nats_connected{OF})", "pods")
            .none_expected(),
        n("Draining pods", "Pods that are about to end: a rollout, a smaller gateway, or a node that is emptied.", "short")
            .of("sum(sse_server_draining{OF})", "pods")
            .look_at(1.0, 1_000.0),
    ]
}

fn clients() -> Vec<Panel> {
    let p = Panel::lines;
    vec![
        p("Open streams by gateway", "Streams that are open, by gateway.", "short")
            .of("sum by (BY) (sse_server_active_connections{OF})", "GATEWAY")
            .stacked(),
        p("Open streams by pod", "Streams that are open, by pod. After a rollout they level out only as clients come back.", "short")
            .of("sum by (BY, pod) (sse_server_active_connections{OF})", "{{pod}}"),
        p("Saturation", "Share of the limit (limits.maxConnectionsPerPod, or less where the open-file limit is lower), of each gateway's fullest pod.", "percentunit")
            .of("max by (BY) (sse_server_active_connections{OF} / sse_server_connections_limit{OF})", "GATEWAY")
            .look_at(0.7, 0.85)
            .at_most(1.0),
        p("Connects by result", "Answers of the stream endpoint. `unavailable`: NATS or keys are away, or the pod drains.", "reqps")
            .of("sum by (result) (rate(sse_server_connects_total{OF}[$__rate_interval]))", "{{result}}"),
        p("Tokens by result", "Answers of the token endpoint (minted, unavailable), and presented tokens (redeemed, refused).", "reqps")
            .of("sum by (result) (rate(sse_server_tokens_total{OF}[$__rate_interval]))", "{{result}}"),
        p("Streams that end", "Why streams end. `client`: the browser left or the network cut it. `write_timeout`: it accepted nothing for limits.writeTimeoutSeconds.", "ops")
            .of("sum by (reason) (rate(sse_server_connection_duration_seconds_count{OF}[$__rate_interval]))", "{{reason}}"),
    ]
}

fn events() -> Vec<Panel> {
    let p = Panel::lines;
    vec![
        p("Events delivered by gateway", "Events that go to sockets, by gateway; replayed ones are among them.", "mps")
            .of("sum by (BY) (rate(sse_server_events_delivered_total{OF}[$__rate_interval]))", "GATEWAY")
            .stacked(),
        both::latency(),
        both::all_latencies(),
        p("Events dropped", "Events that were not delivered. `overflow`: a slow client, with DropOldest. `refused`: it can be delivered to nobody, a dead letter.", "mps")
            .of("sum by (reason) (rate(sse_server_events_dropped_total{OF}[$__rate_interval]))", "{{reason}}")
            .none_expected(),
        p("Events replayed", "Events that clients had missed and got when they came back, or caught up with.", "mps")
            .of("sum by (BY) (rate(sse_server_events_replayed_total{OF}[$__rate_interval]))", "GATEWAY"),
        p("Resets", "Gaps that clients were told of: what they missed can not be had any more. `expired`: older than the log keeps.", "ops")
            .of("sum by (reason) (rate(sse_server_resets_total{OF}[$__rate_interval]))", "{{reason}}")
            .none_expected(),
    ]
}

fn behind() -> Vec<Panel> {
    let p = Panel::lines;
    vec![
        p("NATS connected", "Share of each gateway's pods that can serve handshakes.", "percentunit")
            .of("avg by (BY) (sse_server_nats_connected{OF})", "GATEWAY")
            .at_most(1.0)
            .at_least(1.0),
        p("NATS reconnects", "Connections to NATS after the first, by pod. One of all pods at once is a restart of the server.", "ops")
            .of("sum by (BY, pod) (rate(sse_server_nats_reconnects_total{OF}[$__rate_interval]))", "{{pod}}"),
        p("Lag", "Events between the end of the log and the furthest pod of each gateway.", "short")
            .of("max by (BY) (sse_server_nats_lag_events{OF})", "GATEWAY")
            .look_at(100.0, 1000.0),
        p("Live feed: overflows and gaps", "The live feed overflowed, or had lost messages which were then read from the log. No client misses anything by it.", "ops")
            .of("sum(rate(sse_server_nats_slow_consumer_total{OF}[$__rate_interval]))", "overflows")
            .of("sum(rate(sse_server_gaps_repaired_total{OF}[$__rate_interval]))", "gaps repaired")
            .none_expected(),
        p("Spans dropped", "Spans that were not exported: the queue was full, or the collector did not take them.", "ops")
            .of("sum by (BY) (rate(sse_server_spans_dropped_total{OF}[$__rate_interval]))", "GATEWAY")
            .none_expected(),
        both::versions(),
    ]
}
