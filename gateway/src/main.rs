//! `sse-gateway`: arguments → configuration → logs → NATS → serve → drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use sse_gateway::admin::{self, Admin};
use sse_gateway::auth::jwt::Verifier;
use sse_gateway::check::{self, Report};
use sse_gateway::config::{Config, GatewayName};
use sse_gateway::connection;
use sse_gateway::connection::limits::Limits;
use sse_gateway::event::Rules;
use sse_gateway::http::console::Console;
use sse_gateway::http::events::Posts;
use sse_gateway::http::listener::Door;
use sse_gateway::http::lobby::{Lobby, Patience};
use sse_gateway::http::tls::Certificate;
use sse_gateway::http::topics::Topics;
use sse_gateway::http::{self, Gateway, listener};
use sse_gateway::hub::Hub;
use sse_gateway::logs;
use sse_gateway::nats;
use sse_gateway::nats::dead::DeadLetters;
use sse_gateway::nats::history::History;
use sse_gateway::nats::log::Log;
use sse_gateway::nats::publish::Publisher;
use sse_gateway::nats::status::Status;
use sse_gateway::rebalance::Streams;
use sse_gateway::room::Room;
use sse_gateway::round_trip;
use sse_gateway::subject::Token;
use sse_gateway::telemetry::Telemetry;
use sse_gateway::telemetry::metrics::Present;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// A storm of clients that come back allocates most; by measurement glibc's takes twice as long for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pods go on accepting for this long after SIGTERM: the endpoint's removal takes a moment to spread.
const ENDPOINT_GRACE: Duration = Duration::from_secs(sse_crds::ENDPOINT_GRACE_SECONDS as u64);
/// Connections to the admin port that wait for a request: kubelet, operator, Prometheus and a few people.
const MOST_ADMIN: usize = 64;
/// After the window, streams that still did not end are cut.
const LAST_CALL: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(version, about = "Streams the events of NATS to browsers, as Server-Sent Events.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a configuration: names every field that is wrong, and warns of what works and will hurt.
    Check {
        /// The configuration: an `SseGateway`, or its `spec`.
        #[arg(long)]
        config: PathBuf,
    },
    /// Declares a gateway in the cluster of this pod, sees an event go through it, and removes it: what `helm test` runs.
    RoundTrip {
        /// The gateway: the `spec` of an `SseGateway`, whose first issuer takes HS256 by a `keySecretRef`.
        #[arg(long)]
        config: PathBuf,
        /// `<namespace>/<name>` of the gateway.
        #[arg(long)]
        name: GatewayName,
        /// Where the secrets of `nats` are: `<dir>/<secret>/<key>`.
        #[arg(long, default_value = "/etc/sse-gateway/secrets")]
        secrets_dir: PathBuf,
        /// Seconds after which it has failed.
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
        timeout: u64,
    },
}

#[derive(Args)]
struct Serve {
    /// The configuration: the `spec` of an `SseGateway`.
    #[arg(long)]
    config: PathBuf,
    /// Address of the public port.
    #[arg(long, default_value = "[::]:8080")]
    listen: SocketAddr,
    /// Address of the admin port.
    #[arg(long, default_value = "[::]:9090")]
    admin_listen: SocketAddr,
    /// Where secrets are: `<dir>/<secret>/<key>`.
    #[arg(long, default_value = "/etc/sse-gateway/secrets")]
    secrets_dir: PathBuf,
    /// `<namespace>/<name>` of the gateway.
    #[arg(long, default_value = "default/gateway")]
    name: GatewayName,
    /// Generation of the `SseGateway`: the stream is never updated from an older one.
    #[arg(long, default_value_t = 0)]
    generation: u64,
    /// Seconds that a client has for the head of a request.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    head_timeout: u64,
    /// Seconds that a connection without a stream may wait for its next request.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    idle_timeout: u64,
}

impl Serve {
    fn patience(&self) -> Patience {
        let (head, idle) = (self.head_timeout, self.idle_timeout);
        Patience { head: Duration::from_secs(head), idle: Duration::from_secs(idle) }
    }
}

fn main() -> ExitCode {
    keep_to_small_pages();
    end_with_any_panic_but_the_clients();
    let cli = Cli::parse();
    let result = match (cli.command, cli.serve) {
        (Some(Command::Check { config }), _) => check(&config),
        (Some(Command::RoundTrip { config, name, secrets_dir, timeout }), _) => {
            round_trip(&config, &secrets_dir, name, Duration::from_secs(timeout))
        }
        (None, Some(serve)) => run(&serve),
        (None, None) => Err(anyhow::anyhow!("--config is missing; see --help")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the allocator gave back, in pieces of 64 KiB, the kernel would put back: it makes a huge page of any 2 MiB of
/// which a part is in use, and the allocator does not know. Streams that come and go made the process grow for hours.
fn keep_to_small_pages() {
    // An error says that this kernel has none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// A panic is a bug, and what it leaves behind is not to be trusted: the process ends. But the NATS client
/// panics over a header that anyone who may publish can send; then only the client ends, and is replaced.
fn end_with_any_panic_but_the_clients() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !panic.location().is_some_and(|at| at.file().contains("/async-nats-")) {
            std::process::abort();
        }
    }));
}

fn check(file: &Path) -> Result<()> {
    let Report { wrong, advice } = check::check(file)?;
    for advice in &advice {
        eprintln!("warning: {advice}");
    }
    let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} is good.", file.display());
    Ok(())
}

fn round_trip(config: &Path, secrets_dir: &Path, name: GatewayName, time: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Its text has its causes.
    runtime
        .block_on(round_trip::run(config, secrets_dir, name, time))
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn run(args: &Serve) -> Result<()> {
    let config = Config::load(&args.config, &args.secrets_dir, args.name.clone(), args.generation)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let pod = pod();
        let telemetry = Telemetry::start(&config, &pod);
        logs::start(&config.spec.logging, telemetry.tracer());
        for field in &config.unknown {
            warn!(%field, "The configuration has a field that this version does not know.");
        }
        let served = serve(args, Arc::new(config), telemetry.clone(), &pod).await;
        telemetry.stop().await;
        served
    })
}

async fn serve(args: &Serve, config: Arc<Config>, telemetry: Arc<Telemetry>, pod: &str) -> Result<()> {
    let room = Room::make(config.spec.limits.max_connections_per_pod);
    let public = listener("--listen", args.listen).await?;
    let private = listener("--admin-listen", args.admin_listen).await?;
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, unready) = (CancellationToken::new(), CancellationToken::new());
    let (connections, streams) = (TaskTracker::new(), TaskTracker::new());

    let metrics = telemetry.metrics.clone();
    let context = context(&config, telemetry);
    let limits = Limits::new(config.spec.limits.max_connections_per_user, room.streams);
    let dead = DeadLetters::new(config.spec.nats.subject_prefix.clone(), metrics.refused());
    let verifier = Arc::new(Verifier::new(&config.spec.auth, &config.secrets_dir));
    let keys = tokio::spawn({
        let (verifier, stop) = (verifier.clone(), stop.clone());
        async move { verifier.keep_keys(&stop).await }
    });
    let certificate = Certificate::new(&config);
    let admin = Admin::new(
        config.clone(),
        context.clone(),
        limits.clone(),
        dead.clone(),
        verifier.clone(),
        certificate.clone(),
        unready.clone(),
    );
    metrics.look_at({
        let (admin, limit) = (Arc::downgrade(&admin), limits.per_pod());
        move || admin.upgrade().map_or_else(Present::default, |admin| admin.present(limit))
    });
    let publisher = Arc::new(Publisher::default());
    let (heard, streams_of_pods) = watch::channel(Streams::new());
    let gateway = Arc::new(Gateway {
        verifier,
        limits: limits.clone(),
        topics: Topics::new(&config.spec),
        posts: Posts::new(publisher.clone(), context.hub.rules().max_payload),
        console: Console { pod: pod.into(), heard: streams_of_pods },
        context: context.clone(),
        streams: streams.clone(),
        turns: Gateway::turns(),
        config: config.clone(),
    });
    let (public_addr, private_addr) = (public.local_addr()?, private.local_addr()?);
    let connection::Context { hub, log, history, status, .. } = &*context;
    let parts = nats::Parts {
        config: config.clone(),
        hub: hub.clone(),
        log: log.clone(),
        history: history.clone(),
        dead,
        publisher,
        metrics,
        status: status.clone(),
        limits: limits.clone(),
        pod: pod.into(),
        taking: admin.taking(),
        heard,
    };
    let mut nats = nats::start(parts, stop.clone()).context("the thread of NATS")?;
    // Not there: what clients read of the past does not hold up what is live.
    let scan = tokio::spawn({
        let (log, stop) = (log.clone(), stop.clone());
        async move { log.serve(stop).await }
    });
    let (patience, silence) = (args.patience(), 2 * context.write_deadline);
    let serve = |listener, router, door| {
        tokio::spawn(listener::serve(listener, router, door, stop.clone(), connections.clone()))
    };
    let (lobby, goodbye) = (Lobby::new(patience, || MOST_ADMIN), stop.clone());
    let door = Door { lobby, certificate: None, goodbye, silence };
    let admin_server = serve(private, admin::router(admin), door);
    let lobby = Lobby::new(patience, move || room.beside(limits.total()));
    let door = Door { lobby, certificate, goodbye: context.drain.clone(), silence };
    let server = serve(public, http::router(gateway), door);
    info!(name = %config.name, listen = %public_addr, admin = %private_addr, "The gateway serves.");

    tokio::select! {
        _ = signals.0.recv() => {}
        _ = signals.1.recv() => {}
        _ = &mut nats => anyhow::bail!("What serves NATS has ended, which is a bug."),
    }
    let window = Duration::from_secs(config.spec.drain.window_seconds.into());
    info!(streams = streams.len(), ?window, "Draining; a second signal ends at once.");
    tokio::select! {
        () = wind_down(&unready, &context, &streams, window) => {}
        _ = signals.0.recv() => warn!("The gateway ends at once."),
        _ = signals.1.recv() => warn!("The gateway ends at once."),
    }
    context.drain();
    stop.cancel();
    connections.close();
    let ended = async {
        let _ = tokio::join!(nats, scan, keys, admin_server, server);
        connections.wait().await;
    };
    if timeout(LAST_CALL, ended).await.is_err() {
        warn!("Some connections did not end in time.");
    }
    info!("The gateway has ended.");
    Ok(())
}

async fn listener(argument: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{argument} {address}"))
}

/// Unready first; after a moment, in which the endpoints forget the pod and handshakes still succeed,
/// every stream at its own time within the window.
async fn wind_down(
    unready: &CancellationToken,
    context: &connection::Context,
    streams: &TaskTracker,
    window: Duration,
) {
    unready.cancel();
    if !window.is_zero() {
        sleep(ENDPOINT_GRACE).await;
    }
    context.drain();
    streams.close();
    if timeout(window + LAST_CALL, streams.wait()).await.is_err() {
        warn!(streams = streams.len(), "Some streams did not end in the window.");
    }
}

fn context(config: &Config, telemetry: Arc<Telemetry>) -> Arc<connection::Context> {
    let spec = &config.spec;
    let prefix = spec.nats.subject_prefix.clone();
    let rules = Rules {
        prefix: prefix.clone(),
        default_event_type: spec.stream.default_event_type.clone(),
        max_payload: usize::try_from(spec.limits.max_payload_bytes).unwrap_or(usize::MAX),
        platform: spec.platform_broadcast.enabled,
        ids: spec.replay.enabled,
    };
    let most_topics = spec.limits.max_topics_per_connection.saturating_add(
        // Those that every stream has are not the client's.
        spec.topics.auto_join.len().try_into().unwrap_or(u32::MAX),
    );
    let log = Arc::new(Log::new(config.stream_name(), &prefix));
    let history = spec.replay.history.as_ref().filter(|history| !history.subject.is_empty());
    let history =
        history.map(|it| History::new(it, rules.max_payload, log.clone(), telemetry.metrics.clone()));
    Arc::new(connection::Context {
        log,
        history,
        hub: Hub::new(rules, usize::try_from(most_topics).unwrap_or(usize::MAX)),
        telemetry,
        status: Arc::new(Status::default()),
        drain: CancellationToken::new(),
        drain_window: Duration::from_secs(spec.drain.window_seconds.into()),
        ids: spec.replay.enabled,
        heartbeat: Duration::from_secs(spec.stream.heartbeat_interval_seconds.into()),
        write_deadline: Duration::from_secs(spec.limits.write_timeout_seconds.into()),
        max_replay: spec.replay.max_replay_events.into(),
        per_subject: spec.nats.stream.max_messages_per_subject.map(u64::from),
        retry_ms: spec.stream.retry_ms.unwrap_or(1000),
    })
}

/// The pod's name, as a token of a subject.
fn pod() -> String {
    let name = std::env::var("POD_NAME").unwrap_or_else(|_| format!("{:08x}", rand::random::<u32>()));
    Token::encode(&name).map_or_else(|_| "pod".into(), |token| token.to_string())
}
