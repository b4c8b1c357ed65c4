//! The socket under HTTP: how much the kernel may hold of it, and the way to have it back from the parser.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

use super::lobby::Visit;

/// Bytes that the kernel takes of what can not be sent yet. It would take megabytes for each client
/// that does not read.
const UNSENT: u32 = 16 * 1024;

/// A socket that its parser shares: whoever is left has it for itself.
pub struct Transport {
    stream: Arc<TcpStream>,
    visit: Arc<Visit>,
}

impl Transport {
    /// Prepares an accepted socket for small writes, each of which is waited for. It ends when what was sent is not
    /// acknowledged within `silence`: a client whose network has vanished says nothing, and the kernel would try
    /// for a quarter of an hour.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>, visit: Arc<Visit>, silence: Duration) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY could not be set.");
        }
        if let Err(error) = SockRef::from(&*stream).set_tcp_notsent_lowat(UNSENT) {
            debug!(%error, "TCP_NOTSENT_LOWAT could not be set.");
        }
        if let Err(error) = SockRef::from(&*stream).set_tcp_user_timeout(Some(silence)) {
            debug!(%error, "TCP_USER_TIMEOUT could not be set.");
        }
        Self { stream, visit }
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
                written => return Poll::Ready(written),
            }
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
                read => {
                    self.visit.heard();
                    return Poll::Ready(read.map(drop));
                }
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
