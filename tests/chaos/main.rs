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

use anyhow::{Context as _, Result, bail};
use sse_tests::publisher::Publisher;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use oracle::Oracle;
use plan::Plan;
use publishing::Progress;
use reader::{Heard, Reader};
use world::{Topology, World};

/// Connections to NATS that are published on.
const PUBLISHERS: usize = 4;
/// Publishing and all faults.
const STORM: Duration = Duration::from_mins(6);
/// Then each client has this long to hear the rest.
const CALM: Duration = Duration::from_mins(2);

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
    let lanes = faults::lanes(world.topology, seed);
    let mut struck = BTreeMap::new();
    lanes.iter().for_each(|lane| lane.count(&mut struck));
    let progress = Arc::new(Progress::new(&plan, lanes.iter().map(faults::Lane::len).sum()));
    let (ending, seen) = watch::channel(false);
    let mut readers = JoinSet::new();
    for index in 0..plan.listeners.len() {
        let (addresses, seen) = (world.addresses.clone(), seen.clone());
        let mut reader = Reader::new(plan.clone(), index, addresses, seen, began);
        readers.spawn(async move {
            let end = reader.run().await;
            (index, reader.heard, end)
        });
    }
    let mut storm = JoinSet::new();
    for lane in lanes {
        storm.spawn(lane.run(world.clone(), progress.clone()));
    }
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        publishers.push(Publisher::connect(&world.urls).await?);
    }
    storm.spawn(publishing::publish_all(plan.clone(), progress.clone(), publishers));
    let mut heard = BTreeMap::new();
    timeout(STORM, weather(&mut storm, &mut readers, &plan)).await.context("the storm has no end")??;
    let storm = began.elapsed();

    ending.send_replace(true);
    publishing::publish_ends(&plan, &progress, &world.publisher).await?;
    let calm = async {
        while let Some(reader) = readers.join_next().await {
            note(reader?, &plan, &mut heard)?;
        }
        anyhow::Ok(())
    };
    let missing = timeout(CALM, calm).await;
    missing
        .with_context(|| format!("{} clients never had the end", plan.listeners.len() - heard.len()))??;
    let oracle = Oracle::read(&world.publisher, &plan, &progress.sequences()).await?;
    for (index, heard) in &heard {
        let listener = &plan.listeners[*index];
        oracle.check(&plan, listener, heard).with_context(|| told(*index, listener, heard))?;
    }
    let sum = |of: fn(&Heard) -> usize| heard.values().map(of).sum::<usize>();
    Ok(format!(
        "seed {seed}, {:?}: {} events {:?}; {} clients, {} deliveries, each once and in order; {} streams, \
         {} refusals, {} stalls ({} cut by the gateway); faults {struck:?}; {:.0} s, of them {:.0} s storm",
        world.topology,
        plan::EVENTS,
        oracle::kinds(&plan),
        heard.len(),
        sum(|heard| heard.events.len()),
        sum(|heard| heard.streams),
        sum(|heard| heard.refusals),
        sum(|heard| heard.stalls),
        sum(|heard| heard.cut_stalls),
        began.elapsed().as_secs_f64(),
        storm.as_secs_f64(),
    ))
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
                note(reader?, plan, &mut BTreeMap::new())?;
                bail!("a client had the end before it was published");
            }
        }
    }
}

/// A client that came to its end.
type Ended = (usize, Heard, Result<()>);

fn note((index, heard, end): Ended, plan: &Plan, all: &mut BTreeMap<usize, Heard>) -> Result<()> {
    end.with_context(|| told(index, &plan.listeners[index], &heard))?;
    all.insert(index, heard);
    Ok(())
}

/// What a client went through, for a failure.
fn told(index: usize, listener: &plan::Listener, heard: &Heard) -> String {
    format!("client {index}, {listener:?}, from {}:\n{}", heard.start, heard.journal.join("\n"))
}
