//! SSE clients that are not ours, each a small program of `tests/clients` or of the toolbox, as a process that prints
//! what it sees as lines of JSON. `tests/clients/install.sh` installs what they need.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::process::{cache, toolbox};

/// For what was published already, and for a client that has to come back first.
const DEADLINE: Duration = Duration::from_secs(40);

/// An event as a client tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Seen {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    pub data: String,
}

/// A client that runs. Killed when dropped.
pub struct Watcher {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Its home, where it may leave what it likes, and what it said on stderr.
    dir: TempDir,
}

/// The interpreter of a program.
fn command(program: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(program);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("cjs") => with(Path::new("node"), &path),
        Some("py") => with(&installed().join("python/bin/python"), &path),
        _ => Command::new(toolbox(program)),
    }
}

fn with(interpreter: &Path, path: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(path);
    command
}

fn installed() -> PathBuf {
    cache().join("clients")
}

impl Watcher {
    /// Starts a program with the JWT that it is to use.
    ///
    /// # Errors
    ///
    /// When it is not installed.
    pub fn start(program: &str, jwt: &str, arguments: &[&str]) -> Result<Self> {
        let dir = TempDir::new()?;
        let mut command = command(program);
        // A machine's proxies would count for more than what the client is told.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", dir.path()).env("TMPDIR", dir.path());
        command.env("NODE_PATH", installed().join("node_modules")).env("JWT", jwt);
        let said = std::fs::File::create(dir.path().join("stderr"))?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said).kill_on_drop(true);
        let installed = || format!("no {program}: run tests/clients/install.sh");
        let mut child = command.spawn().with_context(installed)?;
        let lines = BufReader::new(child.stdout.take().context("a stdout")?).lines();
        Ok(Self { _child: child, lines, dir })
    }

    /// What it sees next.
    ///
    /// # Errors
    ///
    /// When it sees nothing in time, or has ended; the error has what it said.
    pub async fn next(&mut self) -> Result<Seen> {
        let line = timeout(DEADLINE, self.lines.next_line()).await;
        match line.with_context(|| format!("it sees nothing: {}", self.said()))?? {
            Some(line) => serde_json::from_str(&line).with_context(|| line.clone()),
            None => bail!("it has ended: {}", self.said()),
        }
    }

    /// What it said on stderr.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}
