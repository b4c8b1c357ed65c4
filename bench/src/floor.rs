//! The floor: what the kernel alone costs. One thread, one `send` for each connection and event, and no
//! HTTP but the head of the answer. It takes its events from the same feed as the gateway.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::os::fd::AsRawFd as _;

use crate::publisher::nats;

const LISTENER: Token = Token(0);
const FEED: Token = Token(1);
/// A client sends its request at once.
const REQUEST: Duration = Duration::from_secs(5);
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n:connected\n\n";
/// Bytes that the feed gives at once.
const READ: usize = 256 * 1024;

/// The connections, by the user that their path names.
#[derive(Default)]
struct Connections {
    all: Vec<TcpStream>,
    of: HashMap<u32, usize>,
}

/// Serves until it is ended from outside.
///
/// # Errors
///
/// When it can not listen, or NATS is gone.
pub fn run(listen: SocketAddr, nats: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let mut writer = TcpStream::connect(nats)?;
    let mut reader = BufReader::with_capacity(READ, writer.try_clone()?);
    nats::greet(&mut reader, &mut writer)?;
    writer.write_all(b"SUB sse-live.> 1\r\n")?;
    writer.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&writer.as_raw_fd()), FEED, Interest::READABLE)?;
    let (mut events, mut connections) = (Events::with_capacity(16), Connections::default());
    let mut feed = Feed { reader, writer, line: Vec::new(), body: Vec::new(), frame: Vec::new() };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                LISTENER => connections.accept(&listener)?,
                _ => feed.take(&mut connections)?,
            }
        }
    }
}

impl Connections {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        loop {
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut request = [0; 2048];
            socket.set_read_timeout(Some(REQUEST))?;
            let Ok(count @ 1..) = socket.read(&mut request) else { continue };
            socket.write_all(HEAD)?;
            socket.set_nonblocking(true)?;
            let path = request[..count].split(|byte| *byte == b' ').nth(1).context("a path")?;
            let user = std::str::from_utf8(path)?.trim_start_matches("/u");
            self.of.insert(user.parse()?, self.all.len());
            self.all.push(socket);
        }
    }

    /// One `send` each. One that can not take it loses it, and the client tells.
    fn send(&mut self, user: Option<u32>, frame: &[u8]) {
        let targets = match user {
            None => 0..self.all.len(),
            Some(user) => self.of.get(&user).map_or(0..0, |at| *at..at + 1),
        };
        for socket in &mut self.all[targets] {
            let _ = socket.write(frame);
        }
    }
}

/// The feed, parsed no more than it must be.
struct Feed {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    /// A line that may not be complete.
    line: Vec<u8>,
    /// What has come of headers and payload.
    body: Vec<u8>,
    frame: Vec<u8>,
}

impl Feed {
    /// Everything that has come.
    fn take(&mut self, connections: &mut Connections) -> Result<()> {
        loop {
            if !self.line.ends_with(b"\n") {
                match self.reader.read_until(b'\n', &mut self.line) {
                    Ok(count) => ensure!(count > 0, "NATS has closed the connection"),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            if self.line.starts_with(b"PING") {
                self.writer.write_all(b"PONG\r\n")?;
            } else if self.line.starts_with(b"HMSG ") {
                // HMSG <subject> <sid> <bytes of headers> <bytes of both>
                let line = String::from_utf8(self.line.clone())?;
                let words: Vec<&str> = line.split_whitespace().collect();
                let [_, subject, _, headers, total] = words[..] else { anyhow::bail!("{line}") };
                let (headers, total): (usize, usize) = (headers.parse()?, total.parse()?);
                // With the line end after it.
                let missing = (total + 2 - self.body.len()) as u64;
                match (&mut self.reader).take(missing).read_to_end(&mut self.body) {
                    Ok(count) => ensure!(count as u64 == missing, "NATS has closed the connection"),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
                self.send(subject, headers, total, connections)?;
                self.body.clear();
            }
            self.line.clear();
        }
    }

    fn send(&mut self, subject: &str, headers: usize, total: usize, to: &mut Connections) -> Result<()> {
        let user = subject.strip_prefix("sse-live.acme.user.user-").map(str::parse).transpose()?;
        if user.is_none() && subject != "sse-live.acme.all" {
            return Ok(());
        }
        let (headers, payload) = self.body[..total].split_at(headers);
        let at = memmem::find(headers, b"Nats-Sequence: ").context("a sequence")? + 15;
        let sequence = headers[at..].split(|byte| *byte == b'\r').next().context("a sequence")?;
        self.frame.clear();
        for part in [b"id: 00000000-", sequence, b"\nevent: message\ndata: ", payload, b"\n\n"] {
            self.frame.extend_from_slice(part);
        }
        to.send(user, &self.frame);
        Ok(())
    }
}
