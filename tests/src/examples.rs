//! The examples of publishing, each run as its reader would, from its very file; with what `tests/examples/install.sh`,
//! `tests/publisher/install.sh` and the build of the workspace have installed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::{built, cache};

/// For what compiles first, on a machine that is busy.
const DEADLINE: Duration = Duration::from_mins(2);

/// The folder of an example, by its path below `examples`.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// The command by which the publisher in a language is run, but for its arguments.
///
/// # Errors
///
/// When it is not built.
pub fn publisher(language: &str) -> Result<Command> {
    let mut command = match language {
        "python" => Command::new(cache().join("publisher/bin/python")),
        "javascript" => Command::new("node"),
        "go" => Command::new("go"),
        "java" => Command::new("java"),
        "rust" => Command::new(built("sse-publish-example")?),
        script => Command::new(folder("publish/shell").join(script)),
    };
    match language {
        "python" => command.arg("publish.py"),
        "javascript" => command.arg("publish.mjs"),
        "go" => command.args(["run", "."]),
        "java" => command.arg("-cp").arg(cache().join("examples/jnats-2.26.2.jar")).arg("Publish.java"),
        _ => return Ok(command),
    };
    command.current_dir(folder("publish").join(language));
    Ok(command)
}

/// Runs a command to its end, which must be a good one. Returns what it printed.
///
/// # Errors
///
/// When it fails, with what it said.
pub async fn run(mut command: Command) -> Result<String> {
    // A machine's proxies are not on the way to loopback.
    command.env("no_proxy", "127.0.0.1").env("NO_PROXY", "127.0.0.1");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(DEADLINE, output).await.context("it does not end")?;
    let output = output.context("it does not start: run tests/examples/install.sh")?;
    let (printed, said) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} {printed} {said}", output.status);
    Ok(printed)
}
