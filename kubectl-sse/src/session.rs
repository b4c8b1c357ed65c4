//! How a stream is opened with a JWT, in the way that the gateway wants: by a single-use token, by the JWT itself, or by
//! a cookie.

use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use serde_json::Value;
use sse_crds::SseGatewaySpec;
use sse_crds::auth::Mode;

use crate::credential::Jwt;
use crate::door::{Answer, Door, DoorError, Line, Url};

/// What a stream is asked for.
pub struct Wanted<'a> {
    pub spec: &'a SseGatewaySpec,
    /// Path of the endpoints.
    pub base: &'a str,
    pub topics: &'a [String],
    /// Id after which to begin; empty: now.
    pub cursor: &'a str,
    /// Compressions that are offered to whoever is in between; a gateway uses none.
    pub codings: Option<&'a str>,
}

/// What became of it.
pub enum Opening {
    Stream(Response<Incoming>),
    /// There is nothing more to come: the last event was the last.
    Completed,
    Refused(Answer),
}

/// Path of the endpoints behind a door.
pub fn base<'a>(door: &'a Door, spec: &'a SseGatewaySpec) -> &'a str {
    match door {
        Door::Url { url: Url { path, .. }, .. } if !path.is_empty() => path,
        _ => &spec.endpoints.base_path,
    }
}

/// Opens a stream on a connection.
///
/// # Errors
///
/// When there is no answer.
pub async fn open(line: &mut Line, wanted: &Wanted<'_>, jwt: &Jwt) -> Result<Opening, DoorError> {
    let Wanted { spec, base, topics, cursor, codings } = wanted;
    let mut query = Vec::new();
    let mut header = None;
    let modes = &spec.auth.modes;
    if modes.contains(&Mode::Token) {
        let authorization = [("authorization", &*jwt.bearer())];
        let answer = line.ask(Method::POST, &format!("{base}/token"), &authorization, "").await?;
        let answer = Answer::of(answer).await?;
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let Some(token) = body["token"].as_str().filter(|_| answer.status == StatusCode::OK) else {
            return Ok(Opening::Refused(answer));
        };
        query.push(format!("token={}", percent(token, b"")));
    } else if modes.contains(&Mode::Bearer) {
        header = Some(("authorization", jwt.bearer()));
    } else {
        header = Some(("cookie", format!("{}={}", spec.auth.cookie.name, jwt.as_str())));
    }
    if !topics.is_empty() {
        query.push(format!("topics={}", percent(&topics.join(","), b"-_.~")));
    }
    if !cursor.is_empty() {
        query.push(format!("lastEventId={}", percent(cursor, b"-_.~")));
    }
    let mut headers = vec![("accept", "text/event-stream")];
    headers.extend(codings.map(|codings| ("accept-encoding", codings)));
    headers.extend(header.as_ref().map(|(name, value)| (*name, value.as_str())));
    let path = format!("{base}/stream?{}", query.join("&"));
    let response = line.ask(Method::GET, &path, &headers, "").await?;
    match response.status() {
        StatusCode::OK => Ok(Opening::Stream(response)),
        StatusCode::NO_CONTENT => Ok(Opening::Completed),
        _ => Ok(Opening::Refused(Answer::of(response).await?)),
    }
}

/// Percent-encoding of every byte but letters, digits and `plain`.
pub fn percent(text: &str, plain: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(byte.into());
        } else {
            out.extend(["%", &format!("{byte:02X}")]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_query_is_encoded() {
        assert_eq!(percent("orders.>,a&b=ü", b"-_.~"), "orders.%3E%2Ca%26b%3D%C3%BC");
        assert_eq!(percent("alice@example.com", b"-_"), "alice%40example%2Ecom");
    }
}
