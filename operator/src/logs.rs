//! Logs: one line an occurrence, JSON or for people, on standard error. And the spans that go to a collector.

use std::io::IsTerminal;

use anyhow::Context as _;
use opentelemetry_sdk::trace::SdkTracer;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::arguments::{Arguments, LogFormat};
use crate::telemetry::TARGET;

/// Starts logging, and tracing if there is a tracer.
///
/// # Errors
///
/// When `--log-level` is no filter.
pub fn start(arguments: &Arguments, tracer: Option<SdkTracer>) -> anyhow::Result<()> {
    registry()
        .with(lines(arguments, std::io::stderr)?)
        .with(tracer.map(|tracer| sse_otlp::layer(tracer, TARGET)))
        .init();
    Ok(())
}

/// Writes log lines.
///
/// # Errors
///
/// When `--log-level` is no filter.
pub fn lines<S, W>(arguments: &Arguments, writer: W) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // What kube tells of a broken watch or connection, the operator tells with what it is about. A span is no
    // context of a line: lines name their gateway and their trace.
    let level = &arguments.log_level;
    let directives =
        format!("kube_client=off,kube_runtime=error,kube_runtime::controller=info,{level},{TARGET}=off");
    let filter = EnvFilter::try_new(directives).context("--log-level")?;
    let lines = fmt::layer().with_writer(writer);
    Ok(match arguments.log_format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            lines.with_current_span(false).with_span_list(false).with_filter(filter).boxed()
        }
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
    })
}
