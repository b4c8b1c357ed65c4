//! The gateway, as it is released, with tracing on.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, merge};
use sse_tests::raw;

use super::{Audience, Party, World};
use crate::publisher::Language;
use crate::publisher::nats::IntoStream;

/// A gateway beside the world's NATS.
pub struct Ours {
    pub gateway: Gateway,
    nats: SocketAddr,
}

impl Ours {
    /// Starts it with a patch of its spec.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn start(world: &World, patch: Value) -> Result<Self> {
        Self::start_with(world, patch, &[]).await
    }

    /// The same, with more secrets: name and content, under `key`.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn start_with(world: &World, patch: Value, secrets: &[(&str, &str)]) -> Result<Self> {
        let mut spec = json!({
            "logging": {"level": "info"},
            "limits": {"maxConnectionsPerUser": 100_000, "maxConnectionsPerPod": 20_000},
            "telemetry": {
                "otlpEndpoint": format!("http://{}", world.sink.address), "otlpProtocol": "http",
                "traceSamplePercent": 100,
            },
        });
        merge(&mut spec, patch);
        let gateway =
            Gateway::start_program(world.gateway.clone(), &world.nats.url(), "tests/gateway", spec)?;
        for (name, content) in secrets {
            gateway.write_secret(name, "key", content)?;
        }
        gateway.ready().await?;
        Ok(Self { gateway, nats: world.nats.address() })
    }
}

impl Party for Ours {
    fn address(&self) -> SocketAddr {
        self.gateway.address
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(vec![self.gateway.id().context("the gateway")?])
    }

    fn request(&self, user: u32, _: Audience) -> Vec<u8> {
        raw::request(&jwt("acme", &format!("user-{user}")), "").into_bytes()
    }

    fn publisher(&self) -> Result<(SocketAddr, Arc<dyn Language>)> {
        Ok((self.nats, Arc::new(IntoStream::default())))
    }

    fn log(&self) -> String {
        self.gateway.log()
    }
}
