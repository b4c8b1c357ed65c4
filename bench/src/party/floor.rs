//! The floor as a process: this binary under another command.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sse_tests::eventually;
use tokio::process::{Child, Command};

use super::{Audience, Party, World};
use crate::publisher::Language;
use crate::publisher::nats::IntoStream;

pub struct Floor {
    process: Child,
    address: SocketAddr,
    nats: SocketAddr,
}

impl Floor {
    /// # Errors
    ///
    /// When it does not begin.
    pub async fn start(world: &World) -> Result<Self> {
        let address = free_address()?;
        let nats = world.nats.address();
        let process = Command::new(std::env::current_exe()?)
            .args(["floor", "--listen", &address.to_string(), "--nats", &nats.to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        listening(address).await?;
        Ok(Self { process, address, nats })
    }
}

/// A port that was free a moment ago.
///
/// # Errors
///
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until somebody listens there.
///
/// # Errors
///
/// When nobody does in time.
pub async fn listening(address: SocketAddr) -> Result<()> {
    let connect = || async { Ok(tokio::net::TcpStream::connect(address).await.map(drop)?) };
    eventually("a server", Duration::from_secs(10), connect).await
}

impl Party for Floor {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(vec![self.process.id().context("the floor has ended")?])
    }

    fn request(&self, user: u32, _: Audience) -> Vec<u8> {
        // As long as one of the gateway's clients.
        format!("GET /u{user} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {:0>200}\r\n\r\n", 0).into_bytes()
    }

    fn publisher(&self) -> Result<(SocketAddr, Arc<dyn Language>)> {
        Ok((self.nats, Arc::new(IntoStream::default())))
    }
}
