//! The socket under HTTP: how much the kernel may hold of it, and a look at it beside hyper.
//!
//! A stream takes an HTTP/1.1 connection over. Hyper then reads on only as long as its buffer is
//! empty, so the close of a client that sent something more would not be seen. Here it is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

use crate::connection::sink::Carrier;

/// Bytes that the kernel takes of what can not be sent yet. It would take megabytes for each client
/// that does not read.
const UNSENT: u32 = 16 * 1024;

/// A socket that notes what the client accepts.
pub struct Transport {
    stream: Arc<TcpStream>,
    carrier: Carrier,
}

impl Transport {
    /// Prepares an accepted socket for small writes, each of which is waited for.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>, carrier: Carrier) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY could not be set.");
        }
        if let Err(error) = SockRef::from(&*stream).set_tcp_notsent_lowat(UNSENT) {
            debug!(%error, "TCP_NOTSENT_LOWAT could not be set.");
        }
        Self { stream, carrier }
    }

    fn poll(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.carrier.accepted();
                    return Poll::Ready(written);
                }
            }
        }
    }
}

/// Returns when the other side has ended its sending, and discards what it sends before.
pub async fn closed(stream: &TcpStream) {
    loop {
        match stream.readable().await.and_then(|()| stream.try_read(&mut [0; 1024])) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            // Not into zeroed memory, of which most would be touched for nothing.
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |stream| stream.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}
