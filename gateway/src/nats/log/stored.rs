//! A message as the leader stores it, in the JSON of a `STREAM.MSG.GET`, read as the client library
//! would read it from the feed or a direct get.
//!
//! The library drops the whole connection at a message whose headers or subject it can not read, so
//! here it must be known which ones those are: what this module can not read, nobody asks for in
//! any other way.

use std::sync::Arc;

use async_nats::header::HeaderName;
use async_nats::{HeaderMap, HeaderValue, StatusCode, Subject};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::LogError;
use crate::event::{Entry, Message, Source};

/// What the leader has.
#[derive(Debug)]
pub(super) enum Stored {
    Readable(Arc<Entry>),
    /// It can only be read in this way.
    Unreadable(u64, Subject),
}

impl Stored {
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Readable(entry) => entry.message.sequence,
            Self::Unreadable(sequence, _) => *sequence,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    message: Option<Raw>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct Raw {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// An error of the `JetStream` API.
#[derive(Deserialize)]
pub(super) struct ApiError {
    pub err_code: Option<u64>,
    #[serde(default)]
    pub description: String,
}

/// `err_code` of "no message found".
const NO_MESSAGE: u64 = 10037;

/// Reads an answer of `STREAM.MSG.GET`; `None` when the leader has no such message.
pub(super) fn read(answer: &[u8], stream: &str) -> Result<Option<Stored>, LogError> {
    let broken = |error: &dyn std::fmt::Display| LogError::Refused(error.to_string());
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| broken(&e))?;
    let raw = match (answer.message, answer.error) {
        (Some(raw), _) => raw,
        (None, Some(error)) if error.err_code == Some(NO_MESSAGE) => return Ok(None),
        (None, error) => {
            return Err(LogError::Refused(error.map(|error| error.description).unwrap_or_default()));
        }
    };
    let headers = STANDARD.decode(&raw.hdrs).map_err(|e| broken(&e))?;
    let payload = STANDARD.decode(&raw.data).map_err(|e| broken(&e))?;
    let subject = Subject::from(raw.subject.as_str());
    Ok(Some(match annotate(&headers, stream, &raw) {
        Some(headers) => {
            let message = Message::new(raw.seq, subject, &headers, payload.into(), Source::Annotated);
            Stored::Readable(Entry::new(message))
        }
        None => Stored::Unreadable(raw.seq, subject),
    }))
}

/// The headers that the message would have when the server hands it out: it cuts off two bytes,
/// whatever they are, and adds its own. So a block that does not end as it must reads the same here.
fn annotate(stored: &[u8], stream: &str, raw: &Raw) -> Option<HeaderMap> {
    if raw.subject.contains(char::REPLACEMENT_CHARACTER) {
        // Not UTF-8 before it came through the JSON.
        return None;
    }
    let mut block = if stored.is_empty() {
        b"NATS/1.0\r\n".to_vec()
    } else {
        stored[..stored.len().saturating_sub(2)].to_vec()
    };
    let ours =
        format!("Nats-Stream: {stream}\r\nNats-Subject: {}\r\nNats-Sequence: {}\r\n", raw.subject, raw.seq);
    block.extend_from_slice(ours.as_bytes());
    parse(&block)
}

/// Reads a block of headers by the rules of the client library; `None` where it would give up.
fn parse(block: &[u8]) -> Option<HeaderMap> {
    let mut lines = std::str::from_utf8(block).ok()?.lines().peekable();
    let status = lines.next()?.strip_prefix("NATS/1.0")?.trim();
    let status = status.split_once(' ').map_or(status, |(status, _)| status.trim());
    if !status.is_empty() {
        status.parse::<StatusCode>().ok()?;
    }
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let name: HeaderName = name.parse().ok()?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        // Over which the client dies.
        let value: HeaderValue = value.trim_end().parse().ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(subject: &str, headers: &[u8]) -> Stored {
        let message = serde_json::json!({
            "message": {"subject": subject, "seq": 7, "hdrs": STANDARD.encode(headers), "data": "aGk="},
        });
        read(message.to_string().as_bytes(), "S").expect("an answer").expect("a message")
    }

    #[test]
    fn what_the_client_library_can_not_read_is_known() {
        let broken: [&[u8]; 8] = [
            b"NATS/1.0\r\nSse-Event: a\nb\r\n\r\n",
            b"NATS/1.0\r\nX: \xff\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\nbad name: x\r\n\r\n",
            b"NATS/1.0 abc\r\n\r\n",
            // The server cuts it, and its own header becomes the status.
            b"NATS/1.0 500",
            b"hello",
            b"NATS/1.0\r\nSse-Event: a\rb\r\n\r\n",
        ];
        for headers in broken {
            let read = stored("sse.t.all", headers);
            assert!(matches!(read, Stored::Unreadable(7, _)), "{:?}", String::from_utf8_lossy(headers));
        }
        assert!(matches!(stored("sse.t.user.\u{fffd}", b""), Stored::Unreadable(7, _)));
    }

    #[test]
    fn what_it_can_read_is_read() {
        let fine: [&[u8]; 6] = [
            b"",
            b"NATS/1.0\r\nSse-Event: a\r\n\r\n",
            b"NATS/1.0 503 gone\r\n\r\n",
            b"NATS/1.0\r\nA: b\r\n c\r\n\r\n",
            b"NATS/1.0\r\nSse-Event: cut\r\n",
            b"NATS/1.0\r\n: x\r\n\r\n",
        ];
        for headers in fine {
            let read = stored("sse.t.all", headers);
            assert!(
                matches!(read, Stored::Readable(e) if e.message.sequence == 7 && e.message.payload == "hi")
            );
        }
    }

    #[test]
    fn nothing_there_is_told_from_a_refusal() {
        let none = br#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert!(matches!(read(none, "S"), Ok(None)));
        let refused = br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
        assert!(matches!(read(refused, "S"), Err(LogError::Refused(why)) if why == "stream not found"));
    }
}
