//! A client that disconnects at any moment, and comes back with the last id that it saw, misses
//! nothing and sees nothing twice.
//!
//! Forty clients leave after a random number of bytes, thousands of times in all, and come back to
//! one of two gateways: one with a small buffer, whose clients catch up, and one that is killed now
//! and then, whose ring is empty, so that it replays from the log. Every second a part of the events
//! is hidden from the live feed, which must be repaired. In the silence after that, others are cut in
//! their heartbeats.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sse_tests::jwt::jwt;
use sse_tests::nats::heard_and_mute;
use sse_tests::process::{Gateway, Nats};
use sse_tests::publisher::Publisher;
use sse_tests::raw::{Place, Raw, Shape};
use tokio::time::{Instant, sleep, timeout};

const CLIENTS: usize = 40;
const EVENTS: usize = 3000;
/// Events that are published at once.
const BURST: usize = 40;
/// A whole run takes this long at most.
const DEADLINE: Duration = Duration::from_mins(5);
/// A client that waits for what should have come gives up after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is published, decided before the first client comes.
struct Planned {
    subject: String,
    data: String,
    /// Not in the live feed.
    hidden: bool,
}

/// What the clients saw, all together.
#[derive(Default)]
struct Tally {
    places: Mutex<BTreeMap<Place, usize>>,
    cuts: AtomicU64,
    /// Cuts right after an event that was hidden from the feed, before the next one that was.
    in_repair: AtomicU64,
    /// Cuts of a client that was still before what the gateway had in its ring.
    in_replay: AtomicU64,
    refused: AtomicU64,
}

/// The two gateways, as a client knows them.
struct Doors {
    addresses: [SocketAddr; 2],
    /// Where the ring of the second one begins.
    ring_from: AtomicU64,
    over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_byte_a_client_is_cut_at_it_comes_back_to_all_that_it_missed_and_to_nothing_twice()
-> Result<()> {
    let seed = match std::env::var("CUTS_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => rand::random(),
    };
    println!("cuts: CUTS_SEED={seed}");
    timeout(DEADLINE, run(seed))
        .await
        .context("not done in time")
        .flatten()
        .with_context(|| format!("CUTS_SEED={seed}"))
}

async fn run(seed: u64) -> Result<()> {
    let nats = Nats::start().await?;
    let quick = json!({"stream": {"heartbeatIntervalSeconds": 5}, "logging": {"level": "info"},
        "limits": {"maxConnectionsPerUser": 100}});
    let mut small = quick.clone();
    small["limits"]["connectionBufferSize"] = json!(5);
    let stable = Gateway::start(&nats, small).await?;
    let killed = Gateway::start(&nats, quick).await?;
    let stream = stable.status().await?["stream"].clone();
    let epoch = stream["epoch"].as_str().context("an epoch")?;
    let first = format!("{epoch}-{}", stream["head"]);
    let doors = Arc::new(Doors {
        addresses: [stable.address, killed.address],
        ring_from: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let tally = Arc::new(Tally::default());
    let plan = Arc::new(plan(seed));
    let started = Instant::now();
    let publishing = tokio::spawn(publish(nats.publisher().await?, plan.clone()));
    let killing = tokio::spawn(kill_now_and_then(killed, doors.clone()));
    let clients = (0..CLIENTS).map(|client| {
        let rng = StdRng::seed_from_u64(seed.wrapping_add(1 + client as u64));
        tokio::spawn(come_and_go(client, rng, first.clone(), doors.clone(), plan.clone(), tally.clone()))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    doors.over.store(true, Ordering::Relaxed);
    publishing.await??;
    let kills = killing.await??;
    cut_in_heartbeats(&stable, &nats.publisher().await?, &tally).await?;
    tally.report(started.elapsed(), kills)
}

/// Clients that are cut at each byte of a heartbeat, its chunk's framing included.
async fn cut_in_heartbeats(gateway: &Gateway, publisher: &Publisher, tally: &Tally) -> Result<()> {
    let cut_at = |byte: usize| async move {
        let jwt = jwt("acme", &format!("quiet-{byte}"));
        let mut raw = Raw::open(gateway.address, &jwt, "", Shape::default()).await?;
        raw.opened().await?;
        let most = raw.received + byte;
        while raw.received < most {
            let count = timeout(PATIENCE, raw.read(most - raw.received)).await.context("no heartbeat")??;
            ensure!(count > 0, "ended");
        }
        tally.note(&raw, false);
        anyhow::Ok((jwt, raw.id))
    };
    let heartbeat = "d\r\n:heartbeat\n\n\r\n".len();
    let cut = futures::future::try_join_all((1..=heartbeat).map(cut_at)).await?;
    publisher.publish("sse.acme.all", "after the heartbeat").await?;
    publisher.publish("sse.acme.all", "and one more").await?;
    for (jwt, cursor) in cut {
        let mut raw = Raw::open(gateway.address, &jwt, &cursor, Shape::default()).await?;
        for due in ["after the heartbeat", "and one more"] {
            let event = raw.next(PATIENCE).await?.context("ended")?;
            ensure!(event.data == due, "{event:?}");
        }
    }
    Ok(())
}

impl Tally {
    fn report(&self, took: Duration, kills: u32) -> Result<()> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (cuts, repair, replay) = (load(&self.cuts), load(&self.in_repair), load(&self.in_replay));
        let places = self.places.lock().expect("no panic").clone();
        println!(
            "cuts: {cuts} cuts in {took:.1?}, {repair} in a repair, {replay} in a replay from the log, \
             {kills} gateways killed, {} handshakes that found none; by place: {places:?}",
            load(&self.refused)
        );
        ensure!(cuts >= 2000, "only {cuts} cuts");
        ensure!(repair >= 20 && replay >= 20, "too few cuts where it is hard: {repair}, {replay}");
        for place in [
            Place::Head,
            Place::Framing,
            Place::Connected,
            Place::Heartbeat,
            Place::Id,
            Place::Data,
            Place::BlankLine,
            Place::BetweenBlocks,
        ] {
            ensure!(places.contains_key(&place), "no cut in {place:?}");
        }
        Ok(())
    }
}

fn plan(seed: u64) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let event = |i| {
        let to = rng.random_range(0..CLIENTS * 5 / 4);
        let subject = if to < CLIENTS { format!("sse.acme.user.user-{to}") } else { "sse.acme.all".into() };
        let lines = if rng.random_ratio(1, 10) { rng.random_range(2..20) } else { 1 };
        let line = "x".repeat(rng.random_range(0..200));
        let data = format!("{i}\n") + &vec![line; lines].join("\n");
        Planned { subject, data, hidden: i / BURST % 8 >= 5 }
    };
    (0..EVENTS).map(event).collect()
}

impl Planned {
    fn is_for(&self, client: usize) -> bool {
        self.subject == "sse.acme.all" || self.subject == format!("sse.acme.user.user-{client}")
    }
}

/// Publishes in bursts, some of them hidden from the live feed.
async fn publish(publisher: Publisher, plan: Arc<Vec<Planned>>) -> Result<()> {
    let jetstream = &publisher.jetstream;
    let (heard, mute) = heard_and_mute(jetstream).await?;
    let mut muted = false;
    for burst in plan.chunks(BURST) {
        if burst[0].hidden != muted {
            muted = !muted;
            jetstream.update_stream(if muted { &mute } else { &heard }).await?;
        }
        let mut acknowledgements = Vec::new();
        for event in burst {
            let data = event.data.clone().into();
            acknowledgements.push(jetstream.publish(event.subject.clone(), data).await?);
        }
        for acknowledgement in acknowledgements {
            acknowledgement.await?;
        }
        sleep(Duration::from_millis(50)).await;
    }
    jetstream.update_stream(&heard).await?;
    Ok(())
}

/// Kills a gateway every few seconds, which then knows nothing but the log.
async fn kill_now_and_then(mut gateway: Gateway, doors: Arc<Doors>) -> Result<u32> {
    let mut kills = 0;
    while !doors.over.load(Ordering::Relaxed) {
        gateway.kill().await?;
        gateway.restart()?;
        gateway.ready().await?;
        let head = gateway.status().await?["stream"]["head"].as_u64().context("a head")?;
        doors.ring_from.store(head + 1, Ordering::Relaxed);
        kills += 1;
        for _ in 0..30 {
            if !doors.over.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    Ok(kills)
}

/// One client, until it has everything.
async fn come_and_go(
    client: usize,
    mut rng: StdRng,
    mut cursor: String,
    doors: Arc<Doors>,
    plan: Arc<Vec<Planned>>,
    tally: Arc<Tally>,
) -> Result<()> {
    let jwt = jwt("acme", &format!("user-{client}"));
    let expected: Vec<&Planned> = plan.iter().filter(|event| event.is_for(client)).collect();
    let mut seen = 0;
    while seen < expected.len() {
        let door = rng.random_range(0..2);
        let Ok(mut raw) = Raw::open(doors.addresses[door], &jwt, &cursor, Shape::default()).await else {
            tally.refused.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let most = match rng.random_range(0..10) {
            0..4 => rng.random_range(1..600),
            4..9 => rng.random_range(1..4000),
            _ => rng.random_range(1..30_000),
        };
        let was = seen;
        let ended = read(&mut raw, most, &expected, &mut seen).await.with_context(|| {
            format!("client {client} at gateway {door}, with {cursor}, after {seen} events")
        })?;
        if !raw.id.is_empty() {
            cursor.clone_from(&raw.id);
        }
        if raw.status == 503 {
            // It has only begun.
            sleep(Duration::from_millis(50)).await;
        } else if !ended {
            tally.note(
                &raw,
                was < seen && seen < expected.len() && expected[seen - 1].hidden && expected[seen].hidden,
            );
            let sequence = cursor.split('-').nth(1).and_then(|text| text.parse::<u64>().ok());
            let behind = sequence.is_some_and(|at| at + 1 < doors.ring_from.load(Ordering::Relaxed));
            tally.in_replay.fetch_add((door == 1 && was < seen && behind).into(), Ordering::Relaxed);
        }
        if rng.random_ratio(1, 4) {
            raw.socket.set_zero_linger()?;
        }
    }
    Ok(())
}

impl Tally {
    fn note(&self, raw: &Raw, in_repair: bool) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
        self.in_repair.fetch_add(in_repair.into(), Ordering::Relaxed);
        *self.places.lock().expect("no panic").entry(raw.place()).or_default() += 1;
    }
}

/// Reads so many bytes, and looks at each event. Whether the gateway ended the stream before.
async fn read(raw: &mut Raw, most: usize, expected: &[&Planned], seen: &mut usize) -> Result<bool> {
    while raw.received < most && *seen < expected.len() {
        match timeout(PATIENCE, raw.read(most - raw.received)).await.context("nothing came")? {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            // Killed, which is no news; but what came is to be believed.
            Err(error) if error.is::<std::io::Error>() => return Ok(true),
            Err(error) => return Err(error),
        }
        ensure!(matches!(raw.status, 0 | 200 | 503), "status {}", raw.status);
        for event in raw.events() {
            if event.name != "message" {
                bail!("{event:?}");
            }
            let due = expected.get(*seen).map(|planned| &*planned.data);
            ensure!(due == Some(&*event.data), "saw {event:?}, expected {due:?}");
            *seen += 1;
        }
    }
    Ok(false)
}
