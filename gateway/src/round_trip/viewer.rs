//! A client of the gateway: mints a token, opens a stream, reads events.

use std::collections::VecDeque;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sse_otlp::https::{self, HttpsError};

/// Longest that may come without the end of a block, in bytes.
const MOST: usize = 64 * 1024;

/// Why there is no stream, or no event.
#[derive(Debug, thiserror::Error)]
pub enum ViewerError {
    #[error("the gateway: {0}")]
    Https(#[from] HttpsError),
    #[error("the gateway answers {what} with {status}: {detail}")]
    Status { what: &'static str, status: StatusCode, detail: String },
    #[error("the gateway hands out no token")]
    NoToken,
    #[error("the stream ended")]
    Ended,
    #[error("the stream holds no events")]
    NoEvents,
}

impl From<reqwest::Error> for ViewerError {
    fn from(error: reqwest::Error) -> Self {
        Self::Https(error.into())
    }
}

/// What a stream brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub data: String,
}

/// An open stream.
pub struct Viewer {
    response: Response,
    parser: Parser,
}

impl Viewer {
    /// As a browser opens it: with a token in the query.
    pub async fn by_token(base: &str, jwt: &str) -> Result<Self, ViewerError> {
        let request = https::client(None)?.post(format!("{base}/token")).header(AUTHORIZATION, bearer(jwt)?);
        let answer = good("POST …/token", request.send().await?).await?;
        let answer: Value = serde_json::from_slice(&https::body(answer).await?).unwrap_or_default();
        let token = answer["token"].as_str().ok_or(ViewerError::NoToken)?;
        let request = https::client(None)?.get(format!("{base}/stream?token={token}"));
        Self::of(request.send().await?).await
    }

    /// As a client opens it that can send headers.
    pub async fn by_jwt(base: &str, jwt: &str, cursor: Option<&str>) -> Result<Self, ViewerError> {
        let mut request =
            https::client(None)?.get(format!("{base}/stream")).header(AUTHORIZATION, bearer(jwt)?);
        if let Some(cursor) = cursor {
            request = request.header("Last-Event-ID", cursor);
        }
        Self::of(request.send().await?).await
    }

    async fn of(response: Response) -> Result<Self, ViewerError> {
        Ok(Self { response: good("GET …/stream", response).await?, parser: Parser::default() })
    }

    /// The next event that has data.
    pub async fn event(&mut self) -> Result<Event, ViewerError> {
        loop {
            if let Some(event) = self.parser.ready.pop_front() {
                return Ok(event);
            }
            let chunk = self.response.chunk().await?.ok_or(ViewerError::Ended)?;
            self.parser.read(&chunk)?;
        }
    }
}

async fn good(what: &'static str, response: Response) -> Result<Response, ViewerError> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let detail = String::from_utf8_lossy(&https::body(response).await?).into_owned();
    Err(ViewerError::Status { what, status, detail })
}

/// Does not print itself.
fn bearer(jwt: &str) -> Result<HeaderValue, ViewerError> {
    let mut value = HeaderValue::try_from(format!("Bearer {jwt}")).map_err(|_| ViewerError::NoToken)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Cuts a stream into its blocks: the gateway ends lines with LF alone.
#[derive(Debug, Default)]
struct Parser {
    rest: Vec<u8>,
    ready: VecDeque<Event>,
}

impl Parser {
    fn read(&mut self, chunk: &[u8]) -> Result<(), ViewerError> {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            self.ready.extend(event(&String::from_utf8_lossy(&block)));
        }
        if self.rest.len() > MOST { Err(ViewerError::NoEvents) } else { Ok(()) }
    }
}

/// A block with data; comments and positions have none.
fn event(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    Some(Event { data: field("data: ")?, id: field("id: ").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut_and_what_has_no_data_is_none() {
        let stream = b":connected\n\nid: e-1\n\nid: e-2\nevent: greeting\ndata: one\n\n:heartbeat\n\nid: e-3\ndata: two\n\n";
        let event = |id: &str, data: &str| Event { id: id.into(), data: data.into() };
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            parser.read(&stream[..cut]).expect("the first part");
            parser.read(&stream[cut..]).expect("the second part");
            assert_eq!(parser.ready, [event("e-2", "one"), event("e-3", "two")], "{cut}");
        }
    }

    #[test]
    fn what_never_ends_is_no_stream_of_events() {
        assert!(matches!(Parser::default().read(&vec![b'a'; MOST + 1]), Err(ViewerError::NoEvents)));
    }
}
