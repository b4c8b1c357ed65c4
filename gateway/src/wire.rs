//! Server-Sent Events on the wire (WHATWG HTML, section 9.2).
//!
//! A [`Frame`] can only be made here, is whole, and is encoded once for all its receivers. Field
//! values that could break the framing do not get this far: [`Field`] refuses CR, LF and NUL.
//!
//! Its tests are in `tests/wire`: golden bytes, what other parsers read, what a frame costs.

use bytes::Bytes;

use crate::cursor::Cursor;

/// One or more whole blocks or comments, ready for the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// The bytes to write.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A value that fits on one line: no CR, LF or NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a>(&'a str);

impl<'a> Field<'a> {
    /// `None` when the value can not stand in a field.
    #[must_use]
    pub fn new(value: &'a str) -> Option<Self> {
        (!value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0))).then_some(Self(value))
    }
}

/// What an event's block is made of.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// `id:`; a block without one leaves the client's cursor as it is.
    pub id: Option<Cursor>,
    /// `event:`; without one the client sees `message`.
    pub event: Option<Field<'a>>,
    /// `retry:` in milliseconds.
    pub retry: Option<u32>,
    /// One `data:` line per line; CRLF, LF and CR end a line.
    pub data: &'a str,
}

impl Block<'_> {
    /// Encodes the block: its bytes are allocated once, and shared by all who get it.
    #[must_use]
    pub fn encode(&self) -> Frame {
        let lines = 1 + self.data.bytes().filter(|b| matches!(b, b'\r' | b'\n')).count();
        // Id (38), retry (18), the name of `event` (8) and the last line end are 65 bytes at most. With
        // some to spare the buffer is never full, so that `Bytes` counts its owners from the start.
        let fixed = 72 + self.event.map_or(0, |e| e.0.len());
        let mut out = Vec::with_capacity(fixed + self.data.len() + lines * "data: \n".len());
        if let Some(id) = self.id {
            write_display(&mut out, format_args!("id: {id}\n"));
        }
        if let Some(Field(event)) = self.event {
            line(&mut out, b"event: ", event.as_bytes());
        }
        if let Some(ms) = self.retry {
            write_display(&mut out, format_args!("retry: {ms}\n"));
        }
        for data in split_lines(self.data) {
            line(&mut out, b"data: ", data.as_bytes());
        }
        out.push(b'\n');
        Frame(out.into())
    }
}

/// The first bytes of every stream.
#[must_use]
pub fn connected() -> Frame {
    Frame(Bytes::from_static(b":connected\n\n"))
}

/// A heartbeat that parsers skip.
#[must_use]
pub fn heartbeat() -> Frame {
    Frame(Bytes::from_static(b":heartbeat\n\n"))
}

/// Moves the client's cursor, silently: the block dispatches nothing.
#[must_use]
pub fn position(cursor: Cursor) -> Frame {
    Frame(format!("id: {cursor}\n\n").into())
}

/// Tells the client how long to wait before it reconnects, in milliseconds.
#[must_use]
pub fn retry(ms: u32) -> Frame {
    Frame(format!("retry: {ms}\n\n").into())
}

/// Why what a client missed can not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The log does not reach back to the cursor, or more was missed than is replayed.
    Expired,
    /// The cursor belongs to a former life of the log.
    Epoch,
    /// The cursor is none of ours.
    Invalid,
}

impl Reset {
    pub const ALL: [Self; 3] = [Self::Expired, Self::Epoch, Self::Invalid];

    /// The reason on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Epoch => "epoch",
            Self::Invalid => "invalid",
        }
    }
}

/// Tells the application that there is a gap. Without `id`: the cursor stays until the next event.
#[must_use]
pub fn reset(reason: Reset) -> Frame {
    let data = format!(r#"{{"reason":"{}"}}"#, reason.as_str());
    Block { id: None, event: Field::new("reset"), retry: None, data: &data }.encode()
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn write_display(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A write into a Vec can not fail.
    let _ = std::io::Write::write_fmt(out, text);
}

/// Splits at CRLF, LF and CR; a text without a line end is one line, also when it is empty.
fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let end = if text[at..].starts_with("\r\n") { at + 2 } else { at + 1 };
        rest = Some(&text[end..]);
        Some(&text[..at])
    })
}
