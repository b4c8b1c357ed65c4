//! Panels that the overview and the dashboard of one gateway have alike.

use super::model::Panel;

pub fn latency() -> Panel {
    let bucket = "sum by (le) (rate(sse_server_delivery_latency_seconds_bucket{OF}[$__rate_interval]))";
    Panel::lines("Delivery latency", "Of live deliveries, from the storage in JetStream to the socket. Dots are deliveries that were traced.", "s")
        .of(&format!("histogram_quantile(0.5, {bucket})"), "p50")
        .of(&format!("histogram_quantile(0.99, {bucket})"), "p99")
        .of(&format!("histogram_quantile(0.999, {bucket})"), "p999")
        .look_at(0.25, 1.0)
        .traced()
}

pub fn all_latencies() -> Panel {
    Panel::heatmap(
        "Delivery latency, all of it",
        "How many live deliveries took how long.",
        "s",
        "sum by (le) (increase(sse_server_delivery_latency_seconds_bucket{OF}[$__rate_interval]))",
    )
    .traced()
}

pub fn versions() -> Panel {
    Panel::lines("Versions", "Pods by version: two during an upgrade.", "short")
        .of("count by (version) (sse_server_build_info{OF})", "{{version}}")
        .stacked()
}
