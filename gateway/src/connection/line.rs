//! What carries the bytes of one stream, as far as the stream knows: a [`Line`] takes one write at a time
//! and says when there is room for the next.
//!
//! A stream of HTTP/1.1 has the socket for itself, and writes to it without anything between. What is
//! carried by somebody else's protocol (HTTP/2) is fetched from a [`Slot`] by the body of its response.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::Delivery;
use crate::wire::Frame;

/// What ends a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What carries one stream.
pub enum Line {
    Socket(Socket),
    Slot(Slot),
}

/// The client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A connection of HTTP/1, taken over from its parser.
pub struct Socket {
    stream: TcpStream,
    /// Whether the body is in chunks: HTTP/1.0 has none.
    chunked: bool,
    /// What the kernel did not take of the last write.
    rest: Bytes,
    accepted: Instant,
}

/// One write, until the body of a response takes it.
pub struct Slot {
    write: Option<Write>,
    /// Of whoever polls the body.
    body: Option<Waker>,
    /// Ends what carries the body, which would keep a client's stream for ever that takes nothing.
    cut: CancellationToken,
    /// Ends the connection after the streams that it has.
    goodbye: CancellationToken,
    state: SlotState,
    accepted: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Open,
    /// The body ends after what is in the slot.
    Ending,
    /// The body has ended, or was dropped.
    Gone,
}

/// Bytes, and the events among them.
pub struct Write {
    pub bytes: Bytes,
    pub events: Events,
    /// Whether the client had missed them.
    pub replayed: bool,
}

/// Events of one write.
pub enum Events {
    None,
    One(Arc<Delivery>),
    Several(Box<[Arc<Delivery>]>),
}

impl Events {
    #[must_use]
    pub fn as_slice(&self) -> &[Arc<Delivery>] {
        match self {
            Self::None => &[],
            Self::One(event) => std::slice::from_ref(event),
            Self::Several(events) => events,
        }
    }
}

impl From<&[Arc<Delivery>]> for Events {
    fn from(events: &[Arc<Delivery>]) -> Self {
        match events {
            [] => Self::None,
            [one] => Self::One(one.clone()),
            several => Self::Several(several.into()),
        }
    }
}

impl Line {
    /// Whether the next write can be taken.
    pub const fn has_room(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.rest.is_empty(),
            Self::Slot(slot) => slot.write.is_none(),
        }
    }

    /// Waits for room; without it, whoever waits is woken when there may be.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self {
            Self::Socket(socket) => socket.poll_flush(context),
            Self::Slot(slot) if slot.state == SlotState::Gone => Poll::Ready(Err(Gone)),
            Self::Slot(slot) if slot.write.is_none() => Poll::Ready(Ok(())),
            // The body wakes the stream when it takes the write.
            Self::Slot(_) => Poll::Pending,
        }
    }

    /// When the client accepted something last.
    pub const fn accepted(&self) -> Instant {
        match self {
            Self::Socket(socket) => socket.accepted,
            Self::Slot(slot) => slot.accepted,
        }
    }

    /// Returns when the client has gone. What it sends is discarded: there is nothing more to ask for.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Socket(socket) => socket.poll_gone(context),
            Self::Slot(slot) if slot.state == SlotState::Gone => Poll::Ready(()),
            Self::Slot(_) => Poll::Pending,
        }
    }

    /// Ends the stream in good order; ready when all of it has gone out.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self {
            Self::Socket(socket) => {
                ready!(socket.poll_flush(context))?;
                if std::mem::take(&mut socket.chunked) {
                    socket.write(&Bytes::from_static(LAST_CHUNK))?;
                    ready!(socket.poll_flush(context))?;
                }
                let _ = SockRef::from(&socket.stream).shutdown(Shutdown::Write);
                // What was not read when a socket is closed turns its end into a reset.
                while matches!(socket.stream.try_read(&mut [0; 512]), Ok(1..)) {}
                Poll::Ready(Ok(()))
            }
            Self::Slot(slot) => {
                if slot.state == SlotState::Gone {
                    return Poll::Ready(Ok(()));
                }
                slot.state = SlotState::Ending;
                slot.body.take().into_iter().for_each(Waker::wake);
                Poll::Pending
            }
        }
    }

    /// Ends what carries the stream, whatever waits to be written. A socket ends when it is dropped.
    pub fn cut(&self) {
        if let Self::Slot(slot) = self {
            slot.cut.cancel();
        }
    }

    /// Hands frames over, for which there must be room.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub fn frames(&mut self, frames: &[Frame]) -> Result<(), Gone> {
        match self {
            Self::Socket(socket) => socket.write(&join(frames, socket.form())),
            Self::Slot(slot) => slot.put(join(frames, Frame::clone_bytes), Events::None, false),
        }
    }

    /// Hands events over, for which there must be room. Answers when they went out; `None` when that is
    /// still to come.
    ///
    /// # Errors
    ///
    /// When the client has gone.
    pub fn events(&mut self, events: &[Arc<Delivery>], replayed: bool) -> Result<Option<Instant>, Gone> {
        let frames = events.iter().map(|event| &event.frame);
        match self {
            Self::Socket(socket) => {
                socket.write(&join(frames, socket.form()))?;
                Ok(Some(if socket.rest.is_empty() { socket.accepted } else { Instant::now() }))
            }
            Self::Slot(slot) => {
                slot.put(join(frames, Frame::clone_bytes), events.into(), replayed)?;
                Ok(None)
            }
        }
    }
}

impl Socket {
    /// A socket to which the head of the response is still to be written, and the first frames with it.
    #[must_use]
    pub fn new(stream: TcpStream, chunked: bool, head: &[u8], first: &Frame) -> Self {
        let mut socket = Self { stream, chunked, rest: Bytes::new(), accepted: Instant::now() };
        socket.rest = [head, &socket.form()(first)].concat().into();
        socket
    }

    fn form(&self) -> fn(&Frame) -> Bytes {
        if self.chunked { |frame| frame.chunk().clone() } else { Frame::clone_bytes }
    }

    /// Writes what the kernel takes at once, and keeps the rest. The runtime is not asked whether there is room:
    /// what it knows of a socket is not in the cache, and the kernel knows better.
    fn write(&mut self, bytes: &Bytes) -> Result<(), Gone> {
        match SockRef::from(&self.stream).send(bytes) {
            Ok(written) => {
                self.accepted = Instant::now();
                if written < bytes.len() {
                    self.rest = bytes.slice(written..);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.rest = bytes.clone(),
            Err(_) => return Err(Gone),
        }
        Ok(())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.rest.is_empty() {
            ready!(self.stream.poll_write_ready(context)).map_err(|_| Gone)?;
            match self.stream.try_write(&self.rest) {
                Ok(written) => {
                    self.accepted = Instant::now();
                    self.rest.advance(written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Err(Gone)),
            }
        }
        // The allocation goes with what was in it.
        self.rest = Bytes::new();
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.stream.poll_read_ready(context)).is_err() {
                return Poll::Ready(());
            }
            match self.stream.try_read(&mut [0; 512]) {
                Ok(0) => return Poll::Ready(()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Poll::Ready(()),
                _ => {}
            }
        }
    }
}

impl Slot {
    /// One that holds the first frames; `cut` ends what carries the body, `goodbye` its connection after all streams.
    #[must_use]
    pub fn new(cut: CancellationToken, goodbye: CancellationToken, first: &Frame) -> Self {
        let write = Some(Write { bytes: first.clone_bytes(), events: Events::None, replayed: false });
        Self { write, body: None, cut, goodbye, state: SlotState::Open, accepted: Instant::now() }
    }

    fn put(&mut self, bytes: Bytes, events: Events, replayed: bool) -> Result<(), Gone> {
        if self.state == SlotState::Gone {
            return Err(Gone);
        }
        self.write = Some(Write { bytes, events, replayed });
        self.body.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// What the body writes next; `None` at its end.
    pub fn poll_take(&mut self, context: &Context<'_>) -> Poll<Option<Write>> {
        self.accepted = Instant::now();
        if let Some(write) = self.write.take() {
            return Poll::Ready(Some(write));
        }
        if self.state == SlotState::Open {
            self.body = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.state = SlotState::Gone;
        Poll::Ready(None)
    }

    /// Tells the client to open its next stream on another connection.
    pub fn say_goodbye(&self) {
        self.goodbye.cancel();
    }

    /// Notes that the body was dropped.
    pub fn leave(&mut self) {
        self.state = SlotState::Gone;
        self.write = None;
    }
}

/// Frames as one write; a single one is not copied.
fn join<'a>(
    frames: impl IntoIterator<Item = &'a Frame, IntoIter: Clone>,
    form: impl Fn(&Frame) -> Bytes,
) -> Bytes {
    let mut frames = frames.into_iter();
    let rest = frames.clone();
    if let (Some(one), None) = (frames.next(), frames.next()) {
        return form(one);
    }
    let mut bytes = BytesMut::with_capacity(rest.clone().map(|frame| frame.chunk().len()).sum());
    rest.for_each(|frame| bytes.extend_from_slice(&form(frame)));
    bytes.freeze()
}

#[cfg(test)]
mod tests;
