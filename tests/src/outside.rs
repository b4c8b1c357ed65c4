//! The cluster's NATS, reached from outside: as a service beyond the cluster would publish.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{SYSTEM, command};
use crate::eventually;
use crate::publisher::Publisher;

/// A connection to the cluster's NATS from outside, through a port-forward that lives as long as it.
pub struct Outside {
    pub publisher: Publisher,
    _forward: Child,
    _output: AbortOnDropHandle<()>,
}

/// Reaches the cluster's NATS from outside, as soon as it can be reached.
///
/// # Errors
///
/// When the port-forward does not come up.
pub async fn outside() -> Result<Outside> {
    eventually("a way to NATS", Duration::from_secs(90), forward).await
}

async fn forward() -> Result<Outside> {
    let mut forward = command("kubectl")
        .args(["-n", SYSTEM, "port-forward", "statefulset/sse-gateway-nats", ":4222"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = forward.stdout.take().context("a pipe")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await??;
    let line = line.context("the port-forward ended")?;
    // It goes on talking, and ends when nobody listens.
    let output =
        AbortOnDropHandle::new(tokio::spawn(
            async move { while let Ok(Some(_)) = lines.next_line().await {} },
        ));
    // Forwarding from 127.0.0.1:40123 -> 4222
    let port = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).context("a port")?.to_owned();
    let publisher = Publisher::connect(&format!("nats://127.0.0.1:{port}")).await?;
    Ok(Outside { publisher, _forward: forward, _output: output })
}
