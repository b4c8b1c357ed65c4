//! The operator: makes and keeps the pods of every `SseGateway`, and tells in its status how they are.
//!
//! # Rights
//!
//! All of them are of one namespace where only some are watched; none is on Secrets.
//!
//! | API group | Resource | Verbs | For |
//! | --- | --- | --- | --- |
//! | `ssegateway.io` | `ssegateways` | get, list, watch | what is declared |
//! | `ssegateway.io` | `ssegateways/status` | patch | what was seen |
//! | `ssegateway.io` | `ssegateways/finalizers` | update | `blockOwnerDeletion`, where the API server checks it |
//! | `apps` | `deployments` | get, list, watch, create, patch | the pods |
//! | (core) | `services`, `serviceaccounts` | get, list, watch, create, patch | the other children |
//! | (core) | `configmaps` | get, list, watch, create, patch, delete | configurations, of which old ones go |
//! | (core) | `pods` | list | whom to ask for `/status` |
//! | `events.k8s.io` | `events` | create | news |

mod apply;
mod arguments;
mod controller;
mod health;
mod memory;
mod metrics;
mod notice;
mod observe;
mod plan;
mod probe;
mod reconcile;
mod status;
#[cfg(test)]
mod stub;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command, LogFormat};
use crate::controller::Scope;
use crate::health::Readiness;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::plan::Settings;
use crate::probe::Prober;
use crate::reconcile::Context;

/// How long the reconciliations that run at SIGTERM may take to finish.
const DRAIN: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Crd) => print_crd(),
        None => tokio::runtime::Runtime::new()?.block_on(run(arguments)),
    }
}

fn print_crd() -> anyhow::Result<()> {
    let yaml = serde_saphyr::to_string(&sse_crds::crd()?)?;
    Ok(std::io::stdout().write_all(yaml.as_bytes())?)
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    start_logs(&arguments)?;
    let image = arguments.gateway_image.ok_or_else(|| anyhow!("--gateway-image is required"))?;
    let settings = Settings { image, image_pull_policy: arguments.gateway_image_pull_policy.into() };
    let scopes = Scope::of(&arguments.watch_namespaces);
    info!(version = env!("CARGO_PKG_VERSION"), ?settings, ?scopes, "Starting.");

    let client = Client::try_default().await.context("no way to reach the API server")?;
    let metrics = Arc::<Metrics>::default();
    let readiness = Arc::new(Readiness::waiting_for(scopes.iter().map(ToString::to_string)));
    let context = Arc::new(Context {
        client,
        settings,
        prober: Prober::new(),
        metrics: metrics.clone(),
        memory: Memory::default(),
    });

    let stop = CancellationToken::new();
    let mut controller = tokio::spawn(controller::run(context, scopes, readiness.clone(), stop.clone()));
    let listener =
        health::bind(arguments.listen).await.with_context(|| format!("--listen {}", arguments.listen))?;
    let health_stop = CancellationToken::new();
    let mut server = tokio::spawn(health::serve(listener, readiness, metrics, health_stop.clone()));

    tokio::select! {
        ended = &mut controller => return Err(anyhow!("the controller ended by itself: {ended:?}")),
        ended = &mut server => return Err(anyhow!("the health endpoints ended by themselves: {ended:?}")),
        signal = terminated() => info!(signal = signal?, "Finishing what was begun."),
    }
    stop.cancel();
    if timeout(DRAIN, controller).await.is_err() {
        warn!(
            seconds = DRAIN.as_secs(),
            "Reconciliations still ran at the deadline; the next operator takes them up."
        );
    }
    health_stop.cancel();
    // Only a client that never ends its request keeps it from stopping.
    let _ = timeout(Duration::from_secs(1), server).await;
    info!("Stopped.");
    Ok(())
}

fn start_logs(arguments: &Arguments) -> anyhow::Result<()> {
    // What kube tells of a broken watch or connection, the operator tells with what it is about.
    let directives =
        format!("kube_client=off,kube_runtime=error,kube_runtime::controller=info,{}", arguments.log_level);
    let filter = EnvFilter::try_new(directives).context("--log-level")?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Json => logs.json().init(),
        LogFormat::Text => logs.init(),
    }
    Ok(())
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
