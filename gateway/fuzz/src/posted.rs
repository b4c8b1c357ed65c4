//! An event that is posted: headers, `name: value` in lines, a blank line, and the body. What is taken reaches NATS as it
//! was meant, and the feed refuses nothing of it.

use std::fmt::Write as _;

use async_nats::HeaderMap;
use bytes::Bytes;
use sse_gateway::event::{Message, Rules, Source};
use sse_gateway::http::posted;
use sse_gateway::subject::Token;

use crate::event::MAX_PAYLOAD;
use crate::request;

/// What a publisher may tell NATS itself.
const OF_NATS: [&str; 2] = ["Nats-Msg-Id", "Nats-TTL"];

pub fn check(input: &[u8]) {
    let _ = is_taken(input);
}

/// Whether it would be stored; what must hold for either is looked at.
pub fn is_taken(input: &[u8]) -> bool {
    let at = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let body = Bytes::copy_from_slice(input.get(at + 2..).unwrap_or_default());
    let from = request::headers(input[..at].split(|b| *b == b'\n'));
    let acme = Token::encode("acme").expect("short");
    if posted::check_media(&from).is_err() {
        return false;
    }
    let Ok(headers) = posted::headers(&from, &acme) else { return false };
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        let ours = name.starts_with("Sse-") || name.starts_with("ce-") || OF_NATS.contains(&name);
        assert!(ours || ["Content-Type", "traceparent", "tracestate"].contains(&name), "{name}");
        assert_ne!(name, "Sse-Subject");
        if name == "Nats-Msg-Id" {
            assert!(values.len() == 1 && values[0].as_str().starts_with("acme:"), "{values:?}");
        }
    }
    let subject = "sse.acme.user.alice";
    let rules = Rules {
        prefix: "sse".into(),
        default_event_type: "message".into(),
        max_payload: MAX_PAYLOAD,
        platform: false,
        ids: true,
    };
    let message = Message::new(0, subject.into(), &headers, body.clone(), Source::Stored);
    let Ok(taken) = rules.check(&message) else { return false };
    let stored = Message::new(7, subject.into(), &carried(&headers), body, Source::Stored);
    let read = rules.check(&stored).expect("what was taken is not refused later");
    assert_eq!(read.completes(), taken.completes());
    true
}

/// The headers as they come out of NATS, where each is a line.
fn carried(headers: &HeaderMap) -> HeaderMap {
    let mut block = String::new();
    for (name, values) in headers.iter() {
        for value in values {
            let _ = write!(block, "{name}: {value}\r\n");
        }
    }
    let mut carried = HeaderMap::new();
    for line in block.split_terminator("\r\n") {
        let (name, value) = line.split_once(':').expect("one line for each header");
        let value = value.trim_ascii();
        assert!(!value.contains(['\r', '\n']), "{value:?}");
        carried.append(name, value);
    }
    assert_eq!(carried.len(), headers.len());
    carried
}
