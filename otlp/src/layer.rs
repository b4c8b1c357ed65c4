//! Hands spans of `tracing` to OpenTelemetry.

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// What hands over the spans of this target, and no others, with nothing but what they say themselves.
#[must_use]
pub fn layer<S>(tracer: SdkTracer, target: &'static str) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let layer = layer.with_location(false).with_threads(false).with_tracked_inactivity(false);
    layer
        .with_target(false)
        .with_level(false)
        .with_filter(filter_fn(move |meta| meta.is_span() && meta.target() == target))
}
