//! What became of a handshake or a token, as metrics and spans say it (docs/telemetry.md).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::Gateway;
use crate::telemetry;

/// The result of a handshake. Goes with the response, beside a status that can say less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome(pub &'static str);

impl Outcome {
    pub const USER_LIMIT: Self = Self("user_limit");
    pub const POD_LIMIT: Self = Self("pod_limit");

    /// What a status says by itself.
    #[must_use]
    pub const fn of(status: StatusCode) -> Self {
        Self(match status {
            StatusCode::OK => "ok",
            StatusCode::NO_CONTENT => "completed",
            StatusCode::BAD_REQUEST => "bad_request",
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "error",
        })
    }

    /// What a response says.
    #[must_use]
    pub fn in_response(response: &Response) -> Self {
        response.extensions().get().copied().unwrap_or_else(|| Self::of(response.status()))
    }
}

/// Around the stream endpoint: counts and traces each handshake.
pub(super) async fn handshake(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let span = telemetry::connect(request.headers());
    let version = version(request.version());
    let response = next.run(request).instrument(span.clone()).await;
    let Outcome(result) = Outcome::in_response(&response);
    gateway.context.telemetry.metrics.connects.inc(result);
    span.set_attribute("http.request.method", "GET");
    span.set_attribute("http.route", format!("{}/stream", gateway.config.spec.endpoints.base_path));
    span.set_attribute("http.response.status_code", i64::from(response.status().as_u16()));
    span.set_attribute("network.protocol.version", version);
    span.set_attribute("sse.result", result);
    response
}

/// A version of HTTP, as spans name it.
pub(super) const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
