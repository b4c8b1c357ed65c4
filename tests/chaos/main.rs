//! Chaos: what the stream acknowledged reaches each of its recipients exactly once and in order,
//! while clients come and go, and nats-servers, leaders, gateways and lines fail.
//!
//! One seed decides who connects when and where, what each event is, and which fault strikes when; it
//! is printed, and `CHAOS_SEED` gives it back. How long the processes take for their part is not its.

#![expect(clippy::expect_used, reason = "a panic here is a failed test")]

mod faults;
mod oracle;
mod plan;
mod publishing;
mod reader;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use sse_tests::publisher::Publisher;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use oracle::Oracle;
use plan::{Listener, Plan};
use publishing::Progress;
use reader::{Heard, Reader};
use world::{Topology, World};

/// Connections to NATS that are published on.
const PUBLISHERS: usize = 4;
/// Most clients are there before the first event.
const EARLY: Duration = Duration::from_secs(30);
/// Publishing and all faults.
const STORM: Duration = Duration::from_mins(8);
/// Then each client has this long to hear the rest.
const CALM: Duration = Duration::from_mins(4);

/// The machine is one run's alone.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_each_of_its_events_once_and_in_order_with_one_nats_server() -> Result<()> {
    survive(Topology::OneNode).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_each_of_its_events_once_and_in_order_with_a_cluster_of_three() -> Result<()> {
    survive(Topology::ClusterOfThree).await
}

async fn survive(topology: Topology) -> Result<()> {
    let _alone = ALONE.lock().await;
    let seed = match std::env::var("CHAOS_SEED") {
        Ok(seed) => seed.parse().context("CHAOS_SEED")?,
        Err(_) => rand::random(),
    };
    say(&format!("chaos {topology:?}: CHAOS_SEED={seed}"));
    let world = Arc::new(World::start(topology).await?);
    match run(&world, seed).await {
        Ok(figures) => {
            say(&figures);
            Ok(())
        }
        Err(error) => {
            let logs = world.keep_logs(seed).await?;
            Err(error.context(format!("chaos {topology:?}, CHAOS_SEED={seed}, logs in {}", logs.display())))
        }
    }
}

/// Also when the test harness captures what passing tests print.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn run(world: &Arc<World>, seed: u64) -> Result<String> {
    let began = Instant::now();
    let plan = Arc::new(Plan::new(seed));
    let (ending, calm) = watch::channel(false);
    let mut readers = readers(world, &plan, &calm).await?;
    let lanes = faults::lanes(world.topology, seed);
    let mut struck = BTreeMap::new();
    lanes.iter().for_each(|lane| lane.count(&mut struck));
    let progress = Arc::new(Progress::new(&plan, struck.values().sum()));
    let mut storm = JoinSet::new();
    for lane in lanes {
        storm.spawn(lane.run(world.clone(), progress.clone()));
    }
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        publishers.push(Publisher::connect(&world.urls).await?);
    }
    storm.spawn(publishing::publish_all(plan.clone(), progress.clone(), publishers));
    timeout(STORM, weather(&mut storm, &mut readers, &plan)).await.context("the storm has no end")??;
    let storm = began.elapsed();

    publishing::publish_ends(&plan, &progress, &world.publisher).await?;
    ending.send_replace(true);
    let mut heard = BTreeMap::new();
    while let Some(reader) = readers.join_next().await {
        let (index, told) = finished(reader?, &plan)?;
        heard.insert(index, told);
    }
    let oracle = Oracle::read(&world.publisher, &plan, &progress.sequences()).await?;
    for (index, heard) in &heard {
        let listener = &plan.listeners[*index];
        oracle.check(&plan, listener, heard).with_context(|| told(*index, listener, heard))?;
    }
    let (storm, all) = (storm.as_secs(), began.elapsed().as_secs());
    Ok(format!(
        "chaos {:?}: seed {seed}; {}, {} repeated by NATS; {}; faults {struck:?}; {all} s, of them {storm} s storm",
        world.topology,
        published(&plan),
        oracle.repeated(),
        received(&heard),
    ))
}

/// A client that came to its end.
type Ended = (usize, Heard, Result<()>);

/// Starts the clients, and waits until most of them have a stream.
async fn readers(world: &World, plan: &Arc<Plan>, calm: &watch::Receiver<bool>) -> Result<JoinSet<Ended>> {
    let begun = watch::Sender::new(0);
    let mut readers = JoinSet::new();
    for index in 0..plan.listeners.len() {
        let signals = (begun.clone(), calm.clone());
        let mut reader = Reader::new(plan.clone(), index, world.addresses.clone(), signals);
        let mut calm = calm.clone();
        readers.spawn(async move {
            let late = async {
                let _ = calm.wait_for(|calm| *calm).await;
                sleep(CALM).await;
            };
            let end = tokio::select! {
                end = reader.run() => end,
                () = late => Err(anyhow!("the end did not come to it within {CALM:?}")),
            };
            (index, reader.heard, end)
        });
    }
    let most = plan.listeners.len() * 3 / 4;
    let mut begun = begun.subscribe();
    timeout(EARLY, begun.wait_for(|begun| *begun >= most)).await.context("most clients have a stream")??;
    Ok(readers)
}

/// Until publishing and all faults are over. A client that ends meanwhile has failed.
async fn weather(storm: &mut JoinSet<Result<()>>, readers: &mut JoinSet<Ended>, plan: &Plan) -> Result<()> {
    loop {
        tokio::select! {
            ended = storm.join_next() => match ended {
                Some(ended) => ended??,
                None => return Ok(()),
            },
            Some(reader) = readers.join_next() => {
                finished(reader?, plan)?;
                bail!("a client had the end before it was published");
            }
        }
    }
}

fn finished((index, heard, end): Ended, plan: &Plan) -> Result<(usize, Heard)> {
    end.with_context(|| told(index, &plan.listeners[index], &heard))?;
    Ok((index, heard))
}

/// What a client went through, for a failure.
fn told(index: usize, listener: &Listener, heard: &Heard) -> String {
    format!("client {index}, {listener:?}, from {}:\n{}", heard.start, heard.journal.join("\n"))
}

/// Figures of the events.
fn published(plan: &Plan) -> String {
    let mut kinds = BTreeMap::<_, usize>::new();
    plan.events[..plan::EVENTS].iter().for_each(|event| *kinds.entry(event.kind).or_default() += 1);
    format!("{} events acknowledged {kinds:?}", plan::EVENTS)
}

/// Figures of the clients.
fn received(heard: &BTreeMap<usize, Heard>) -> String {
    let sum = |of: fn(&Heard) -> usize| heard.values().map(of).sum::<usize>();
    format!(
        "{} clients, {} deliveries, each once and in order, over {} streams, {} refusals, {} stalls ({} cut by the gateway)",
        heard.len(),
        sum(|heard| heard.events.len()),
        sum(|heard| heard.streams),
        sum(|heard| heard.refusals),
        sum(|heard| heard.stalls),
        sum(|heard| heard.cut_stalls),
    )
}
