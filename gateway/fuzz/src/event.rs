//! Messages of the log: headers, one a line, a blank line, and the payload. What is not refused is one
//! event, with what the publisher said.

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use serde_json::Value;
use sse_gateway::cursor::Epoch;
use sse_gateway::event::{Message, Refusal, Rules, Source};

use crate::encoder::assert_whole;
use crate::parsers;
use crate::script::Dispatched;

const SUBJECTS: [&str; 3] = ["sse.acme.user.alice", "sse.acme.users", "sse.acme.topics"];
const HEADERS: [&str; 9] = [
    "Content-Type",
    "ce-type",
    "Sse-Event",
    "Sse-Retry",
    "Sse-Complete",
    "Sse-Users",
    "Sse-Topics",
    "Nats-Sequence",
    "Nats-Marker-Reason",
];

fn message(input: &[u8]) -> Message {
    let at = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let payload = Bytes::copy_from_slice(input.get(at + 2..).unwrap_or_default());
    let head = String::from_utf8_lossy(&input[..at]);
    let mut headers = HeaderMap::new();
    let mut subject = SUBJECTS[0];
    for line in head.split('\n') {
        subject = SUBJECTS.into_iter().find(|known| *known == line).unwrap_or(subject);
        let Some((name, value)) = line.split_once(": ") else { continue };
        let known = HEADERS.into_iter().find(|known| *known == name);
        if let (Some(name), Ok(value)) = (known, value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    let source = if head.starts_with("stored") { Source::Stored } else { Source::Annotated };
    Message::new(7, subject.into(), &headers, payload, source)
}

/// The default of `limits.maxPayloadBytes`.
pub const MAX_PAYLOAD: usize = 16_384;

fn rules(input: &[u8]) -> Rules {
    let default = if input.len().is_multiple_of(2) { "message" } else { "note" };
    let prefix = "sse".into();
    Rules { prefix, default_event_type: default.into(), max_payload: MAX_PAYLOAD, platform: false, ids: true }
}

pub fn check(input: &[u8]) {
    let (message, rules) = (message(input), rules(input));
    let read = rules.read(Epoch(1), &message);
    let refused = |refusal: &Refusal| refusal.to_string();
    assert_eq!(rules.check(&message).err(), read.as_ref().err().copied(), "one refuses, one does not");
    if let Err(refusal) = &read {
        assert!(!refused(refusal).is_empty());
        return;
    }
    assert!(message.payload.len() <= MAX_PAYLOAD);
    let delivery = read.expect("an event");
    assert_whole(delivery.frame.as_bytes());
    let id = if delivery.complete { "00000001-7-end" } else { "00000001-7" };
    let mut seen: Option<Dispatched> = None;
    for (parser, parse) in parsers::ALL {
        let mut events = parse(vec![delivery.frame.clone().into_bytes()]);
        let event = events.pop().expect("an event");
        assert!(events.is_empty(), "{parser} sees more than one event");
        assert_eq!(event.id, id, "{parser}");
        assert_eq!(*seen.get_or_insert_with(|| event.clone()), event, "{parser} sees another event");
    }
    let event = seen.expect("parsers");
    assert_same_data(&event.data, std::str::from_utf8(&message.payload).expect("it was not refused"));
}

/// The data is the payload, or what an envelope holds.
fn assert_same_data(data: &str, payload: &str) {
    let lines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
    if data == lines(payload) {
        return;
    }
    let envelope: Value = serde_json::from_str(payload).expect("neither the payload nor an envelope");
    assert_eq!(envelope["specversion"], "1.0");
    let json = serde_json::from_str::<Value>(data).ok();
    let same = match (&envelope["data"], envelope["data_base64"].as_str()) {
        (Value::Null, None) => data.is_empty() || json == Some(Value::Null),
        (Value::Null, Some(encoded)) => {
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
            data == lines(&String::from_utf8(decoded).expect("text"))
        }
        (Value::String(text), None) if data == lines(text) => true,
        (value, None) => json.as_ref() == Some(value),
        (_, Some(_)) => false,
    };
    assert!(same, "{data:?} is not what {payload:?} holds");
}
