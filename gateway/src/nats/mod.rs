//! What goes over the one connection to NATS that a pod has.
//!
//! [`link`] keeps the connection, [`events`] tells how it is, [`provision`] makes the stream and the token bucket,
//! [`feed`] turns the republished messages into a contiguous sequence, [`log`] reads what the feed or a client missed,
//! [`history`] asks for what is older than the log, [`control`] hears what back ends ask of connections, [`publish`]
//! stores what came over HTTP, [`dead`] publishes what was refused, [`pods`] tells the other pods how many streams this
//! one has, [`server`] looks at what the server takes and permits.

pub mod control;
pub mod dead;
mod events;
pub mod feed;
pub mod history;
pub mod link;
pub mod live;
pub mod log;
pub mod pods;
pub mod provision;
pub mod publish;
pub mod question;
mod server;
pub mod status;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{io, thread};

use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::connection::limits::Limits;
use crate::hub::Hub;
use crate::rebalance::Streams;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use crate::token::shared::Shared;
use dead::DeadLetters;
use feed::Feed;
use history::History;
use link::Keeper;
pub use link::{Link, LinkState};
use live::Live;
use log::Log;
use pods::Pods;
use publish::Publisher;
use status::Status;

/// Tells how many streams there are, while the pod is ready for more.
pub type Taking = Arc<dyn Fn() -> Option<u32> + Send + Sync>;

/// What the connection serves.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub hub: Arc<Hub>,
    pub log: Arc<Log>,
    /// `None`: nobody knows events that are older than the log.
    pub history: Option<Arc<History>>,
    pub dead: Arc<DeadLetters>,
    pub publisher: Arc<Publisher>,
    pub metrics: Arc<Metrics>,
    pub status: Arc<Status>,
    pub limits: Arc<Limits>,
    /// Token of the subject that this pod's seams have.
    pub pod: String,
    /// Open streams, while the pod is ready for more.
    pub taking: Taking,
    /// Where the streams of all pods are told.
    pub heard: watch::Sender<Streams>,
}

/// Begins [`run`] on a thread of its own; what is returned tells when it has ended. An event goes there all
/// the way from the one socket to the others: on threads that are shared, each event on its way would wake
/// one more of them, which costs as much as the event itself. And what takes long elsewhere does not hold it up.
///
/// # Errors
///
/// When the system gives no thread, or no files for it.
pub fn start(parts: Parts, cancel: CancellationToken) -> io::Result<oneshot::Receiver<()>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name("nats".into()).spawn(move || {
        // As a task among tasks: the runtime looks at its sockets each time before it polls what it blocks on.
        let _ = runtime.block_on(runtime.spawn(run(parts, cancel)));
        // The connection ends with its runtime.
        drop(runtime);
        let _ = ended.send(());
    })?;
    Ok(end)
}

/// Connects, and then feeds the hub, hears back ends and sends dead letters until it is cancelled. A
/// missing secret is waited for: the pod says which one, and heals when it appears.
async fn run(parts: Parts, cancel: CancellationToken) {
    let run = async {
        let Parts { config, hub, log, history, dead, publisher, metrics, status, limits, pod, taking, heard } =
            parts.clone();
        let (keeper, link) = Keeper::begin(config.clone(), status.clone(), metrics).await;
        log.attach(link.clone());
        publisher.attach(link.clone());
        history.iter().for_each(|history| history.attach(link.clone()));
        let prefix = &config.spec.nats.subject_prefix;
        let (subject, rebalance) = (pods::subject(prefix, &config.name), config.spec.scaling.rebalance);
        let pods = Pods {
            subject,
            own: pod,
            hub: &hub,
            limits: &limits,
            taking: &*taking,
            heard: &heard,
            rebalance,
        };
        let others = async {
            let server = server::watch(&link, &config.spec, &status);
            // Of the stream, because every gateway may ask that.
            let question =
                config.spec.replay.enabled.then(|| format!("$JS.API.STREAM.INFO.{}", config.stream_name()));
            let dead = dead.run(&link, question);
            tokio::join!(keeper.run(), control::run(&link, prefix, &hub), dead, pods.run(&link), server);
        };
        if config.spec.replay.enabled {
            tokio::join!(Feed::new(link.clone(), &parts).run(), others);
        } else {
            let shared = Arc::new(Shared::new(link.clone(), prefix, &config.name));
            status.set_tokens(Tokens::Shared(shared.clone()));
            let subjects = format!("{prefix}.>");
            let (link, hub, dead) = (link.clone(), hub.clone(), dead.clone());
            let live = Live { link, subjects, hub, dead, status: status.clone() };
            tokio::join!(live.run(), shared.run(), others);
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = run => {}
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
