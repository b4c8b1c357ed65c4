//! A line between a gateway and NATS that can be held and cut.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Forwards connections to one address, as the line allows. They end with it.
pub struct Proxy {
    pub address: SocketAddr,
    line: watch::Sender<Line>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Line {
    /// Nothing is forwarded; nobody is told.
    held: bool,
    /// Who connects is hung up on.
    refusing: bool,
    /// How often it was cut: a connection of before ends.
    cuts: u64,
}

impl Proxy {
    /// # Errors
    ///
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, target).await
    }

    /// The same at another address of this machine: `UNSPECIFIED` is all of them.
    ///
    /// # Errors
    ///
    /// When there is no port.
    pub async fn start_at(address: Ipv4Addr, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let (line, seen) = watch::channel(Line::default());
        let accepting = tokio::spawn(accept(listener, target, seen));
        Ok(Self { address, line, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Ends every connection, and each new one until [`Proxy::open`].
    pub fn cut(&self) {
        self.line.send_modify(|line| {
            line.cuts += 1;
            line.refusing = true;
        });
    }

    /// Forwards nothing until [`Proxy::open`]; what is sent meanwhile waits.
    pub fn hold(&self) {
        self.line.send_modify(|line| line.held = true);
    }

    /// Forwards everything again.
    pub fn open(&self) {
        self.line.send_modify(|line| (line.held, line.refusing) = (false, false));
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, line: watch::Receiver<Line>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        if !line.borrow().refusing {
            connections.spawn(connection(socket, target, line.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(near: TcpStream, target: SocketAddr, mut line: watch::Receiver<Line>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let cuts = line.borrow().cuts;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pump(near_in, far_out, line.clone()) => {}
        () = pump(far_in, near_out, line.clone()) => {}
        _ = line.wait_for(|line| line.cuts > cuts) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let open = line.wait_for(|line| !line.held).await.is_ok();
        if !open || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
