//! Logs: one line an occurrence, JSON or for people, on standard error. And the spans that go to a collector.

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracer;
use sse_crds::telemetry::{LogFormat, Logging};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::telemetry::TARGET;

/// Starts logging, and tracing if there is a tracer. The level of the configuration is the gateway's own; its
/// libraries say less.
pub fn start(logging: &Logging, tracer: Option<SdkTracer>) {
    let level = logging.level.as_str();
    // A span of a trace is no context of a line: lines name their trace.
    let filter = format!("warn,sse_gateway={level},sse_otlp={level},{TARGET}=off,async_nats=error");
    let filter = EnvFilter::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match logging.format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            lines.with_current_span(false).with_span_list(false).with_filter(filter).boxed()
        }
        LogFormat::Text => {
            lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).with_filter(filter).boxed()
        }
    };
    let traces = tracer.map(|tracer| sse_otlp::layer(tracer, TARGET));
    registry().with(lines).with(traces).init();
}
