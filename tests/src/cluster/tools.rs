//! Helm and kubectl, and what they are given.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{NATS, RELEASE, SYSTEM};
use crate::jwt::ISSUER;
use crate::process::{merge, toolbox};

/// The chart of this checkout.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sse-gateway");

/// Installs the chart of this checkout, or upgrades to it, with this Helm.
///
/// # Errors
///
/// When Helm fails.
pub async fn install(helm: &str) -> Result<()> {
    install_with(helm, &[]).await
}

/// The same, with more arguments: values of the chart that are other than usual.
///
/// # Errors
///
/// When Helm fails.
pub async fn install_with(helm: &str, more: &[&str]) -> Result<()> {
    install_chart(helm, CHART, more).await
}

/// The same, with another chart.
///
/// # Errors
///
/// When Helm fails.
pub async fn install_chart(helm: &str, chart: &str, more: &[&str]) -> Result<()> {
    let values = values()?;
    let mut arguments =
        vec!["upgrade", "--install", RELEASE, chart, "--namespace", SYSTEM, "--create-namespace"];
    arguments.extend(values.iter().map(String::as_str));
    arguments.extend(["--wait", "--timeout", "3m"]);
    arguments.extend(more);
    run(helm, &arguments).await.map(drop)
}

/// Values for the images that were loaded, and a NATS: arguments of Helm.
///
/// # Errors
///
/// When nobody says which images were loaded.
pub fn values() -> Result<[String; 4]> {
    let tag = std::env::var("SSE_TAG")
        .context("SSE_TAG must name the images' tag, see tests/cluster/prepare.sh")?;
    let images: Vec<String> =
        [("image", "sse-operator"), ("gatewayImage", "sse-gateway"), ("nats.image", "nats")]
            .map(|(value, image)| format!("{value}.repository=localhost/{image},{value}.tag={tag}"))
            .into();
    // Each test leaves a log there, which reserves its bytes.
    let nats = "nats.enabled=true,nats.auth.insecure=true,nats.jetstream.maxFileStore=64Gi";
    Ok(["--set-string".into(), images.join(","), "--set".into(), nats.into()])
}

/// Runs a tool against the cluster, and returns what it printed.
///
/// # Errors
///
/// When it fails, with what it said.
pub async fn run(tool: &str, arguments: &[&str]) -> Result<String> {
    let output = command(tool).args(arguments).output().await.with_context(|| format!("starting {tool}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{tool} {}: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn command(tool: &str) -> Command {
    let built = toolbox(tool);
    let mut command = Command::new(if built.exists() { built } else { PathBuf::from(tool) });
    command.kill_on_drop(true);
    command
}

/// Runs kubectl.
///
/// # Errors
///
/// When it fails, with what it said.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments).await
}

/// Applies a manifest; the error is what `kubectl apply` says to a person.
///
/// # Errors
///
/// When the API server refuses it.
pub async fn apply(manifest: &Value) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), manifest.to_string())?;
    kubectl(&["apply", "-f", &file.path().to_string_lossy()]).await
}

/// A small good gateway in a namespace, with `patch` merged into its spec.
#[must_use]
pub fn manifest(namespace: &str, name: &str, patch: Value) -> Value {
    let mut spec = json!({
        "replicas": 2,
        "nats": {
            "url": NATS,
            // A log for each test: gateways of other tests own others.
            "subjectPrefix": prefix(namespace),
            "stream": {"maxBytes": 16 * 1024 * 1024},
        },
        "auth": {"issuers": [{
            "issuer": ISSUER, "algorithms": ["HS256"], "keySecretRef": {"name": "jwt", "key": "key"},
        }]},
        "drain": {"windowSeconds": 2},
    });
    merge(&mut spec, patch);
    json!({
        "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}

/// The subject prefix of a namespace's gateways.
#[must_use]
pub fn prefix(namespace: &str) -> String {
    namespace.replace('-', "_").chars().take(32).collect()
}
