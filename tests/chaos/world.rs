//! The processes of a run: nats-servers, gateways, and a line from each gateway to each server.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::json;
use sse_tests::nats::Nats;
use sse_tests::process::Gateway;
use sse_tests::proxy::Proxy;
use sse_tests::publisher::Publisher;
use tokio::sync::Mutex;

/// Pods of one gateway.
const PODS: usize = 3;

/// Which nats-servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    OneNode,
    ClusterOfThree,
}

/// Everything that runs.
pub struct World {
    pub topology: Topology,
    pub nats: Mutex<Vec<Nats>>,
    pub pods: Mutex<Vec<Gateway>>,
    /// Addresses of the pods: they keep them.
    pub addresses: Vec<SocketAddr>,
    /// By pod: its lines to the servers.
    pub lines: Vec<Vec<Proxy>>,
    /// Reaches the servers directly.
    pub publisher: Publisher,
    pub urls: String,
}

impl World {
    pub async fn start(topology: Topology) -> Result<Self> {
        let nats = match topology {
            Topology::OneNode => vec![Nats::start().await?],
            Topology::ClusterOfThree => Nats::start_three().await?,
        };
        let urls = nats.iter().map(Nats::url).collect::<Vec<_>>().join(",");
        let (mut pods, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..PODS {
            let mut proxies = Vec::new();
            for server in &nats {
                proxies.push(Proxy::start(server.address()).await?);
            }
            let url = |proxy: &Proxy| format!("nats://{}", proxy.address);
            let through = proxies.iter().map(url).collect::<Vec<_>>().join(",");
            pods.push(Gateway::start_at(&through, "tests/gateway", spec(nats.len()))?);
            lines.push(proxies);
        }
        for pod in &pods {
            pod.ready().await?;
        }
        let addresses = pods.iter().map(|pod| pod.address).collect();
        let publisher = Publisher::connect(&urls).await?;
        Ok(Self {
            topology,
            nats: Mutex::new(nats),
            pods: Mutex::new(pods),
            addresses,
            lines,
            publisher,
            urls,
        })
    }

    /// Everything that the processes logged, into files; returns where they are.
    pub async fn keep_logs(&self, seed: u64) -> Result<std::path::PathBuf> {
        let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
        std::fs::create_dir_all(&dir)?;
        for (index, pod) in self.pods.lock().await.iter().enumerate() {
            std::fs::write(dir.join(format!("gateway-{index}.log")), pod.log())?;
        }
        for (index, server) in self.nats.lock().await.iter().enumerate() {
            std::fs::write(dir.join(format!("nats-{index}.log")), server.log())?;
        }
        Ok(dir)
    }
}

/// Small buffers and a short patience, so that clients fall behind; no gap is allowed.
fn spec(replicas: usize) -> serde_json::Value {
    json!({
        "nats": {"stream": {"replicas": replicas}},
        "limits": {"connectionBufferSize": 16, "writeTimeoutSeconds": 3},
        "replay": {"maxReplayEvents": 1_000_000},
    })
}
