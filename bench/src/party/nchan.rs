//! nchan on nginx, from Debian: one worker for each core, events in the memory that the workers share.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use super::process::{Process, cache, free_address};
use super::{Audience, Party};
use crate::publisher::Language;
use crate::publisher::post::Post;

pub struct Nchan {
    process: Process,
    address: SocketAddr,
}

impl Nchan {
    /// Whether it is there to be measured.
    #[must_use]
    pub fn installed() -> bool {
        cache("nchan/usr/sbin/nginx").exists() && Path::new("/var/lib/nginx").exists()
    }

    /// # Errors
    ///
    /// When it does not begin.
    pub async fn start() -> Result<Self> {
        let (folder, address) = (TempDir::new()?, free_address()?);
        let module = cache("nchan/usr/lib/nginx/modules/ngx_nchan_module.so");
        let path = folder.path().display().to_string();
        let config = format!(
            "load_module {};
            user root root; daemon off; worker_processes 2; worker_rlimit_nofile 20000; pid {path}/pid; error_log stderr warn;
            events {{ worker_connections 20000; }}
            http {{
                access_log off; keepalive_requests 1000000000; nchan_shared_memory_size 1G;
                server {{
                    listen {address};
                    location ~ ^/sub/(.+)$ {{ nchan_subscriber eventsource; nchan_subscriber_first_message newest; nchan_channel_id $1; }}
                    location ~ ^/pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; }}
                }}
            }}\n",
            module.display()
        );
        std::fs::write(folder.path().join("nginx.conf"), config)?;
        let arguments = ["-c", &format!("{path}/nginx.conf"), "-p", &path, "-e", "stderr"];
        let process = Process::start(folder, &cache("nchan/usr/sbin/nginx"), &arguments, address).await?;
        Ok(Self { process, address })
    }
}

impl Party for Nchan {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn processes(&self) -> Result<Vec<u32>> {
        self.process.ids()
    }

    fn request(&self, user: u32, audience: Audience) -> Vec<u8> {
        let channel = audience.channel(user);
        format!("GET /sub/{channel} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n").into_bytes()
    }

    fn publisher(&self) -> Result<(SocketAddr, Arc<dyn Language>)> {
        Ok((self.address, Arc::new(Post::Nchan)))
    }

    fn log(&self) -> String {
        self.process.log()
    }
}
