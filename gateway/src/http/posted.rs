//! The headers of a posted event: which of them make sense, and how NATS spells them, where the case of a
//! name counts.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::bad_request;
use super::problem::Problem;
use crate::nats::publish::PublishError;
use crate::subject::Token;

/// Names the target: the subject below the tenant.
pub const SUBJECT: HeaderName = HeaderName::from_static("sse-subject");
/// Names the event, so that it is stored once.
const MESSAGE_ID: HeaderName = HeaderName::from_static("nats-msg-id");
/// Bytes of such a name: the server remembers each for a while.
const MAX_ID: usize = 512;

/// What an event may bring, beside its id and the attributes of a `CloudEvent`.
const SPELLED: [&str; 9] = [
    "Sse-Event",
    "Sse-Retry",
    "Sse-Complete",
    "Sse-Users",
    "Sse-Topics",
    "Nats-TTL",
    "Content-Type",
    "traceparent",
    "tracestate",
];

/// The headers of the event for NATS.
///
/// # Errors
///
/// When one can not be read, or would tell NATS or the gateway what it does not understand here.
pub fn headers(from: &HeaderMap, tenant: &Token) -> Result<async_nats::HeaderMap, Problem> {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in from {
        let known = SPELLED.into_iter().find(|known| known.eq_ignore_ascii_case(name.as_str()));
        let attribute = || name.as_str().starts_with("ce-").then_some(name.as_str());
        if let Some(spelled) = known.or_else(attribute) {
            // The server would take it for none.
            if spelled == "Nats-TTL" && value.is_empty() {
                return Err(PublishError::Ttl.into());
            }
            append(&mut headers, spelled, text(name, value)?)?;
        } else if ["nats-", "sse-"].iter().any(|ours| name.as_str().starts_with(ours))
            && *name != SUBJECT
            && *name != MESSAGE_ID
        {
            return Err(bad_request(format!("The header {name} has no meaning here.")));
        }
    }
    let mut ids = texts(from, MESSAGE_ID);
    match (ids.next().transpose()?, ids.next()) {
        (None, _) => {}
        // The server remembers the ids of all tenants together.
        (Some(id), None) if (1..=MAX_ID).contains(&id.len()) => {
            append(&mut headers, "Nats-Msg-Id", &format!("{tenant}:{id}"))?;
        }
        _ => {
            let detail = format!("Nats-Msg-Id must be there once, with at most {MAX_ID} bytes.");
            return Err(bad_request(detail));
        }
    }
    Ok(headers)
}

fn append(headers: &mut async_nats::HeaderMap, name: &str, value: &str) -> Result<(), Problem> {
    let unreadable = || bad_request(format!("The header {name} can not be read."));
    let key: async_nats::HeaderName = name.parse().map_err(|_| unreadable())?;
    let value: async_nats::HeaderValue = value.parse().map_err(|_| unreadable())?;
    headers.append(key, value);
    Ok(())
}

/// Every value of a header.
pub fn texts(from: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Result<String, Problem>> {
    from.get_all(&name).iter().map(move |value| text(&name, value).map(str::to_owned))
}

fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, Problem> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| bad_request(format!("The header {name} can not be read.")))
}

/// Checks that a body is text, or the JSON of one `CloudEvent`.
///
/// # Errors
///
/// When it can not be an event, as its sender says: with 415.
pub fn check_media(headers: &HeaderMap) -> Result<(), Problem> {
    let not = |detail: &str| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return not("The body must be sent as it is, without a Content-Encoding.");
    }
    for value in headers.get_all(header::CONTENT_TYPE) {
        let Ok(value) = value.to_str() else { return not("The Content-Type can not be read.") };
        let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
        let kind = parts.next().unwrap_or_default();
        if kind.starts_with("application/cloudevents-batch") {
            return not("An event is published by itself, and not in a batch.");
        }
        if kind.starts_with("application/cloudevents") && kind != "application/cloudevents+json" {
            return not("A CloudEvent is understood as JSON, or in binary mode.");
        }
        let charset = parts.find_map(|part| part.strip_prefix("charset=").map(str::to_owned));
        let utf8 = |charset: &str| ["utf-8", "utf8", "us-ascii"].contains(&charset.trim_matches('"'));
        if kind.starts_with("multipart/") || !charset.as_deref().is_none_or(utf8) {
            return not("An event is text in UTF-8.");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
        };
        headers.iter().map(header).collect()
    }

    fn status(result: Result<impl Sized, Problem>) -> u16 {
        result.map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn headers_are_spelled_as_nats_has_them_and_the_id_is_the_tenants() {
        let from = map(&[
            ("sse-event", "größer"),
            ("ce-type", "t"),
            ("nats-ttl", "1h"),
            ("nats-msg-id", "a:1"),
            ("sse-subject", "all"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("x-other", "1"),
        ]);
        let headers = headers(&from, &Token::encode("acme").expect("short")).expect("good headers");
        let mut seen: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_ref(), value[0].as_str())).collect();
        seen.sort_unstable();
        let expected =
            [("Nats-Msg-Id", "acme:a:1"), ("Nats-TTL", "1h"), ("Sse-Event", "größer"), ("ce-type", "t")];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_would_steer_nats_or_has_no_meaning_is_refused() {
        let acme = Token::encode("acme").expect("short");
        let refused = |header| status(headers(&map(&[header]), &acme));
        for name in ["nats-sequence", "nats-rollup", "nats-expected-stream", "nats-marker-reason", "sse-evnt"]
        {
            assert_eq!(refused((name, "1")), 400, "{name}");
        }
        assert_eq!(refused(("nats-msg-id", "")), 400);
        assert_eq!(refused(("nats-ttl", "")), 400);
        assert_eq!(refused(("nats-msg-id", &"x".repeat(513))), 400);
        assert_eq!(status(headers(&map(&[("nats-msg-id", "1"), ("nats-msg-id", "1")]), &acme)), 400);
    }

    #[test]
    fn a_body_that_can_be_no_event_is_told_by_its_media_type() {
        let kind = |kind| status(check_media(&map(&[("content-type", kind)])));
        for good in [
            "text/plain",
            "application/json; charset=UTF-8",
            "text/plain;charset=\"utf-8\"",
            "application/cloudevents+json; charset=utf-8",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(kind(good), 200, "{good}");
        }
        for bad in [
            "application/cloudevents-batch+json",
            "application/cloudevents+avro",
            "Multipart/Form-Data; boundary=x",
            "text/plain; charset=iso-8859-1",
        ] {
            assert_eq!(kind(bad), 415, "{bad}");
        }
        assert_eq!(status(check_media(&map(&[]))), 200);
        assert_eq!(status(check_media(&map(&[("content-encoding", "gzip")]))), 415);
    }
}
