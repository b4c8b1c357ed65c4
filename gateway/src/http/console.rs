//! `GET /`, where the spec has a console (`console.enabled`): one page that stands for itself, the same for everybody. It
//! fetches nothing but what this gateway answers, and its policy lets no other script, style or address in.
//!
//! What the page shows it asks for with the JWT that a person gave it: the same address answers with JSON to those that
//! accept nothing else, and present a good credential. It tells whom the gateway takes them for, and how many streams each
//! pod has: totals, and nobody's name.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::problem::Problem;
use super::{Gateway, fresh};
use crate::auth::Identity;
use crate::rebalance::Streams;
use crate::subject::Grant;

/// The parts of the page's one script, in their order.
const SCRIPTS: [&str; 7] = [
    include_str!("../../console/wire.js"),
    include_str!("../../console/gateway.js"),
    include_str!("../../console/lines.js"),
    include_str!("../../console/page.js"),
    include_str!("../../console/list.js"),
    include_str!("../../console/drop.js"),
    include_str!("../../console/app.js"),
];
const STYLE: &str = include_str!("../../console/style.css");
const FRAME: &str = include_str!("../../console/index.html");

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

/// What the console knows of the pods.
pub struct Console {
    /// This one's name.
    pub pod: String,
    /// The streams of those that were heard.
    pub heard: watch::Receiver<Streams>,
}

/// The document, with what its answers say of it.
struct Page {
    document: String,
    policy: HeaderValue,
    tag: HeaderValue,
}

impl Page {
    fn new() -> Self {
        let script = SCRIPTS.join("\n");
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
             trusted-types 'none'",
            digest(&script),
            digest(STYLE),
        );
        let document = FRAME.replacen("/*style*/", STYLE, 1).replacen("/*script*/", &script, 1);
        let tag = format!("\"{}\"", digest(&document));
        // Both are of ASCII. Were they not, nothing would be admitted.
        let nothing = HeaderValue::from_static("default-src 'none'");
        let value = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| nothing.clone());
        Self { policy: value(policy), tag: value(tag), document }
    }

    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH) == Some(&self.tag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], self.document.as_str()).into_response()
        };
        let head = response.headers_mut();
        head.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        head.insert(header::ETAG, self.tag.clone());
        head.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
        ] {
            head.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    }
}

fn digest(text: &str) -> String {
    BASE64_STANDARD.encode(Sha256::digest(text))
}

pub(super) async fn get(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let mut response = if wants_json(&headers) {
        told(&gateway, &headers).await.into_response()
    } else {
        PAGE.answer(&headers)
    };
    let head = response.headers_mut();
    head.insert(header::VARY, HeaderValue::from_static("accept"));
    head.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whoever accepts nothing but JSON. A browser that opens the page accepts HTML.
#[must_use]
pub fn wants_json(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json")
}

async fn told(gateway: &Gateway, headers: &HeaderMap) -> Result<Response, Problem> {
    let identity = gateway.bearer(headers).await?;
    Ok(fresh(&about(gateway, &identity)))
}

fn about(gateway: &Gateway, identity: &Identity) -> Value {
    let (spec, console) = (&gateway.config.spec, &gateway.console);
    let mut streams = console.heard.borrow().clone();
    streams.insert(console.pod.clone(), gateway.limits.total());
    let pods: Vec<_> =
        streams.iter().map(|(name, streams)| json!({"name": name, "streams": streams})).collect();
    json!({
        "gateway": gateway.config.name.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "basePath": spec.endpoints.base_path,
        "modes": spec.auth.modes,
        "heartbeatSeconds": spec.stream.heartbeat_interval_seconds,
        "replay": spec.replay.enabled,
        "publish": spec.publish.enabled,
        "subjects": format!("{}.{}", spec.nats.subject_prefix, identity.tenant),
        "identity": {
            "tenant": identity.tenant.decode(),
            "user": identity.user.decode(),
            "topics": identity.topics,
            "publish": identity.publish.iter().map(Grant::as_str).collect::<Vec<_>>(),
            "expires": identity.expires,
        },
        "traces": {"exported": !spec.telemetry.otlp_endpoint.is_empty(), "url": spec.console.trace_url},
        "nats": gateway.context.status.is_connected(),
        "draining": gateway.context.drain.is_cancelled(),
        "pod": console.pod,
        "limit": gateway.limits.per_pod(),
        "pods": pods,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_holds_what_its_policy_admits_and_asks_nobody_else() {
        let page = Page::new();
        let within = |begin: &str, end: &str| {
            let (_, rest) = page.document.split_once(begin).expect("a beginning");
            rest.split_once(end).expect("an end").0.to_owned()
        };
        let policy = page.policy.to_str().expect("text");
        for (begin, end, kind) in
            [("<script type=\"module\">", "</script>", "script-src"), ("<style>", "</style>", "style-src")]
        {
            let source = format!("{kind} 'sha256-{}'", digest(&within(begin, end)));
            assert!(policy.contains(&source), "{source} is not in {policy}");
        }
        assert_eq!(page.document.matches("<script").count(), 1);
        for outside in [" src=", "@import", "url(", "innerHTML", "Storage", "document.cookie", " style="] {
            assert!(!page.document.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_browser_is_shown_the_page_and_the_page_gets_json() {
        let wants = |accept: &'static str| {
            let header = [(header::ACCEPT, HeaderValue::from_static(accept))];
            wants_json(&HeaderMap::from_iter(header))
        };
        assert!(wants("application/json"));
        assert!(!wants("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!wants("*/*") && !wants_json(&HeaderMap::new()));
    }
}
