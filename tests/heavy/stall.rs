//! A thousand clients that stop reading for twenty seconds, under ten megabytes of events a second:
//! memory stays bounded, nobody else loses anything or waits, and they get everything when they
//! read again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::jwt::jwt;
use sse_tests::proc::{memory, processor_time, queued};
use sse_tests::process::{Gateway, Nats};
use sse_tests::publisher::Publisher;
use sse_tests::raw::{Raw, Shape};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

const STALLED: usize = 1000;
const TENANTS: usize = 125;
/// Tenants that have a client which goes on reading.
const WITNESSES: usize = 20;
/// Bytes of an event's data.
const SIZE: usize = 1000;
const FOR: Duration = Duration::from_secs(20);
/// Events a second at most, on a machine that can.
const RATE: usize = 10_000;
/// Events at least: what each tenant gets must be more than buffers hold.
const EVENTS: usize = 50_000;
/// That slow, publishing would be waiting for the stalled.
const SLOWEST: Duration = Duration::from_mins(1);
/// Events that a witness may be behind, before publishing waits for the gateway.
const BEHIND: usize = RATE / TENANTS / 4;
/// Publishing has a rhythm: ticks a second.
const TICKS: usize = 100;
const TICK: Duration = Duration::from_millis(10);
/// Events whose acknowledgement is waited for.
const UNACKNOWLEDGED: usize = 4000;
/// From the publishing of an event to its reading by a witness. On a busy machine it is far from the
/// usual one, but a hub that waited for the stalled would be far beyond.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// The ring and the kept part of the log have 32 MiB each, before what each entry costs beside its
/// bytes; the feed may have a backlog.
const SHARED: usize = 256 << 20;
/// A stream that is stalled: what it holds of its own, and of events that only it still needs.
const EACH: usize = 256 << 10;
/// The kernel keeps this for a client that does not read.
const RECEIVE_BUFFER: u32 = 4096;
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_stalled_clients_cost_bounded_memory_and_nobody_elses_time() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"logging": {"level": "info"}, "limits": {"writeTimeoutSeconds": 600}});
    let gateway = Gateway::start(&nats, patch).await?;
    let narrow = Shape { receive_buffer: Some(RECEIVE_BUFFER) };
    let (clock, mut stalled) = (Instant::now(), Vec::new());
    for client in 0..STALLED {
        let tenant = client % TENANTS;
        stalled.push((tenant, open(&gateway, tenant, &format!("user-{client}"), narrow).await?));
    }
    let (idle, opened) = (memory(gateway.id()?)?, clock.elapsed());
    let (tell, told) = watch::channel(None);
    let (mut witnesses, mut seen) = (Vec::new(), Vec::new());
    for tenant in 0..WITNESSES {
        let raw = open(&gateway, tenant, "witness", Shape::default()).await?;
        seen.push(Arc::new(AtomicUsize::new(0)));
        witnesses.push(tokio::spawn(witness(raw, clock, told.clone(), tenant, seen[tenant].clone())));
    }

    let (watch, begun, work) = (Watch::default(), Instant::now(), processor_time(gateway.id()?)?);
    let published = flood(nats.publisher().await?, clock, &gateway, &watch, &seen).await?;
    let (flooded, work) = (begun.elapsed(), processor_time(gateway.id()?)?.saturating_sub(work));
    tell.send_replace(Some(published.clone()));
    let mut delays = Vec::new();
    for witness in witnesses {
        delays.extend(witness.await??);
    }
    let (kernel, peak_stalled) = (queued(gateway.address.port())?, watch.peak.load(Ordering::Relaxed));
    let (total, least) = (published.iter().sum::<usize>(), published[TENANTS - 1] * SIZE);
    println!(
        "stall: {STALLED} clients of {TENANTS} tenants, opened in {opened:.1?}; {total} events in {flooded:.1?} \
         ({} KB/s, {work:.1?} of the gateway's processors), {} KB for each; the kernel holds {} KB for each",
        total as u128 * SIZE as u128 / flooded.as_millis(),
        least / 1000,
        kernel / STALLED / 1000,
    );

    let again = Instant::now();
    let mut readers = JoinSet::new();
    for (tenant, raw) in stalled {
        readers.spawn(read_all(raw, tenant, published[tenant]));
    }
    while let Some(reader) = readers.join_next().await {
        reader??;
        watch.look(&gateway)?;
    }
    delays.sort_unstable();
    let part = |percent: usize| delays[(delays.len() - 1) * percent / 100];
    let (peak, bound) = (watch.peak.load(Ordering::Relaxed), idle + SHARED + STALLED * EACH);
    println!(
        "stall: {} events at witnesses after p50 {:.0?}, p99 {:.0?}, at most {:.0?}; all others read after {:.1?}; \
         memory in MiB: idle {}, stalled {}, most {}, bound {}",
        delays.len(),
        part(50),
        part(99),
        part(100),
        again.elapsed(),
        idle >> 20,
        peak_stalled >> 20,
        peak >> 20,
        bound >> 20,
    );
    ensure!(kernel / STALLED + EACH < least, "{least} bytes for each do not stall them: {kernel}");
    ensure!(part(100) < LONGEST_DELAY, "a witness waited for {:?}", part(100));
    ensure!(peak < bound, "{peak} bytes, more than {bound}");
    Ok(())
}

async fn open(gateway: &Gateway, tenant: usize, user: &str, shape: Shape) -> Result<Raw> {
    let mut raw = Raw::open(gateway.address, &jwt(&format!("t{tenant}"), user), "", shape).await?;
    raw.opened().await?;
    Ok(raw)
}

/// The most memory that was seen.
#[derive(Default)]
struct Watch {
    peak: AtomicUsize,
}

impl Watch {
    fn look(&self, gateway: &Gateway) -> Result<()> {
        self.peak.fetch_max(memory(gateway.id()?)?, Ordering::Relaxed);
        Ok(())
    }
}

/// Publishes at the rate, or as fast as the gateway hands on, acknowledged; returns how many events each tenant got.
async fn flood(
    publisher: Publisher,
    clock: Instant,
    gateway: &Gateway,
    watch: &Watch,
    seen: &[Arc<AtomicUsize>],
) -> Result<Vec<usize>> {
    let mut jetstream = publisher.jetstream.clone();
    jetstream.set_timeout(PATIENCE);
    let filler = "x".repeat(SIZE);
    let (mut published, mut waiting) = (vec![0; TENANTS], VecDeque::new());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut next = 0;
    while begun.elapsed() < FOR || next < EVENTS {
        ensure!(begun.elapsed() < SLOWEST, "only {next} events were handed on");
        ticks.tick().await;
        watch.look(gateway)?;
        if seen
            .iter()
            .zip(&published)
            .any(|(seen, published)| seen.load(Ordering::Relaxed) + BEHIND < *published)
        {
            continue;
        }
        for _ in 0..RATE / TICKS {
            let tenant = next % TENANTS;
            let mut data = format!("{} {} ", published[tenant], clock.elapsed().as_micros());
            data.push_str(&filler[data.len()..]);
            waiting.push_back(jetstream.publish(format!("sse.t{tenant}.all"), data.into()).await?);
            published[tenant] += 1;
            next += 1;
        }
        while waiting.len() > UNACKNOWLEDGED
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.await?;
        }
    }
    for acknowledgement in waiting {
        acknowledgement.await?;
    }
    Ok(published)
}

/// The place of an event among its tenant's, and when it was published.
fn read(data: &str) -> Result<(usize, Duration)> {
    let mut words = data.split(' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (index, micros) = number().zip(number()).with_context(|| data.to_owned())?;
    Ok((usize::try_from(index)?, Duration::from_micros(micros)))
}

/// Reads on while the others are stalled; returns how long each event was on its way.
async fn witness(
    mut raw: Raw,
    clock: Instant,
    mut published: watch::Receiver<Option<Vec<usize>>>,
    tenant: usize,
    seen: Arc<AtomicUsize>,
) -> Result<Vec<Duration>> {
    let mut delays = Vec::new();
    loop {
        if published.borrow().as_ref().is_some_and(|published| published[tenant] == delays.len()) {
            return Ok(delays);
        }
        let event = tokio::select! {
            event = raw.next(PATIENCE) => event,
            // Perhaps that was the last one.
            _ = published.changed(), if published.borrow().is_none() => continue,
        };
        let event = event.with_context(|| format!("witness {tenant} after {} events", delays.len()))?;
        let (index, at) = read(&event.context("ended")?.data)?;
        ensure!(index == delays.len(), "witness {tenant} saw {index} after {} events", delays.len());
        delays.push(clock.elapsed().saturating_sub(at));
        seen.store(delays.len(), Ordering::Relaxed);
    }
}

/// Reads again: everything, once, in order.
async fn read_all(mut raw: Raw, tenant: usize, count: usize) -> Result<()> {
    for expected in 0..count {
        let event = raw.next(PATIENCE).await;
        let event =
            event.with_context(|| format!("a stalled client of t{tenant}, after {expected} events"))?;
        let event = event.context("ended")?;
        ensure!(event.name == "message", "{event:?}");
        let (index, _) = read(&event.data)?;
        ensure!(index == expected, "t{tenant}: {index} instead of {expected}");
    }
    Ok(())
}
