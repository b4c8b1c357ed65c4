//! A Service in front of pods: each connection goes to the next pod that accepts it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Forwards connections, in turn. They end with it.
pub struct Balancer {
    pub address: SocketAddr,
    pods: Arc<Pods>,
    _accepting: AbortOnDropHandle<()>,
}

struct Pods {
    all: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Balancer {
    /// # Errors
    ///
    /// When there is no port.
    pub async fn start(pods: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let pods = Arc::new(Pods { all: Mutex::new(pods), turn: AtomicUsize::new(0) });
        let accepting = tokio::spawn(accept(listener, pods.clone()));
        Ok(Self { address, pods, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// From now on some connections go there, too.
    pub fn add(&self, pod: SocketAddr) {
        self.pods.all.lock().unwrap_or_else(PoisonError::into_inner).push(pod);
    }
}

async fn accept(listener: TcpListener, pods: Arc<Pods>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(forward(near, pods.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut near: TcpStream, pods: Arc<Pods>) {
    let all = pods.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for _ in 0..all.len() {
        let pod = all[pods.turn.fetch_add(1, Ordering::Relaxed) % all.len()];
        if let Ok(mut far) = TcpStream::connect(pod).await {
            // However it ends, both sides see it end.
            let _ = copy_bidirectional(&mut near, &mut far).await;
            return;
        }
    }
}
