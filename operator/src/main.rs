//! The operator: makes and keeps the pods of every `SseGateway`, and tells in its status how they are.
//!
//! # Rights
//!
//! Those on the Lease are of the operator's own namespace; all others of the watched ones alone where
//! only some are watched. None is on Secrets.
//!
//! | API group | Resource | Verbs | For |
//! | --- | --- | --- | --- |
//! | `ssegateway.io` | `ssegateways` | get, list, watch | what is declared |
//! | `ssegateway.io` | `ssegateways/status` | patch | what was seen |
//! | `ssegateway.io` | `ssegateways/finalizers` | update | `blockOwnerDeletion`, where the API server checks it |
//! | `apps` | `deployments` | get, list, watch, create, patch | the pods |
//! | (core) | `services`, `serviceaccounts` | get, list, watch, create, patch | children that every gateway has |
//! | (core) | `configmaps` | get, list, watch, create, patch, delete | configurations, of which old ones go |
//! | `networking.k8s.io` | `networkpolicies`, `ingresses` | get, list, watch, create, patch, delete | children that a spec can do without |
//! | `policy` | `poddisruptionbudgets` | get, list, watch, create, patch, delete | the same |
//! | `autoscaling` | `horizontalpodautoscalers` | get, list, watch, create, patch, delete | the same |
//! | `gateway.networking.k8s.io` | `httproutes` | get, list, watch, create, patch, delete | the same, where the API is |
//! | `monitoring.coreos.com` | `podmonitors` | get, list, watch, create, patch, delete | the same, where the API is |
//! | (core) | `pods` | list, watch | whom to ask for `/status` |
//! | `events.k8s.io` | `events` | create | news |
//! | `coordination.k8s.io` | `leases` | get, create, update | which of several operators works |

mod apis;
mod apply;
mod arguments;
mod cache;
mod changes;
mod controller;
mod fleet;
mod health;
mod lease;
mod logs;
mod memory;
mod metrics;
mod notice;
mod observe;
mod pause;
mod plan;
mod probe;
mod reconcile;
mod requests;
#[cfg(test)]
mod rights;
mod rollouts;
mod scout;
mod status;
#[cfg(test)]
mod stub;
mod telemetry;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use kube::Client;
use kube::client::ClientBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::apis::Apis;
use crate::arguments::{Arguments, Command};
use crate::cache::Cache;
use crate::controller::Scope;
use crate::fleet::Fleet;
use crate::health::Readiness;
use crate::lease::{Candidate, Lost, Tenure};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::plan::{OperatorPods, Settings};
use crate::probe::Prober;
use crate::reconcile::Context;
use crate::requests::Gate;
use crate::rollouts::Rollouts;
use crate::telemetry::Telemetry;

/// How long the reconciliations that run at SIGTERM may take to finish. The Lease is held so long.
const DRAIN: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    // A panic is a bug; what it leaves behind is not to be trusted, and another replica takes over.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Crd) => print_crd(),
        None => {
            let runtime = tokio::runtime::Runtime::new()?;
            let outcome = runtime.block_on(run(arguments));
            // At once: who lost the Lease must not wait for anything.
            runtime.shutdown_background();
            outcome
        }
    }
}

fn print_crd() -> anyhow::Result<()> {
    let yaml = serde_saphyr::to_string(&sse_crds::crd()?)?;
    Ok(std::io::stdout().write_all(yaml.as_bytes())?)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let tenure = Arc::<Tenure>::default();
    let metrics = Arc::new(Metrics::new(tenure.clone()));
    let telemetry = Telemetry::start(&arguments, &metrics);
    logs::start(&arguments, telemetry.tracer())?;
    if let Err(error) = serve(arguments, tenure, metrics).await {
        // Who lost the Lease must not wait for anything.
        telemetry.abandon();
        return Err(error);
    }
    telemetry.stop().await;
    info!("The operator has ended.");
    Ok(())
}

async fn serve(arguments: Arguments, tenure: Arc<Tenure>, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let image = arguments.gateway_image.clone().ok_or_else(|| anyhow!("--gateway-image is required"))?;
    let settings = Settings {
        image,
        image_pull_policy: arguments.gateway_image_pull_policy.into(),
        operator: arguments.pod_namespace.clone().map(|namespace| OperatorPods {
            namespace,
            labels: arguments.pod_labels.iter().cloned().collect(),
        }),
        common_labels: arguments.common_labels.iter().cloned().collect(),
    };
    let scopes = Scope::of(&arguments.watch_namespaces);
    info!(version = env!("CARGO_PKG_VERSION"), ?settings, ?scopes, "The operator starts.");

    let client = connect(&metrics, &tenure).await.context("no way to reach the API server")?;
    let readiness = Arc::new(Readiness::waiting_for(scopes.iter().map(ToString::to_string)));
    let listener =
        health::bind(arguments.listen).await.with_context(|| format!("--listen {}", arguments.listen))?;
    let health_stop = CancellationToken::new();
    let mut server =
        tokio::spawn(health::serve(listener, readiness.clone(), metrics.clone(), health_stop.clone()));
    let scout =
        AbortOnDropHandle::new(tokio::spawn(scout::run(client.clone(), scopes.clone(), readiness.clone())));

    let mut candidate = Candidate::new(client.clone(), &arguments.lease_name, &arguments.pod_name, tenure);
    info!(identity = candidate.identity(), lease = arguments.lease_name, "The operator waits for the Lease.");
    let about = format!("lease {}", arguments.lease_name);
    let leads = tokio::select! {
        () = candidate.won(|problem| readiness.set(&about, problem)) => true,
        ended = &mut server => return Err(anyhow!("the health endpoints ended by themselves: {ended:?}")),
        signal = terminated() => {
            info!(signal = signal?, "The operator ends before it led.");
            false
        }
    };
    if leads {
        readiness.set(&about, None);
        readiness.leads();
        info!(identity = candidate.identity(), "The operator leads.");
        let limit = usize::from(arguments.max_concurrent_rollouts);
        let lead = lead(client, settings, scopes, limit, readiness, metrics, &mut candidate);
        tokio::select! {
            ended = lead => ended?,
            ended = &mut server => return Err(anyhow!("the health endpoints ended by themselves: {ended:?}")),
        }
    }
    drop(scout);
    health_stop.cancel();
    // Only a client that never ends its request keeps it from stopping.
    let _ = timeout(Duration::from_secs(1), server).await;
    Ok(())
}

/// A client whose every request is counted, and changes something only while the Lease is held.
async fn connect(metrics: &Arc<Metrics>, tenure: &Arc<Tenure>) -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await?;
    // Retries of its own would come after the gate: of a write, minutes after the Lease was lost. Each
    // look, each watch and each renewal has its pause already.
    config.default_retry = false;
    let gate = Gate { tenure: tenure.clone(), metrics: metrics.clone() };
    Ok(ClientBuilder::try_from(config)?.with_layer(&gate).build())
}

/// Works until it is told to stop; then finishes what it began, and hands the Lease over.
async fn lead(
    client: Client,
    settings: Settings,
    scopes: Vec<Scope>,
    max_concurrent_rollouts: usize,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    candidate: &mut Candidate,
) -> anyhow::Result<()> {
    let mut cache = Cache::default();
    let scopes = scopes.into_iter().map(|scope| (scope, cache.scope())).collect();
    let context = Arc::new(Context {
        client,
        settings,
        prober: Prober::new(),
        metrics,
        memory: Memory::default(),
        apis: Apis::default(),
        cache,
        changes: Arc::default(),
        rollouts: Rollouts::new(max_concurrent_rollouts),
    });
    let known = Arc::downgrade(&context);
    context.metrics.look_at(move || known.upgrade().map(|context| Fleet::of(&context)).unwrap_or_default());
    let stop = CancellationToken::new();
    let mut controller = tokio::spawn(controller::run(context, scopes, readiness, stop.clone()));
    tokio::select! {
        lost = candidate.lost() => return Err(gone(&lost)),
        ended = &mut controller => return Err(anyhow!("the controller ended by itself: {ended:?}")),
        signal = terminated() => info!(signal = signal?, "The operator ends, and finishes what was begun."),
    }
    stop.cancel();
    // The Lease is kept until the last write.
    tokio::select! {
        lost = candidate.lost() => return Err(gone(&lost)),
        drained = timeout(DRAIN, &mut controller) => if drained.is_err() {
            warn!(
                seconds = DRAIN.as_secs(),
                "Reconciliations still ran at the deadline; the next operator takes them up."
            );
            controller.abort();
        },
    }
    candidate.release().await;
    Ok(())
}

/// What the process ends with when it does not lead any more: another one may.
fn gone(lost: &Lost) -> anyhow::Error {
    warn!(error = notice::chain(lost), "The Lease is lost; the operator ends at once.");
    anyhow!("the Lease is lost: {lost}")
}

/// The name of the signal that asks the process to end.
async fn terminated() -> anyhow::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}
