//! Server-Sent Events on the wire (WHATWG HTML, section 9.2).
//!
//! A [`Frame`] can only be made here, is whole, and is encoded once for all its receivers. Field
//! values that could break the framing do not get this far: [`Field`] refuses CR, LF and NUL.
//!
//! Its tests are in `tests/wire`: golden bytes, what other parsers read, what a frame costs.

use bytes::Bytes;

use crate::cursor::Cursor;

/// One or more whole blocks or comments, ready for the socket.
///
/// It lies in memory as a chunk of HTTP/1.1 (RFC 9112, section 7.1), so that neither form is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    chunk: Bytes,
    /// Bytes of the chunk's size and its line end.
    size_line: usize,
}

/// What ends the size of a chunk, and its data.
const LINE_END: &[u8] = b"\r\n";
/// Room for the size of a chunk, in hex digits, and its line end.
const SIZE_LINE: usize = 10;

impl Frame {
    /// The bytes to write.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.chunk.slice(self.size_line..self.chunk.len() - LINE_END.len())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.chunk[self.size_line..self.chunk.len() - LINE_END.len()]
    }

    /// The bytes to write; they are not copied.
    #[must_use]
    pub fn clone_bytes(&self) -> Bytes {
        self.clone().into_bytes()
    }

    /// The bytes to write as a chunk of HTTP/1.1.
    #[must_use]
    pub const fn chunk(&self) -> &Bytes {
        &self.chunk
    }

    /// Several as one.
    #[must_use]
    pub fn join(frames: &[Self]) -> Self {
        Self::build(frames.iter().map(|frame| frame.as_bytes().len()).sum(), |out| {
            frames.iter().for_each(|frame| out.extend_from_slice(frame.as_bytes()));
        })
    }

    /// Lets `write` append at most about `capacity` bytes.
    fn build(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        // With some to spare the buffer is never full, so that `Bytes` counts its owners from the start.
        let mut out = Vec::with_capacity(SIZE_LINE + capacity + LINE_END.len() + 1);
        out.resize(SIZE_LINE, 0);
        write(&mut out);
        let mut size = out.len() - SIZE_LINE;
        out.extend_from_slice(LINE_END);
        let mut at = SIZE_LINE - LINE_END.len();
        out[at..SIZE_LINE].copy_from_slice(LINE_END);
        // Eight digits are 4 GiB: more than any event is.
        while at > 0 {
            at -= 1;
            out[at] = b"0123456789abcdef"[size % 16];
            size /= 16;
            if size == 0 {
                break;
            }
        }
        Self { chunk: Bytes::from(out).slice(at..), size_line: SIZE_LINE - at }
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
        // Id (38), retry (18), the name of `event` (8) and the last line end are 65 bytes at most.
        let fixed = 65 + self.event.map_or(0, |e| e.0.len());
        Frame::build(fixed + self.data.len() + lines * "data: \n".len(), |out| {
            if let Some(id) = self.id {
                write_display(out, format_args!("id: {id}\n"));
            }
            if let Some(Field(event)) = self.event {
                line(out, b"event: ", event.as_bytes());
            }
            if let Some(ms) = self.retry {
                write_display(out, format_args!("retry: {ms}\n"));
            }
            for data in split_lines(self.data) {
                line(out, b"data: ", data.as_bytes());
            }
            out.push(b'\n');
        })
    }
}

/// The first bytes of every stream.
#[must_use]
pub fn connected() -> Frame {
    Frame { chunk: Bytes::from_static(b"c\r\n:connected\n\n\r\n"), size_line: 3 }
}

/// A heartbeat that parsers skip.
#[must_use]
pub fn heartbeat() -> Frame {
    Frame { chunk: Bytes::from_static(b"c\r\n:heartbeat\n\n\r\n"), size_line: 3 }
}

/// Moves the client's cursor, silently: the block dispatches nothing.
#[must_use]
pub fn position(cursor: Cursor) -> Frame {
    Frame::build(40, |out| write_display(out, format_args!("id: {cursor}\n\n")))
}

/// Tells the client how long to wait before it reconnects, in milliseconds.
#[must_use]
pub fn retry(ms: u32) -> Frame {
    Frame::build(20, |out| write_display(out, format_args!("retry: {ms}\n\n")))
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
