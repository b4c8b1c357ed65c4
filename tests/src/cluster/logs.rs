//! What pods logged: searched for secrets after each test, kept for one that failed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{SYSTEM, kubectl};
use crate::secrets;

/// Gateways and operators; the server of NATS beside them is not ours.
const OURS: &str = "app.kubernetes.io/name=sse-gateway,app.kubernetes.io/component!=nats";

/// Searches the logs of gateways in this namespace, and those of the operators, for secrets. Those of a pod that is
/// gone can not be had.
pub(super) async fn search(namespace: &str) -> Result<()> {
    for namespace in [namespace, SYSTEM] {
        let logs = logs(namespace, OURS).await.context("the logs to be searched")?;
        secrets::search(logs.iter().map(|(name, text)| (&**name, text.as_bytes())))?;
    }
    Ok(())
}

/// Keeps logs and descriptions of everything that may explain a failure; answers where.
pub(super) async fn keep(namespace: &str) -> PathBuf {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/e2e-logs")).join(namespace);
    let _ = std::fs::create_dir_all(&dir);
    for namespace in [namespace, SYSTEM] {
        let get = ["-n", namespace, "get", "ssegateways,all,events,pvc", "-o", "yaml"];
        let describe = ["-n", namespace, "describe", "pods"];
        for (file, arguments) in [("objects.yaml", &get[..]), ("pods.txt", &describe[..])] {
            let text = kubectl(arguments).await.unwrap_or_else(|error| error.to_string());
            let _ = std::fs::write(dir.join(format!("{namespace}-{file}")), text);
        }
        for (name, text) in logs(namespace, "").await.unwrap_or_default() {
            let _ = std::fs::write(dir.join(format!("{namespace}-{name}.log")), text);
        }
    }
    dir
}

/// By the pod's name: the log of the container that runs, and of the one before it. Of some pods there is none.
async fn logs(namespace: &str, selector: &str) -> Result<Vec<(String, String)>> {
    let pods = kubectl(&["-n", namespace, "get", "pods", "-l", selector, "-o", "name"]).await?;
    let mut logs = Vec::new();
    for pod in pods.lines() {
        for (previous, suffix) in [("--previous=false", ""), ("--previous=true", "-previous")] {
            if let Ok(text) = kubectl(&["-n", namespace, "logs", pod, previous]).await {
                logs.push((format!("{}{suffix}", pod.replace('/', "-")), text));
            }
        }
    }
    Ok(logs)
}
