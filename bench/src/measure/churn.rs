//! Streams that come and go for as long as one likes: half of them with a token, half back with a cursor, all
//! of users that were never here before. Each gets what it missed and what is published while it is here,
//! once and in order, beside streams that stay; and what the gateway holds does not grow.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::jwt::{jwt_of_anything, jwt_with, now};
use sse_tests::raw;
use tokio::time::{MissedTickBehavior, interval};

use super::Bench;
use super::handshakes::token_request;
use super::stage::small;
use super::storm::{cursor, publish};
use crate::event::ALL;
use crate::figures::Figures;
use crate::fleet::{AT_ONCE, Fleet, Plan};
use crate::party::ours::Ours;
use crate::party::{Name, Party as _};
use crate::usage;

/// Events for everybody before the wave comes back, and while it is here.
const EVENTS: u32 = 5;
/// Events that are not acknowledged, at most.
const WINDOW: u64 = 64;
/// Time from wave to wave, unless one takes longer.
const EVERY: Duration = Duration::from_secs(2);
/// They have everything by then, or never.
const PATIENCE: Duration = Duration::from_mins(1);
/// The first users of the waves.
const WAVES: u32 = 1_000_000;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&[Name::Ours], 1) {
        let measured = one(bench, figures).await;
        figures.told("churn", name, measured);
    }
    Ok(())
}

async fn one(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let lasts = if bench.short { Duration::from_secs(5) } else { bench.churn };
    let mut churn = Churn::start(bench).await?;
    let (begun, mut samples, mut streams) = (Instant::now(), Vec::new(), 0);
    let mut next = interval(EVERY);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while begun.elapsed() < lasts {
        next.tick().await;
        streams += churn.wave(streams).await?;
        bench.world.sink.forget();
        drop(churn.stay.delays().await?);
        samples.push(usage::memory(&churn.ours.processes()?)? as f64 / 1024.0 / 1024.0);
    }
    // The ring fills, and pools: what counts is whether it goes on.
    let (early, late) = (middle(&samples, 1, 3), middle(&samples, 5, 6));
    figures.add("churn.minutes", Name::Ours, begun.elapsed().as_secs_f64() / 60.0);
    figures.add("churn.streams", Name::Ours, f64::from(streams));
    figures.add("churn.early", Name::Ours, early);
    figures.add("churn.late", Name::Ours, late);
    figures.add("churn.growth", Name::Ours, (late / early - 1.0) * 100.0);
    churn.stay.complete(churn.all, 0).await
}

/// The median of the samples from one sixth to another.
fn middle(samples: &[f64], from: usize, to: usize) -> f64 {
    let mut part = samples[samples.len() * from / 6..].to_vec();
    part.truncate((samples.len() * (to - from) / 6).max(1));
    part.sort_by(f64::total_cmp);
    part.get(part.len() / 2).copied().unwrap_or_default()
}

struct Churn {
    ours: Ours,
    /// Those who never leave.
    stay: Fleet,
    clients: u32,
    /// Events for everybody so far.
    all: u32,
}

impl Churn {
    async fn start(bench: &Bench) -> Result<Self> {
        let ours = Ours::start(&bench.world, json!({})).await?;
        let (mut stay, clients) = (Fleet::start()?, bench.count(1_000, 100));
        stay.open(plan(&ours, (0..clients).map(|user| long(user, bench.churn)).collect(), 0)).await?;
        Ok(Self { ours, stay, clients, all: 0 })
    }

    /// A wave of users comes, is served and goes; how many.
    async fn wave(&mut self, before: u32) -> Result<u32> {
        let (first, half) = (WAVES + before, self.clients / 2);
        let (begun, missed) = (self.stay.count(), cursor(&self.ours).await?);
        let from = self.all;
        publish(&self.ours, WINDOW, u64::from(EVENTS), move |index| (ALL, from + small(index))).await?;
        let mut wave = Fleet::start()?;
        let fresh = (first..first + half).map(token_request).collect();
        wave.open(Plan { mint: true, ..plan(&self.ours, fresh, from + EVENTS) }).await?;
        let returned = (first + half..first + 2 * half).map(|user| back(user, &missed)).collect();
        wave.open(plan(&self.ours, returned, from)).await?;
        publish(&self.ours, WINDOW, u64::from(2 * half), move |index| (first + small(index), 0)).await?;
        publish(&self.ours, WINDOW, u64::from(EVENTS), move |index| (ALL, from + EVENTS + small(index)))
            .await?;
        self.all += 2 * EVENTS;
        let due = half * EVENTS + 2 * half * (EVENTS + 1);
        wave.received(due.into(), PATIENCE).await?;
        self.stay.received(begun + u64::from(2 * EVENTS * self.clients), PATIENCE).await?;
        wave.complete(self.all, 1).await?;
        drop(wave);
        eventually("the wave has gone", PATIENCE, || async {
            let open = self.ours.gateway.status().await?["connections"].as_u64().context("connections")?;
            ensure!(open == u64::from(self.clients), "{open} streams");
            Ok(())
        })
        .await?;
        Ok(2 * half)
    }
}

fn plan(ours: &Ours, requests: Vec<(u32, Vec<u8>)>, next_all: u32) -> Plan {
    Plan { address: ours.address(), requests, at_once: AT_ONCE, mint: false, next_all }
}

/// One who stays for so long: a stream ends with its credential.
fn long(user: u32, lasts: Duration) -> (u32, Vec<u8>) {
    let more = json!({"exp": now() + lasts.as_secs() + 3600});
    (user, raw::request(&jwt_with("acme", &format!("user-{user}"), more), "").into_bytes())
}

fn back(user: u32, cursor: &str) -> (u32, Vec<u8>) {
    (user, raw::request(&jwt_of_anything("acme", &format!("user-{user}")), cursor).into_bytes())
}
