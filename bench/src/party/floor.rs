//! The floor as a process: this binary under another command.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use super::process::{Process, free_address};
use super::{Audience, Party, World};
use crate::publisher::Language;
use crate::publisher::nats::IntoStream;

pub struct Floor {
    process: Process,
    address: SocketAddr,
    nats: SocketAddr,
}

impl Floor {
    /// # Errors
    ///
    /// When it does not begin.
    pub async fn start(world: &World) -> Result<Self> {
        let (address, nats) = (free_address()?, world.nats.address());
        let arguments = ["floor", "--listen", &address.to_string(), "--nats", &nats.to_string()];
        let process = Process::start(TempDir::new()?, &std::env::current_exe()?, &arguments, address).await?;
        Ok(Self { process, address, nats })
    }
}

impl Party for Floor {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> Result<Vec<u32>> {
        self.process.ids()
    }

    fn request(&self, user: u32, _: Audience) -> Vec<u8> {
        // As long as one of the gateway's clients.
        format!("GET /u{user} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {:0>200}\r\n\r\n", 0).into_bytes()
    }

    fn publisher(&self) -> Result<(SocketAddr, Arc<dyn Language>)> {
        Ok((self.nats, Arc::new(IntoStream::default())))
    }

    fn log(&self) -> String {
        self.process.log()
    }
}
