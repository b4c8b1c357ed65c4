//! `kubectl sse` as a person runs it: the binary of this workspace, with `KUBECONFIG`.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::built;
use crate::secrets;

/// No command takes longer that was not asked to.
const DEADLINE: Duration = Duration::from_mins(2);

/// A command, ready to run; it is killed when dropped.
///
/// # Errors
///
/// When the binary is not built.
pub fn command(namespace: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(built("kubectl-sse")?);
    command.args(["-n", namespace]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs it to its end. Nothing that it prints has a [secret](secrets) in it.
///
/// # Errors
///
/// When it does not end in time.
pub async fn run(namespace: &str, arguments: &[&str]) -> Result<Output> {
    let output = command(namespace, arguments)?.output();
    let output = timeout(DEADLINE, output).await.with_context(|| format!("{arguments:?} does not end"))??;
    secrets::search([("kubectl-sse", &*output.stderr), ("kubectl-sse", &*output.stdout)])?;
    Ok(output)
}

/// What it prints, when all is well.
///
/// # Errors
///
/// When it fails, with what it said.
pub async fn answer(namespace: &str, arguments: &[&str]) -> Result<String> {
    let output = run(namespace, arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {} {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the doctor finds of one gateway: its codes, sorted, and all that it says.
///
/// # Errors
///
/// When it can not look, or its exit code does not fit what it found.
pub async fn diagnosis(namespace: &str, gateway: &str, arguments: &[&str]) -> Result<(Vec<String>, Value)> {
    let output = run(namespace, &[&["doctor", gateway, "-o", "json"], arguments].concat()).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    let all: Value = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
    let findings = all[0]["findings"].as_array().context("findings")?;
    let errors = findings.iter().any(|finding| finding["severity"] == "error");
    ensure!(output.status.code() == Some(i32::from(errors)), "{} {all}", output.status);
    let mut codes: Vec<_> =
        findings.iter().filter_map(|finding| finding["code"].as_str().map(str::to_owned)).collect();
    codes.sort_unstable();
    Ok((codes, all))
}

/// A file that holds a JWT.
///
/// # Errors
///
/// When it can not be written.
pub fn jwt_file(jwt: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(jwt.as_bytes())?;
    Ok(file)
}
