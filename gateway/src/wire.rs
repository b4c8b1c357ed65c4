//! Server-Sent Events on the wire (WHATWG HTML, section 9.2).
//!
//! A [`Frame`] can only be made here, is whole, and is encoded once for all its receivers. Field
//! values that could break the framing do not get this far: [`Field`] refuses CR, LF and NUL.

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

/// Tells the application that there is a gap. Without `id`: the cursor stays until the next event.
#[must_use]
pub fn reset(reason: Reset) -> Frame {
    let data = match reason {
        Reset::Expired => r#"{"reason":"expired"}"#,
        Reset::Epoch => r#"{"reason":"epoch"}"#,
        Reset::Invalid => r#"{"reason":"invalid"}"#,
    };
    Block { id: None, event: Field::new("reset"), retry: None, data }.encode()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::Epoch;

    /// A parser by the letter of the standard, for one block: (type, data, id).
    fn parse(frame: &Frame) -> Vec<(String, String, Option<String>)> {
        let text =
            std::str::from_utf8(frame.as_bytes()).expect("UTF-8").replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut data, mut event, mut id) = (vec![], String::new(), String::new(), None);
        for line in text.split('\n') {
            if line.is_empty() {
                if !data.is_empty() {
                    data.pop();
                    let name = if event.is_empty() { "message".into() } else { std::mem::take(&mut event) };
                    events.push((name, std::mem::take(&mut data), id.clone()));
                }
                event.clear();
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => event = value.into(),
                "data" => data.extend([value, "\n"]),
                "id" => id = Some(value.into()),
                _ => {}
            }
        }
        events
    }

    #[test]
    fn golden_bytes() {
        let id = Some(Cursor::new(Epoch(0x6f1c_2a9b), 1042));
        let block =
            Block { id, event: Field::new("order.shipped"), retry: Some(3000), data: "{\"orderId\":42}" };
        let expected = "id: 6f1c2a9b-1042\nevent: order.shipped\nretry: 3000\ndata: {\"orderId\":42}\n\n";
        assert_eq!(block.encode().as_bytes(), expected.as_bytes());
        let hard = Block { id: None, event: None, retry: None, data: " a\r\nb\rc\n\n:d" };
        assert_eq!(hard.encode().as_bytes(), b"data:  a\ndata: b\ndata: c\ndata: \ndata: :d\n\n");
        let empty = Block { id: None, event: None, retry: None, data: "" };
        assert_eq!(empty.encode().as_bytes(), b"data: \n\n");
        assert_eq!(reset(Reset::Epoch).as_bytes(), b"event: reset\ndata: {\"reason\":\"epoch\"}\n\n");
        assert_eq!(position(Cursor::new(Epoch(1), 7)).as_bytes(), b"id: 00000001-7\n\n");
    }

    #[test]
    fn a_field_holds_one_line() {
        for bad in ["a\nb", "a\rb", "a\0b"] {
            assert_eq!(Field::new(bad), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_published_is_one_event_with_that_data(data in "(\\PC|\r|\n| |:|\0){0,60}", name in "[^\r\n\0]{1,20}") {
            let id = Cursor::new(Epoch(1), 2);
            let frame = Block { id: Some(id), event: Field::new(&name), retry: None, data: &data }.encode();
            let lines = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(parse(&frame), vec![(name, lines, Some(id.to_string()))]);
        }
    }
}
