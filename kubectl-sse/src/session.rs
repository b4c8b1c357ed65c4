//! How a stream is opened with a JWT, in the way that the gateway wants: by a single-use token, by the JWT itself, or by
//! a cookie.

use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use serde_json::Value;
use sse_crds::SseGatewaySpec;
use sse_crds::auth::Mode;
use sse_crds::encoding::percent;

use crate::credential::Jwt;
use crate::door::{Answer, Door, DoorError, Line, Url};

/// What stands in a query as it is, beside letters and digits.
const IN_QUERIES: &[u8] = b"-_.~";

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
        query.push(format!("topics={}", percent(&topics.join(","), IN_QUERIES)));
    }
    if !cursor.is_empty() {
        query.push(format!("lastEventId={}", percent(cursor, IN_QUERIES)));
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
