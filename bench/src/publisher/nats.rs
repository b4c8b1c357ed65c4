//! Into the stream, by the protocol of NATS: one PUB for each event, its acknowledgement to an inbox.

use std::io::{BufRead, Write as _};
use std::net::TcpStream;

use anyhow::{Result, bail};

use super::{Answer, Language};
use crate::event::{ALL, SIZE, Stamp, now};

/// What a client says first.
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
    \"lang\":\"bench\",\"version\":\"0\"}\r\nPING\r\n";

/// Events for the tenant `acme` and its users `u0`, `u1`, …
pub struct IntoStream {
    inbox: String,
}

/// Makes a connection ready for use.
///
/// # Errors
///
/// When the server refuses.
pub fn greet(reader: &mut dyn BufRead, writer: &mut TcpStream) -> Result<()> {
    writer.write_all(CONNECT)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line.starts_with("PONG") {
            return Ok(());
        }
        line.clear();
    }
    bail!("NATS has closed the connection")
}

impl Default for IntoStream {
    fn default() -> Self {
        Self { inbox: format!("_INBOX.bench.{}", now()) }
    }
}

impl Language for IntoStream {
    fn greet(&self, reader: &mut dyn BufRead, writer: &mut TcpStream) -> Result<()> {
        greet(reader, writer)?;
        Ok(write!(writer, "SUB {} 1\r\n", self.inbox)?)
    }

    fn append(&self, stamp: Stamp, buffer: &mut Vec<u8>) {
        let _ = match stamp.to {
            ALL => write!(buffer, "PUB sse.acme.all "),
            user => write!(buffer, "PUB sse.acme.user.user-{user} "),
        };
        let _ = write!(buffer, "{} {SIZE}\r\n", self.inbox);
        stamp.append(buffer);
        buffer.extend_from_slice(b"\r\n");
    }

    fn line(&self, line: &[u8]) -> Answer {
        match line {
            [b'{', ..] if memchr::memmem::find(line, b"\"error\"").is_none() => Answer::Taken,
            [b'P', b'I', ..] => Answer::Say(b"PONG\r\n"),
            // An answer of headers alone is that of no stream.
            [b'{', ..] | [b'-', b'E', ..] | [b'H', b'M', ..] => Answer::Trouble,
            _ => Answer::Other,
        }
    }
}
