//! Over HTTP, as the peers take events: one POST for each, on a connection that stays open.

use std::io::{BufRead, Write as _};
use std::net::TcpStream;

use anyhow::Result;
use memchr::memmem;

use super::{Answer, Language};
use crate::event::{ALL, SIZE, Stamp};

/// How a peer wants its events.
pub enum Post {
    /// Payload as the body, channel in the path.
    Nchan,
    /// A form; the token of its publisher.
    Mercure(String),
}

impl Language for Post {
    fn greet(&self, _: &mut dyn BufRead, _: &mut TcpStream) -> Result<()> {
        Ok(())
    }

    fn append(&self, stamp: Stamp, buffer: &mut Vec<u8>) {
        let channel = match stamp.to {
            ALL => "all".to_owned(),
            user => format!("u{user}"),
        };
        let _ = match self {
            Self::Nchan => {
                write!(buffer, "POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n")
            }
            Self::Mercure(jwt) => {
                let form = format!("topic={channel}&data=");
                write!(
                    buffer,
                    "POST /.well-known/mercure HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {jwt}\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
                    form.len() + SIZE
                )
            }
        };
        stamp.append(buffer);
    }

    /// A body may lack its line end, so that the next answer begins in its line.
    fn line(&self, line: &[u8]) -> Answer {
        match memmem::find(line, b"HTTP/1.1 ") {
            Some(at) if line.get(at + 9) == Some(&b'2') => Answer::Taken,
            Some(_) => Answer::Trouble,
            None => Answer::Other,
        }
    }
}
