//! What reads the contracts for machines, each a program of others: schemathesis and the parser of `AsyncAPI`, which
//! `tests/contracts/install.sh` installs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::examples::run;
use crate::process::cache;

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Has schemathesis ask a gateway whatever docs/openapi.yaml allows or not, so many times for each operation, always the
/// same. Returns what it printed.
///
/// # Errors
///
/// When it finds anything, with what it found.
pub async fn schemathesis(gateway: SocketAddr, jwt: &str, examples: u32) -> Result<String> {
    let dir = TempDir::new()?;
    let mut command = Command::new(cache().join("contracts/python/bin/schemathesis"));
    command.arg("--config-file").arg(file("tests/contracts/schemathesis.toml")).arg("run");
    command.arg(file("docs/openapi.yaml")).args(["--url", &format!("http://{gateway}/api/v1/sse")]);
    command.args(["--header", &format!("Authorization: Bearer {jwt}"), "--checks", "all", "--seed", "1"]);
    command.args(["--max-examples", &examples.to_string(), "--continue-on-failure", "--no-color"]);
    command.env("SCHEMATHESIS_HOOKS", file("tests/contracts/hooks.py")).current_dir(dir.path());
    run(command).await
}

/// Each example of docs/asyncapi.yaml, as the parser has it, which accepts the document: with the operation, its address,
/// and as which event it arrives.
///
/// # Errors
///
/// When the parser finds anything wrong, with what it found.
pub async fn asyncapi() -> Result<Vec<Value>> {
    let mut command = Command::new("node");
    command.arg(file("tests/contracts/asyncapi.cjs")).arg(file("docs/asyncapi.yaml"));
    command.env("NODE_PATH", cache().join("contracts/node_modules"));
    let printed = run(command).await?;
    printed.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
