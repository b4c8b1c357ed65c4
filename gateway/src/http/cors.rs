//! Cross-origin requests, by the Fetch standard: pages of exactly the origins in `cors.allowedOrigins` may
//! ask, with credentials, and read what is answered, be it an error. A page of any other origin is told
//! nothing, so its browser keeps the answer from it. There is no `*`.
//!
//! This is about what a browser shows to a page. Who may connect or publish is the credential's affair; of a
//! cookie, which browsers add by themselves, [`credential`](super::credential) asks for the page, too.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Gateway;

/// Headers that a page may send, beside `Sse-*` and `ce-*`. `Cache-Control` is sent by clients that stand in
/// for a native `EventSource`.
const REQUESTED: [&str; 9] = [
    "authorization",
    "cache-control",
    "content-type",
    "last-event-id",
    "nats-msg-id",
    "nats-ttl",
    "tenant",
    "traceparent",
    "tracestate",
];
/// Headers of an answer that a page may read, beside those that it always may.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after");
/// Seconds for which a browser need not ask again. None takes more.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// What the answer to a preflight depends on, beside the origin.
const ASKED: HeaderValue =
    HeaderValue::from_static("access-control-request-method, access-control-request-headers");

/// Around all routes.
pub(super) async fn cross_origin(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = allowed(request.headers(), &gateway.config.spec.cors.allowed_origins);
    let wanted = wanted(&request);
    let mut response = next.run(request).await;
    if let Some(wanted) = wanted.filter(|_| origin.is_some()) {
        response = permit(response, wanted);
    }
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

/// The origin of a request, if it is one of those that are allowed.
#[must_use]
pub fn allowed(headers: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    allowed.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Of a preflight: those of the headers that it asks for which a page may send.
#[must_use]
pub fn wanted<B>(request: &Request<B>) -> Option<String> {
    let headers = request.headers();
    if request.method() != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let lists = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    let may = |name: &String| {
        REQUESTED.contains(&name.as_str()) || name.starts_with("sse-") || name.starts_with("ce-")
    };
    Some(names.filter(may).collect::<Vec<_>>().join(", "))
}

/// The answer to a preflight, where the route said which methods it has. One that is not there stays so.
fn permit(answer: Response, wanted: String) -> Response {
    let Some(methods) = answer.headers().get(header::ALLOW).cloned() else { return answer };
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    // It came in headers, so it can go out in one.
    if let Some(wanted) = HeaderValue::try_from(wanted).ok().filter(|wanted| !wanted.is_empty()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.append(header::VARY, ASKED);
    response
}
