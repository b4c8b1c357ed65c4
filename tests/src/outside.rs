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
    _forward: Forward,
}

/// Reaches the cluster's NATS from outside, as soon as it can be reached.
///
/// # Errors
///
/// When the port-forward does not come up.
pub async fn outside() -> Result<Outside> {
    eventually("a way to NATS", Duration::from_secs(90), || async {
        let forward = Forward::start(SYSTEM, "statefulset/sse-gateway-nats", 4222).await?;
        let publisher = Publisher::connect(&format!("nats://{}", forward.address)).await?;
        Ok(Outside { publisher, _forward: forward })
    })
    .await
}

/// A port-forward. Ends when dropped.
pub struct Forward {
    /// Where it listens.
    pub address: String,
    _kubectl: Child,
    _output: AbortOnDropHandle<()>,
}

impl Forward {
    /// Forwards a free port to one of a pod, named as kubectl would have it.
    ///
    /// # Errors
    ///
    /// When kubectl can not.
    pub async fn start(namespace: &str, pod: &str, port: u16) -> Result<Self> {
        let mut kubectl = command("kubectl")
            .args(["-n", namespace, "port-forward", pod, &format!(":{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = kubectl.stdout.take().context("a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await??;
        let line = line.context("the port-forward ended")?;
        // It goes on talking, and ends when nobody listens.
        let output = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Ok(Some(_)) = lines.next_line().await {}
        }));
        // Forwarding from 127.0.0.1:40123 -> 4222
        let address = line.split(' ').nth(2).context("an address")?.to_owned();
        Ok(Self { address, _kubectl: kubectl, _output: output })
    }
}
