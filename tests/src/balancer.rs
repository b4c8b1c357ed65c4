//! A service in front of pods: each connection goes to the next pod that accepts it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Forwards connections, in turn. They end with it.
pub struct Balancer {
    pub address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Balancer {
    /// # Errors
    ///
    /// When there is no port.
    pub async fn start(pods: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, pods.into()));
        Ok(Self { address, _accepting: AbortOnDropHandle::new(accepting) })
    }
}

async fn accept(listener: TcpListener, pods: Arc<[SocketAddr]>) {
    let (mut connections, turn) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(forward(near, pods.clone(), turn.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut near: TcpStream, pods: Arc<[SocketAddr]>, turn: Arc<AtomicUsize>) {
    for _ in 0..pods.len() {
        let pod = pods[turn.fetch_add(1, Ordering::Relaxed) % pods.len()];
        if let Ok(mut far) = TcpStream::connect(pod).await {
            // However it ends, both sides see it end.
            let _ = copy_bidirectional(&mut near, &mut far).await;
            return;
        }
    }
}
