//! A client that reads its stream byte by byte if it likes: it can be cut at any place, can stop
//! reading, and keeps little. HTTP/1.1 and Server-Sent Events are read strictly, as the gateway
//! promises to write them; what a browser would discard is discarded here.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::BufRead;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::Event;

/// How long the gateway may take for what it owes at once.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const READ: usize = 64 * 1024;

/// Where in a stream a client was when it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    Head,
    /// In the size or the end of a chunk.
    Framing,
    Connected,
    Heartbeat,
    Id,
    /// After an id, before the end of the data.
    Data,
    /// All lines of a block have come, but not the blank one.
    BlankLine,
    BetweenBlocks,
}

/// An open stream, as bytes.
pub struct Raw {
    pub socket: TcpStream,
    /// Status of the answer; 0 until the head has come.
    pub status: u16,
    /// The cursor to come back with; empty while there is none.
    pub id: String,
    /// Bytes that were read, of everything.
    pub received: usize,
    /// What `retry:` said last, in milliseconds.
    pub retry: Option<u64>,
    head: Vec<u8>,
    chunks: Chunks,
    block: Vec<u8>,
    events: VecDeque<Event>,
}

/// What can be chosen of a client.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    /// Bytes that the kernel keeps for a client that does not read.
    pub receive_buffer: Option<u32>,
}

/// Connects a socket.
///
/// # Errors
///
/// When nobody listens there.
pub async fn connect(address: SocketAddr, shape: Shape) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(size) = shape.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    Ok(timeout(DEADLINE, socket.connect(address)).await??)
}

/// The bytes of a request for a stream.
#[must_use]
pub fn request(jwt: &str, cursor: &str) -> String {
    let mut request =
        format!("GET /api/v1/sse/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {jwt}\r\n");
    if !cursor.is_empty() {
        let _ = write!(request, "Last-Event-ID: {cursor}\r\n");
    }
    request + "\r\n"
}

impl Raw {
    /// Asks for a stream. The answer is read by [`Raw::read`].
    ///
    /// # Errors
    ///
    /// When the gateway can not be reached.
    pub async fn open(address: SocketAddr, jwt: &str, cursor: &str, shape: Shape) -> Result<Self> {
        Self::send(address, &request(jwt, cursor), shape).await
    }

    /// Asks for a stream in words of one's own.
    ///
    /// # Errors
    ///
    /// When the gateway can not be reached.
    pub async fn send(address: SocketAddr, request: &str, shape: Shape) -> Result<Self> {
        Self::send_on(connect(address, shape).await?, request).await
    }

    /// The same, on a socket of one's own.
    ///
    /// # Errors
    ///
    /// When the socket was cut.
    pub async fn send_on(mut socket: TcpStream, request: &str) -> Result<Self> {
        socket.write_all(request.as_bytes()).await?;
        Ok(Self {
            socket,
            status: 0,
            id: String::new(),
            received: 0,
            retry: None,
            head: Vec::new(),
            chunks: Chunks::default(),
            block: Vec::new(),
            events: VecDeque::new(),
        })
    }

    /// Reads what is there, at most so many bytes; 0 when the other side has ended.
    ///
    /// # Errors
    ///
    /// When the socket was cut, or what came is not what the gateway may write.
    pub async fn read(&mut self, most: usize) -> Result<usize> {
        // Not zeroed before each read.
        let mut buffer = Vec::with_capacity(most.min(READ));
        let mut limited = (&mut self.socket).take(most.min(READ) as u64);
        let count = limited.read_buf(&mut buffer).await?;
        self.received += count;
        self.take(&buffer)?;
        Ok(count)
    }

    /// Reads until the stream is open.
    ///
    /// # Errors
    ///
    /// When the answer is another one, or does not come in time.
    pub async fn opened(&mut self) -> Result<()> {
        let read = async {
            while self.id.is_empty() {
                ensure!(self.read(READ).await? > 0, "ended after status {}", self.status);
                ensure!(matches!(self.status, 0 | 200), "status {}", self.status);
            }
            Ok(())
        };
        timeout(DEADLINE, read).await.context("the stream did not open")?
    }

    /// The next event; `None` when the stream has ended.
    ///
    /// # Errors
    ///
    /// When nothing comes in time.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Event>> {
        let read = async {
            while self.events.is_empty() {
                if self.read(READ).await? == 0 {
                    return Ok(None);
                }
            }
            Ok(self.events.pop_front())
        };
        timeout(within, read).await.with_context(|| format!("no event within {within:?}"))?
    }

    /// Reads to the end; whether it was a clean one.
    ///
    /// # Errors
    ///
    /// When the stream does not end in time.
    pub async fn to_end(&mut self, within: Duration) -> Result<bool> {
        let read = async { while !self.is_over() && self.read(READ).await.is_ok_and(|count| count > 0) {} };
        timeout(within, read).await.with_context(|| format!("no end within {within:?}"))?;
        Ok(self.is_over())
    }

    /// Whether the last chunk has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.chunks, Chunks::Over)
    }

    /// The events that came and were not taken yet.
    pub fn events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }

    /// Where the stream stands.
    #[must_use]
    pub fn place(&self) -> Place {
        if self.status == 0 {
            return Place::Head;
        }
        let block = String::from_utf8_lossy(&self.block);
        match &self.chunks {
            Chunks::Data(_) => {}
            Chunks::Size(size) if self.received > 0 && size.is_empty() && !block.is_empty() => {}
            _ => return Place::Framing,
        }
        let last = block.lines().last().unwrap_or_default();
        match &*block {
            "" => Place::BetweenBlocks,
            text if text.starts_with(":h") => Place::Heartbeat,
            text if text.starts_with(':') => Place::Connected,
            text if text.ends_with('\n') && last.starts_with("data:") => Place::BlankLine,
            text if text.lines().count() == 1 && !text.ends_with('\n') => Place::Id,
            _ => Place::Data,
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.status == 0 {
            let Some(rest) = self.take_head(bytes)? else { return Ok(()) };
            bytes = rest;
        }
        if self.status != 200 {
            return Ok(());
        }
        while !bytes.is_empty() {
            let data = self.chunks.take(&mut bytes)?;
            self.block.extend_from_slice(data);
        }
        self.take_blocks()
    }

    /// The bytes after the head, once it is complete.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let status = std::str::from_utf8(&self.head)?.split(' ').nth(1).context("a status line")?;
        self.status = status.parse()?;
        Ok(Some(&bytes[end + 4 - before..]))
    }

    /// Dispatches whole blocks. What is not finished by a blank line stays, and is lost with the socket.
    fn take_blocks(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.block);
        let (mut begin, mut line) = (0, 0);
        loop {
            let mut rest = &block[line..];
            let count = rest.skip_until(b'\n')?;
            if count == 0 || block[line + count - 1] != b'\n' {
                break;
            }
            line += count;
            if count == 1 {
                self.dispatch(std::str::from_utf8(&block[begin..line - 1])?)?;
                begin = line;
            }
        }
        self.block = block[begin..].to_vec();
        Ok(())
    }

    fn dispatch(&mut self, block: &str) -> Result<()> {
        let (mut name, mut data) = ("message", None::<String>);
        for line in block.lines() {
            let (field, value) = line.split_once(':').with_context(|| format!("no field: {line:?}"))?;
            let value = value.strip_prefix(' ').unwrap_or(value);
            match (field, &mut data) {
                ("id", _) => value.clone_into(&mut self.id),
                ("event", _) => name = value,
                ("data", Some(data)) => {
                    data.push('\n');
                    data.push_str(value);
                }
                ("data", None) => data = Some(value.to_owned()),
                ("retry", _) => self.retry = Some(value.parse()?),
                ("", _) => ensure!(matches!(value, "connected" | "heartbeat"), "{line:?}"),
                _ => bail!("the framing is broken: {line:?} in {block:?}"),
            }
        }
        if let Some(data) = data {
            self.events.push_back(Event { name: name.into(), data, id: self.id.clone() });
        }
        Ok(())
    }
}

/// The chunked coding of HTTP/1.1.
enum Chunks {
    /// In the line with the size; with the line end of the chunk before, if there was one.
    Size(Vec<u8>),
    /// So many bytes of data are to come.
    Data(usize),
    Over,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size(Vec::new())
    }
}

impl Chunks {
    /// Takes some bytes, and returns the data among them.
    fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
        match self {
            Self::Data(left) => {
                let (data, rest) = bytes.split_at(bytes.len().min(*left));
                *left -= data.len();
                *bytes = rest;
                if *left == 0 {
                    *self = Self::default();
                }
                Ok(data)
            }
            Self::Size(line) => {
                let (first, rest) = bytes.split_first().context("a byte")?;
                line.push(*first);
                *bytes = rest;
                if *first == b'\n' && line.len() > 2 {
                    let size = usize::from_str_radix(std::str::from_utf8(line)?.trim(), 16)?;
                    *self = if size == 0 { Self::Over } else { Self::Data(size) };
                }
                Ok(&[])
            }
            Self::Over => {
                *bytes = &[];
                Ok(&[])
            }
        }
    }
}
