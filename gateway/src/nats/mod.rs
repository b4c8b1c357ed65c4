//! What goes over the one connection to NATS that a pod has.
//!
//! [`link`] keeps the connection, [`events`] tells how it is, [`provision`] makes the stream and the token bucket,
//! [`feed`] turns the republished messages into a contiguous sequence, [`log`] reads what the feed or a client missed,
//! [`control`] hears what back ends ask of connections, [`dead`] publishes what was refused.

pub mod control;
pub mod dead;
mod events;
pub mod feed;
pub mod link;
pub mod live;
pub mod log;
pub mod provision;
pub mod status;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::hub::Hub;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use crate::token::shared::Shared;
use dead::DeadLetters;
use feed::Feed;
use link::Keeper;
pub use link::{Link, LinkState};
use live::Live;
use log::Log;
use status::Status;

/// What the connection serves.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub hub: Arc<Hub>,
    pub log: Arc<Log>,
    pub dead: Arc<DeadLetters>,
    pub metrics: Arc<Metrics>,
    pub status: Arc<Status>,
    /// Token of the subject that this pod's seams have.
    pub pod: String,
}

/// Connects, and then feeds the hub, hears back ends and sends dead letters until it is cancelled. A
/// missing secret is waited for: the pod says which one, and heals when it appears.
pub async fn run(parts: Parts, cancel: CancellationToken) {
    // A task of its own: what clients read of the past does not hold up what is live.
    let scan = tokio::spawn({
        let (log, cancel) = (parts.log.clone(), cancel.clone());
        async move { log.serve(cancel).await }
    });
    let run = async {
        let Parts { config, hub, log, dead, metrics, status, .. } = parts.clone();
        let (keeper, link) = Keeper::begin(config.clone(), status.clone(), metrics).await;
        log.attach(link.clone());
        let prefix = &config.spec.nats.subject_prefix;
        let others = async {
            tokio::join!(keeper.run(), control::run(&link, prefix, &hub), dead.run(&link));
        };
        if config.spec.replay.enabled {
            tokio::join!(Feed::new(link.clone(), &parts).run(), others);
        } else {
            let shared = Arc::new(Shared::new(link.clone(), prefix, &config.name));
            status.set_tokens(Tokens::Shared(shared.clone()));
            let subjects = format!("{prefix}.>");
            let (link, hub, dead) = (link.clone(), hub.clone(), dead.clone());
            let live = Live { link, subjects, hub, dead, status };
            tokio::join!(live.run(), shared.run(), others);
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = run => {}
    }
    // Cancelled by the same token.
    let _ = scan.await;
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
