//! What goes wrong, one fault after another in each of two lanes: one strikes the log, the other the
//! gateways and their lines. Each fault strikes while events are published, and is healed before the
//! next of its lane.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::stream::{Config, Republish};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sse_tests::eventually;
use sse_tests::nats::{step_down, step_down_meta};
use tokio::time::{sleep, timeout};

use crate::plan::decisions;
use crate::publishing::Progress;
use crate::world::{Topology, World};

const STREAM: &str = "SSE_sse";
const TOKENS: &str = "KV_SSE_tokens_tests_gateway";
/// A fault is healed in this time.
const HEALED: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    NatsKilled,
    LeaderStepsDown,
    TokensLeaderStepsDown,
    MetaLeaderStepsDown,
    GatewayKilled,
    FeedCut,
    FeedHeld,
    FeedThinned,
}

/// Faults in the order in which they strike.
pub struct Lane {
    name: &'static str,
    faults: Vec<Fault>,
    random: StdRng,
}

/// The lanes of a run.
pub fn lanes(topology: Topology, seed: u64) -> [Lane; 2] {
    use Fault::{FeedCut, FeedHeld, FeedThinned, GatewayKilled};
    use Fault::{LeaderStepsDown, MetaLeaderStepsDown, NatsKilled, TokensLeaderStepsDown};
    let log: &[(Fault, usize)] = match topology {
        Topology::OneNode => &[(NatsKilled, 8)],
        Topology::ClusterOfThree => {
            &[(NatsKilled, 6), (LeaderStepsDown, 8), (TokensLeaderStepsDown, 2), (MetaLeaderStepsDown, 2)]
        }
    };
    let gateways = [(GatewayKilled, 6), (FeedCut, 6), (FeedHeld, 4), (FeedThinned, 6)];
    [Lane::new("log", log, seed), Lane::new("gateways", &gateways, seed)]
}

impl Lane {
    fn new(name: &'static str, faults: &[(Fault, usize)], seed: u64) -> Self {
        let mut random = decisions(seed, name);
        let mut faults: Vec<Fault> =
            faults.iter().flat_map(|(fault, count)| std::iter::repeat_n(*fault, *count)).collect();
        faults.shuffle(&mut random);
        Self { name, faults, random }
    }

    /// Adds how often each fault is in the lane.
    pub fn count(&self, into: &mut BTreeMap<Fault, usize>) {
        self.faults.iter().for_each(|fault| *into.entry(*fault).or_default() += 1);
    }

    /// Strikes them all.
    pub async fn run(mut self, world: Arc<World>, progress: Arc<Progress>) -> Result<()> {
        for fault in std::mem::take(&mut self.faults) {
            let later = self.random.random_range(progress.share() / 4..progress.share());
            progress.reached(progress.count() + later).await;
            let struck = self.strike(fault, &world, &progress).await;
            struck.with_context(|| format!("{fault:?} in lane {}", self.name))?;
            progress.fault_is_over();
        }
        Ok(())
    }

    /// Lets a fault last, for up to so many milliseconds.
    async fn last(&mut self, most: u64) {
        sleep(Duration::from_millis(self.random.random_range(0..most))).await;
    }

    async fn strike(&mut self, fault: Fault, world: &World, progress: &Progress) -> Result<()> {
        let client = &world.publisher.client;
        match fault {
            Fault::NatsKilled => self.kill_nats(world).await?,
            Fault::LeaderStepsDown => {
                eventually("a step down", HEALED, || step_down(client, STREAM)).await?;
            }
            Fault::TokensLeaderStepsDown => {
                eventually("a step down", HEALED, || step_down(client, TOKENS)).await?;
            }
            Fault::MetaLeaderStepsDown => {
                let nats = world.nats.lock().await;
                eventually("a step down", HEALED, || step_down_meta(&nats)).await?;
            }
            Fault::GatewayKilled => {
                let mut pods = world.pods.lock().await;
                let index = self.random.random_range(0..pods.len());
                pods[index].kill().await?;
                self.last(1000).await;
                pods[index].restart()?;
                // It reaches NATS when NATS is there: the other lane may have taken it away.
                let pod = &pods[index];
                eventually("a pod that is ready", HEALED, || async { pod.ready().await }).await?;
                return Ok(());
            }
            Fault::FeedCut | Fault::FeedHeld => {
                let lines = &world.lines[self.random.random_range(0..world.lines.len())];
                let cut = fault == Fault::FeedCut;
                lines.iter().for_each(|line| if cut { line.cut() } else { line.hold() });
                self.last(2500).await;
                lines.iter().for_each(sse_tests::proxy::Proxy::open);
                return Ok(());
            }
            Fault::FeedThinned => return self.thin(world, progress).await,
        }
        eventually("a log that is whole", HEALED, || whole(world)).await
    }

    /// One server at a time: a cluster that has lost its majority is another story.
    async fn kill_nats(&mut self, world: &World) -> Result<()> {
        let mut nats = world.nats.lock().await;
        let index = self.random.random_range(0..nats.len());
        nats[index].kill().await?;
        self.last(1500).await;
        nats[index].restart().await
    }

    /// Some of what is stored, or nothing of it, is republished, until enough was missed. A gateway
    /// that connects meanwhile may set it right before. No server is killed meanwhile: one that stands
    /// alone, and is killed while it writes a stream's configuration, does not know the stream after.
    async fn thin(&mut self, world: &World, progress: &Progress) -> Result<()> {
        let republish = |source: &str, destination: &str| {
            Some(Republish { source: source.into(), destination: destination.into(), headers_only: false })
        };
        let thin =
            if self.random.random_bool(0.5) { None } else { republish("sse.acme.>", "sse-live.acme.>") };
        let _unkilled = world.nats.lock().await;
        set_republish(world, thin).await?;
        let missed = progress.count() + self.random.random_range(20..300);
        // Publishing may rest.
        let _ = timeout(Duration::from_secs(2), progress.reached(missed)).await;
        set_republish(world, republish("sse.>", "sse-live.>")).await
    }
}

async fn set_republish(world: &World, republish: Option<Republish>) -> Result<()> {
    let jetstream = &world.publisher.jetstream;
    eventually("an update of the stream", HEALED, || async {
        let config = jetstream.get_stream(STREAM).await?.cached_info().config.clone();
        jetstream.update_stream(Config { republish: republish.clone(), ..config }).await?;
        Ok(())
    })
    .await
}

/// Whether every replica of the log is there and current, and each server is healthy.
async fn whole(world: &World) -> Result<()> {
    for server in world.nats.lock().await.iter() {
        server.healthy().await?;
    }
    for name in [STREAM, TOKENS] {
        let stream = world.publisher.jetstream.get_stream(name).await?;
        let Some(cluster) = &stream.cached_info().cluster else { continue };
        ensure!(cluster.leader.is_some(), "{name} has no leader");
        ensure!(cluster.replicas.iter().all(|peer| peer.current && !peer.offline), "{name}: {cluster:?}");
    }
    Ok(())
}
