//! One gateway in depth, pod by pod.

use serde_json::Value;

use super::both;
use super::model::{Board, Panel, changes, gateways};

pub fn board() -> Value {
    Board {
        uid: "sse-gateway-one",
        title: "SSE gateways / One gateway",
        description: "One gateway, pod by pod: which pod differs, who is refused, how long streams live, what is late.",
        variables: gateways(false),
        annotations: changes(),
        rows: vec![
            ("Now", now()),
            ("Handshakes", handshakes()),
            ("Streams", streams()),
            ("Deliveries", deliveries()),
            ("What clients miss", missed()),
            ("NATS and telemetry", behind()),
        ],
    }
    .json()
}

fn now() -> Vec<Panel> {
    let n = Panel::number;
    vec![
        n("Pods", "Pods that are scraped.", "short").of("count(sse_server_active_connections{OF})", "pods").at_least(1.0),
        n("Pods that can serve", "Pods that reach NATS and do not drain.", "short")
            .of("sum(sse_server_nats_connected{OF} > bool sse_server_draining{OF})", "pods")
            .at_least(1.0),
        n("Open streams", "Streams that are open, over all pods.", "short")
            .of("sum(sse_server_active_connections{OF})", "streams"),
        n("Room", "Streams that the pods could still take.", "short")
            .of("sum(sse_server_connections_limit{OF}) - sum(sse_server_active_connections{OF})", "streams"),
        n("Handshakes refused by us", "Share of handshakes that failed for want of NATS, of keys, of room, or by an error; not those that the client is to blame for.", "percentunit")
            .of(
                "sum(rate(sse_server_connects_total{OF,result=~\"unavailable|error|pod_limit\"}[$__rate_interval])) / sum(rate(sse_server_connects_total{OF}[$__rate_interval]))",
                "share",
            )
            .look_at(0.01, 0.05),
        n("Deliveries within 100 ms", "Share of live deliveries that took at most 100 ms.", "percentunit")
            .of(
                "sum(rate(sse_server_delivery_latency_seconds_bucket{OF,le=\"0.1\"}[$__rate_interval])) / sum(rate(sse_server_delivery_latency_seconds_count{OF}[$__rate_interval]))",
                "share",
            )
            .at_least(0.99),
    ]
}

fn handshakes() -> Vec<Panel> {
    let p = Panel::lines;
    vec![
        p("Connects by result", "Answers of the stream endpoint. `unavailable`: NATS or keys are away, or the pod drains.", "reqps")
            .of("sum by (result) (rate(sse_server_connects_total{OF}[$__rate_interval]))", "{{result}}"),
        p("Connects by pod", "Successful handshakes by pod: a pod that gets more than others is nearer to the balancer.", "reqps")
            .of("sum by (pod) (rate(sse_server_connects_total{OF,result=\"ok\"}[$__rate_interval]))", "{{pod}}"),
        p("Handshakes refused", "Handshakes that opened no stream, by reason and pod.", "reqps")
            .of(
                "sum by (result, pod) (rate(sse_server_connects_total{OF,result!~\"ok|completed\"}[$__rate_interval])) > 0",
                "{{result}} {{pod}}",
            ),
        p("Tokens by result", "Answers of the token endpoint (minted, unavailable), and presented tokens (redeemed, refused).", "reqps")
            .of("sum by (result) (rate(sse_server_tokens_total{OF}[$__rate_interval]))", "{{result}}"),
        p("Tokens not redeemed", "Tokens that were minted less those that were redeemed. Many: clients fetch a token and fail before the handshake.", "reqps")
            .of(
                "sum(rate(sse_server_tokens_total{OF,result=\"minted\"}[$__rate_interval])) - sum(rate(sse_server_tokens_total{OF,result=\"redeemed\"}[$__rate_interval]))",
                "left over",
            ),
        p("Handshakes for each open stream", "Handshakes of five minutes for each stream that is open. Above 1 clients come back far more often than they stay.", "short")
            .of("sum(increase(sse_server_connects_total{OF}[5m])) / clamp_min(sum(sse_server_active_connections{OF}), 1)", "handshakes")
            .look_at(1.0, 3.0),
    ]
}

fn streams() -> Vec<Panel> {
    let p = Panel::lines;
    let life = "sum by (le) (rate(sse_server_connection_duration_seconds_bucket{OF}[$__rate_interval]))";
    vec![
        p("Open streams by pod", "Streams that are open, and the limit of the smallest pod.", "short")
            .of("sum by (pod) (sse_server_active_connections{OF})", "{{pod}}")
            .of("min(sse_server_connections_limit{OF})", "limit"),
        p("Saturation by pod", "Share of its limit that each pod has open. At 100 % it answers 503 (pod_limit).", "percentunit")
            .of("max by (pod) (sse_server_active_connections{OF} / sse_server_connections_limit{OF})", "{{pod}}")
            .look_at(0.7, 0.85)
            .at_most(1.0),
        p("Streams that end", "Why streams end. `drain`: a pod went. `overflow`: a slow client, with Disconnect. `lifetime`: stream.maxLifetimeSeconds or the credential's end.", "ops")
            .of("sum by (reason) (rate(sse_server_connection_duration_seconds_count{OF}[$__rate_interval]))", "{{reason}}"),
        p("Life of streams", "How long the streams lived that ended. Equal lives of a minute are a proxy's idle or request timeout.", "s")
            .of(&format!("histogram_quantile(0.5, {life})"), "p50")
            .of(&format!("histogram_quantile(0.9, {life})"), "p90"),
        Panel::heatmap(
            "Life of streams, all of them",
            "How many streams lived how long, at their end.",
            "s",
            "sum by (le) (increase(sse_server_connection_duration_seconds_bucket{OF}[$__rate_interval]))",
        ),
        p("Mean life by reason", "Mean life of the streams that ended, by reason.", "s")
            .of(
                "sum by (reason) (rate(sse_server_connection_duration_seconds_sum{OF}[$__rate_interval])) / (sum by (reason) (rate(sse_server_connection_duration_seconds_count{OF}[$__rate_interval])) > 0)",
                "{{reason}}",
            ),
    ]
}

fn deliveries() -> Vec<Panel> {
    let p = Panel::lines;
    vec![
        p("Events delivered by pod", "Events that go to sockets, by pod; replayed ones are among them.", "mps")
            .of("sum by (pod) (rate(sse_server_events_delivered_total{OF}[$__rate_interval]))", "{{pod}}")
            .stacked(),
        both::latency(),
        both::all_latencies(),
        p("Latency by pod, p99", "One pod that is late has a busy node, or a clock that is off.", "s")
            .of(
                "histogram_quantile(0.99, sum by (pod, le) (rate(sse_server_delivery_latency_seconds_bucket{OF}[$__rate_interval])))",
                "{{pod}}",
            )
            .look_at(0.25, 1.0)
            .traced(),
        p("Mean latency by pod", "Mean of the live deliveries, by pod.", "s")
            .of(
                "sum by (pod) (rate(sse_server_delivery_latency_seconds_sum{OF}[$__rate_interval])) / sum by (pod) (rate(sse_server_delivery_latency_seconds_count{OF}[$__rate_interval]))",
                "{{pod}}",
            ),
        p("Events posted", "Answers to events that came over HTTP (publish.enabled). `duplicate`: its Nats-Msg-Id is in the log already. `refused`: it could reach nobody, or did not come whole.", "reqps")
            .of("sum by (result) (rate(sse_server_publishes_total{OF}[$__rate_interval]))", "{{result}}"),
        p("Events for each stream", "Events that an open stream gets, on the mean.", "mps")
            .of(
                "sum(rate(sse_server_events_delivered_total{OF}[$__rate_interval])) / clamp_min(sum(sse_server_active_connections{OF}), 1)",
                "events",
            ),
    ]
}

fn missed() -> Vec<Panel> {
    let p = Panel::lines;
    vec![
        p("Events replayed by pod", "Events that clients had missed and got when they came back, or caught up with.", "mps")
            .of("sum by (pod) (rate(sse_server_events_replayed_total{OF}[$__rate_interval]))", "{{pod}}"),
        p("Share of replays", "Replayed events among those delivered. High after an outage, and where clients are slower than their events.", "percentunit")
            .of(
                "sum(rate(sse_server_events_replayed_total{OF}[$__rate_interval])) / sum(rate(sse_server_events_delivered_total{OF}[$__rate_interval]))",
                "share",
            )
            .at_most(1.0),
        p("Events dropped", "`overflow`: a slow client, with limits.overflowPolicy DropOldest. `refused`: nobody may get it; it is a dead letter, with the reason in its headers.", "mps")
            .of("sum by (reason) (rate(sse_server_events_dropped_total{OF}[$__rate_interval]))", "{{reason}}")
            .none_expected(),
        p("Resets", "Gaps that clients were told of. `expired`: older than the log keeps. `epoch`: the log was made anew. `invalid`: a cursor that no gateway wrote.", "ops")
            .of("sum by (reason) (rate(sse_server_resets_total{OF}[$__rate_interval]))", "{{reason}}")
            .none_expected(),
        p("History by result", "Ways of clients through the history service (replay.history). With any result but `served` the client is told of a gap.", "ops")
            .of("sum by (result) (rate(sse_server_history_total{OF}[$__rate_interval]))", "{{result}}"),
        p("History left out", "Events of the history service that can not be used. All but `known` are mistakes of the service.", "mps")
            .of("sum by (reason) (rate(sse_server_history_skipped_total{OF}[$__rate_interval]))", "{{reason}}"),
        p("Gaps repaired", "The live feed had lost messages, and they were read from the log. No client misses anything by it.", "ops")
            .of("sum by (pod) (rate(sse_server_gaps_repaired_total{OF}[$__rate_interval]))", "{{pod}}"),
        p("Live feed overflows", "The live feed overflowed: the pod got more than it could take. What was dropped is read from the log.", "ops")
            .of("sum by (pod) (rate(sse_server_nats_slow_consumer_total{OF}[$__rate_interval]))", "{{pod}}")
            .none_expected(),
    ]
}

fn behind() -> Vec<Panel> {
    let p = Panel::lines;
    vec![
        p("NATS connected by pod", "1 while the pod can serve handshakes.", "short")
            .of("max by (pod) (sse_server_nats_connected{OF})", "{{pod}}")
            .at_most(1.0)
            .at_least(1.0),
        p("NATS reconnects by pod", "Connections to NATS after the first, by pod. One of all pods at once is a restart of the server.", "ops")
            .of("sum by (pod) (rate(sse_server_nats_reconnects_total{OF}[$__rate_interval]))", "{{pod}}"),
        p("Lag by pod", "Events between the end of the log and the pod.", "short")
            .of("max by (pod) (sse_server_nats_lag_events{OF})", "{{pod}}")
            .look_at(100.0, 1000.0),
        p("Draining pods", "Pods that are about to end.", "short")
            .of("max by (pod) (sse_server_draining{OF})", "{{pod}}")
            .at_most(1.0),
        p("Spans dropped by pod", "Spans that were not exported: the queue was full, or the collector did not take them.", "ops")
            .of("sum by (pod) (rate(sse_server_spans_dropped_total{OF}[$__rate_interval]))", "{{pod}}")
            .none_expected(),
        both::versions(),
    ]
}
