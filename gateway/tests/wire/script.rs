//! What a gateway may write, in any order, and what a browser makes of it by the letter of the standard
//! (WHATWG HTML, section 9.2.6). Nothing of the encoder is used for the second.

use sse_gateway::cursor::Cursor;
use sse_gateway::wire::{self, Block, Field, Frame, Reset};

/// One thing that a gateway writes.
#[derive(Clone, Debug)]
pub enum Sent {
    Connected,
    Heartbeat,
    Position(Cursor),
    Retry(u32),
    Reset(Reset),
    /// An event; also a heartbeat as one, and a welcome.
    Event {
        id: Option<Cursor>,
        name: Option<String>,
        retry: Option<u32>,
        data: String,
    },
}

/// An event, as an application gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    pub name: String,
    pub data: String,
    /// `lastEventId` of the event.
    pub id: String,
}

impl Sent {
    pub fn frame(&self) -> Frame {
        match self {
            Self::Connected => wire::connected(),
            Self::Heartbeat => wire::heartbeat(),
            Self::Position(cursor) => wire::position(*cursor),
            Self::Retry(ms) => wire::retry(*ms),
            Self::Reset(reason) => wire::reset(*reason),
            Self::Event { id, name, retry, data } => {
                let event = name.as_deref().map(|name| Field::new(name).expect("a name of one line"));
                Block { id: *id, event, retry: *retry, data }.encode()
            }
        }
    }
}

/// The stream of bytes.
pub fn bytes(script: &[Sent]) -> Vec<u8> {
    script.iter().flat_map(|sent| sent.frame().as_bytes().to_vec()).collect()
}

/// The events that a browser dispatches.
pub fn dispatched(script: &[Sent]) -> Vec<Dispatched> {
    let mut last_id = String::new();
    let mut events = Vec::new();
    for sent in script {
        let (name, data) = match sent {
            Sent::Connected | Sent::Heartbeat | Sent::Retry(_) => continue,
            Sent::Position(cursor) => {
                last_id = cursor.to_string();
                continue;
            }
            Sent::Reset(Reset::Expired) => ("reset", r#"{"reason":"expired"}"#.to_owned()),
            Sent::Reset(Reset::Epoch) => ("reset", r#"{"reason":"epoch"}"#.to_owned()),
            Sent::Reset(Reset::Invalid) => ("reset", r#"{"reason":"invalid"}"#.to_owned()),
            Sent::Event { id, name, data, .. } => {
                if let Some(id) = id {
                    last_id = id.to_string();
                }
                (name.as_deref().unwrap_or("message"), data.replace("\r\n", "\n").replace('\r', "\n"))
            }
        };
        events.push(Dispatched { name: name.to_owned(), data, id: last_id.clone() });
    }
    events
}

/// The reconnection times that a browser is told, in milliseconds.
pub fn retries(script: &[Sent]) -> Vec<u64> {
    let retry = |sent: &Sent| match sent {
        Sent::Retry(ms) | Sent::Event { retry: Some(ms), .. } => Some(u64::from(*ms)),
        _ => None,
    };
    script.iter().filter_map(retry).collect()
}
