//! What the tests share: real processes, a real NATS, a real cluster, and a client that is not the
//! gateway's code.

#![expect(clippy::missing_panics_doc, clippy::expect_used, reason = "a panic here is a failed test")]

pub mod authority;
pub mod balancer;
pub mod browser;
pub mod client;
pub mod clients;
pub mod cluster;
pub mod collector;
pub mod console;
pub mod contracts;
pub mod dashboards;
pub mod examples;
pub mod follower;
pub mod frames;
pub mod h2;
pub mod history;
pub mod in_front;
pub mod issuer;
pub mod jwt;
pub mod kubectl_sse;
pub mod nats;
pub mod nginx;
pub mod nsc;
pub mod outside;
pub mod pages;
pub mod proc;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod publisher;
pub mod raw;
pub mod secrets;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Awaits a condition, and fails with what it said last.
///
/// # Errors
///
/// When the condition does not hold before the deadline.
pub async fn eventually<T, F, Fut>(what: &str, within: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                bail!("{what}: not within {within:?}: {error:#}")
            }
            Err(_) => sleep(POLL).await,
        }
    }
}
