//! Logs: one line an occurrence, JSON or for people, on standard error.

use std::io::IsTerminal;

use sse_crds::telemetry::{LogFormat, Logging};
use tracing_subscriber::EnvFilter;

/// Starts logging. The level of the configuration is the gateway's own; its libraries say less.
pub fn start(logging: &Logging) {
    let level = logging.level.as_str();
    let filter = EnvFilter::new(format!("warn,sse_gateway={level},async_nats=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match logging.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
    }
}
