//! The operator: does it look after the gateways, and what keeps it from that.

use serde_json::Value;

use super::model::{Board, Panel, annotation, operators};

pub fn board() -> Value {
    Board {
        uid: "sse-gateway-operator",
        title: "SSE gateways / Operator",
        description: "The operator: which one leads, how many gateways are ready, what fails, and what it costs the API server.",
        variables: operators(),
        annotations: vec![annotation(
            "Rollouts",
            "blue",
            "sum by (namespace) (sse_operator_rollouts{namespace=~\"$namespace\"}) > 0",
            "Pods are replaced",
            "{{namespace}}",
        )],
        rows: vec![("Now", now()), ("Work", work())],
    }
    .json()
}

fn now() -> Vec<Panel> {
    let n = |title: &str, description: &str| Panel::number(title, description, "short").sized(6, 4);
    vec![
        n("Leaders", "Operators that hold the Lease: one for each release of the chart.")
            .of("sum(sse_operator_leader{namespace=~\"$namespace\"})", "leaders")
            .at_least(1.0),
        n("Gateways ready", "SseGateways whose condition Ready is True.")
            .of("sum(sse_operator_gateways{namespace=~\"$namespace\",ready=\"true\"})", "gateways"),
        n(
            "Gateways not ready",
            "SseGateways whose condition Ready is not True; kubectl get ssegw -A -o wide says why.",
        )
        .of("sum(sse_operator_gateways{namespace=~\"$namespace\",ready=\"false\"})", "gateways")
        .none_expected(),
        n("Rollouts that wait", "Gateways whose new pods wait for those of others (maxConcurrentRollouts).")
            .of("sum(sse_operator_rollouts_waiting{namespace=~\"$namespace\"})", "gateways"),
    ]
}

fn work() -> Vec<Panel> {
    let p = Panel::lines;
    let bucket = "sum by (le) (rate(sse_operator_reconcile_duration_seconds_bucket{namespace=~\"$namespace\"}[$__rate_interval]))";
    vec![
        p("Looks at gateways", "How often the operator looks at an SseGateway and makes it so.", "ops")
            .of("sum(rate(sse_operator_reconcile_duration_seconds_count{namespace=~\"$namespace\"}[$__rate_interval]))", "looks"),
        p("Duration of a look", "How long one takes: mostly the API server's time.", "s")
            .of(&format!("histogram_quantile(0.5, {bucket})"), "p50")
            .of(&format!("histogram_quantile(0.99, {bucket})"), "p99")
            .look_at(1.0, 10.0),
        p("Errors", "Looks that failed, by reason. Each is tried again; the gateway's status and the operator's log have the message.", "ops")
            .of("sum by (reason) (rate(sse_operator_reconcile_errors_total{namespace=~\"$namespace\"}[$__rate_interval]))", "{{reason}}")
            .none_expected(),
        p("Gateways", "SseGateways by whether they are ready.", "short")
            .of("sum by (ready) (sse_operator_gateways{namespace=~\"$namespace\"})", "ready: {{ready}}")
            .stacked(),
        p("Rollouts", "Gateways whose pods are being replaced, and those that wait for it.", "short")
            .of("sum(sse_operator_rollouts{namespace=~\"$namespace\"})", "under way")
            .of("sum(sse_operator_rollouts_waiting{namespace=~\"$namespace\"})", "waiting"),
        p("Leader", "1 for the operator that works. It hands over at once when it ends, and within 15 s when it is killed.", "short")
            .of("max by (namespace, pod) (sse_operator_leader{namespace=~\"$namespace\"})", "{{pod}}")
            .at_most(1.0),
        p("Requests to the API server", "What the operator asks of the API server. Quiet gateways cost it nothing.", "reqps")
            .of("sum by (verb) (rate(sse_operator_api_requests_total{namespace=~\"$namespace\"}[$__rate_interval]))", "{{verb}}")
            .sized(24, 8),
    ]
}
