//! Server-Sent Events, by the letter of the standard, and block by block: an event that was cut off is none.

use std::mem;

/// A block that never ends is no event.
const MAX_BLOCK: usize = 8 * 1024 * 1024;

/// What stood between two blank lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The lines as they came, each with a line feed.
    pub raw: String,
    pub id: Option<String>,
    pub event: Option<String>,
    /// None: nothing to dispatch.
    pub data: Option<String>,
    /// The lines that are comments.
    pub comments: Vec<String>,
}

/// Takes a stream apart.
#[derive(Default)]
pub struct Parser {
    bytes: Vec<u8>,
    /// Bytes that were looked at in vain for the end of a line.
    looked_at: usize,
    block: Block,
    /// The last line ended with CR: an LF belongs to it.
    after_cr: bool,
}

/// A block is longer than any event can be.
#[derive(Debug, thiserror::Error)]
#[error("a block of the stream is longer than {MAX_BLOCK} bytes")]
pub struct Endless;

impl Parser {
    /// Takes what came.
    ///
    /// # Errors
    ///
    /// When a block does not end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Endless> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() + self.block.raw.len() > MAX_BLOCK + bytes.len() { Err(Endless) } else { Ok(()) }
    }

    /// The next whole block, comments alone included.
    pub fn block(&mut self) -> Option<Block> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let block = mem::take(&mut self.block);
                if block != Block::default() {
                    return Some(block);
                }
            } else {
                self.take(&line);
            }
        }
        None
    }

    fn line(&mut self) -> Option<String> {
        if self.after_cr && !self.bytes.is_empty() {
            self.after_cr = false;
            if self.bytes[0] == b'\n' {
                self.bytes.remove(0);
            }
        }
        let found = self.bytes[self.looked_at..].iter().position(|b| matches!(b, b'\n' | b'\r'));
        let Some(end) = found.map(|at| self.looked_at + at) else {
            self.looked_at = self.bytes.len();
            return None;
        };
        self.looked_at = 0;
        self.after_cr = self.bytes[end] == b'\r';
        let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        self.bytes.drain(..=end);
        Some(line)
    }

    fn take(&mut self, line: &str) {
        let block = &mut self.block;
        block.raw.push_str(line);
        block.raw.push('\n');
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let text = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => block.comments.push(value.to_owned()),
            "id" if !text.contains('\0') => block.id = Some(text.to_owned()),
            "event" => block.event = Some(text.to_owned()),
            "data" => match &mut block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(text);
                }
                none => *none = Some(text.to_owned()),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(parts: &[&str]) -> Vec<Block> {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for part in parts {
            parser.push(part.as_bytes()).expect("short");
            while let Some(block) = parser.block() {
                found.push(block);
            }
        }
        found
    }

    #[test]
    fn what_the_gateway_writes_is_read() {
        let text = ":connected\n\nid: 6f1c2a9b-7\n\nid: 6f1c2a9b-8\nevent: order.shipped\nretry: 5\ndata: a\ndata:  b\n\n:heartbeat\n\n";
        let found = blocks(&[text]);
        assert_eq!(found[0].comments, ["connected"]);
        assert_eq!((found[1].id.as_deref(), &found[1].data), (Some("6f1c2a9b-7"), &None));
        assert_eq!(
            (found[2].event.as_deref(), found[2].data.as_deref()),
            (Some("order.shipped"), Some("a\n b"))
        );
        assert_eq!(found.iter().map(|block| block.raw.clone() + "\n").collect::<String>(), text);
    }

    #[test]
    fn it_does_not_matter_where_the_stream_is_cut_or_how_lines_end() {
        let text = ":c\r\n\r\nid: 1\rdata: a\rdata: b\r\rdata\n\n";
        let whole = blocks(&[text]);
        assert_eq!(whole.len(), 3);
        assert_eq!((whole[1].data.as_deref(), whole[2].data.as_deref()), (Some("a\nb"), Some("")));
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(blocks(&bytes.iter().map(String::as_str).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn an_event_that_was_cut_off_is_none() {
        assert_eq!(blocks(&["id: 1\ndata: a\n"]), []);
    }

    #[test]
    fn a_block_that_does_not_end_is_given_up() {
        let mut parser = Parser::default();
        let part = vec![b'a'; MAX_BLOCK / 2];
        let outcomes: Vec<bool> = (0..4).map(|_| parser.push(&part).is_ok()).collect();
        assert_eq!(outcomes[0..2], [true, true]);
        assert!(!outcomes[3]);
    }
}
