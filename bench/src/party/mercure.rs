//! Mercure, from the Go module proxy: its own server, without a history, which is the less work for it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use jsonwebtoken::Algorithm;
use serde_json::json;
use sse_tests::jwt::{KEY, now, signed};
use sse_tests::process::toolbox;
use tempfile::TempDir;

use super::process::{Process, free_address};
use super::{Audience, Party};
use crate::publisher::Language;
use crate::publisher::post::Post;

pub struct Mercure {
    process: Process,
    address: SocketAddr,
}

impl Mercure {
    /// Whether it is there to be measured.
    #[must_use]
    pub fn installed() -> bool {
        toolbox("mercure").exists()
    }

    /// # Errors
    ///
    /// When it does not begin.
    pub async fn start() -> Result<Self> {
        let (folder, address) = (TempDir::new()?, free_address()?);
        let listen = address.to_string();
        let arguments = [
            "--addr",
            &listen,
            "--jwt-key",
            KEY,
            "--transport-url",
            "local://local",
            "--write-timeout",
            "0s",
        ];
        let process = Process::start(folder, &toolbox("mercure"), &arguments, address).await?;
        Ok(Self { process, address })
    }
}

impl Party for Mercure {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> Result<Vec<u32>> {
        self.process.ids()
    }

    fn request(&self, user: u32, audience: Audience) -> Vec<u8> {
        let claims =
            json!({"sub": format!("user-{user}"), "exp": now() + 3600, "mercure": {"subscribe": ["*"]}});
        let (jwt, topic) = (signed(&claims, KEY, Algorithm::HS256), audience.channel(user));
        format!(
            "GET /.well-known/mercure?topic={topic} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {jwt}\r\n\r\n"
        )
        .into_bytes()
    }

    fn publisher(&self) -> Result<(SocketAddr, Arc<dyn Language>)> {
        let claims = json!({"exp": now() + 3600, "mercure": {"publish": ["*"]}});
        Ok((self.address, Arc::new(Post::Mercure(signed(&claims, KEY, Algorithm::HS256)))))
    }

    fn log(&self) -> String {
        self.process.log()
    }
}
