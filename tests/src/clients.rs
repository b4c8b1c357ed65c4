//! SSE clients that are not ours, each a small program of `tests/clients` or of the toolbox, as a process that prints
//! what it sees as lines of JSON. `tests/clients/install.sh` installs what they need.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::PollSender;
use tokio_util::task::AbortOnDropHandle;

use crate::process::{cache, toolbox};

/// For what was published already, and for a client that has to come back first.
const DEADLINE: Duration = Duration::from_secs(40);
/// Events that a client of this process may be ahead of its test.
const WAITING: usize = 64;

/// An event as a client tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Seen {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    pub data: String,
}

/// A client that runs. Ended when dropped.
pub struct Watcher {
    events: BoxStream<'static, Result<Seen>>,
    process: Option<(Child, TempDir)>,
}

/// The interpreter of a program.
fn command(program: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(program);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("cjs" | "mjs") => with(Path::new("node"), &path),
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

/// Starts a program. Its home is this folder, with what it says on stderr.
///
/// # Errors
///
/// When it is not installed.
pub fn run(program: &str, dir: &TempDir, arguments: &[&str], jwt: &str) -> Result<Child> {
    let mut command = command(program);
    // A machine's proxies would count for more than what the client is told.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir.path()).env("TMPDIR", dir.path());
    command.env("NODE_PATH", installed().join("node_modules")).env("JWT", jwt);
    let said = std::fs::File::create(dir.path().join("stderr"))?;
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said).kill_on_drop(true);
    command.spawn().with_context(|| format!("no {program}: run tests/clients/install.sh"))
}

impl Watcher {
    /// Starts a program with the JWT that it is to use.
    ///
    /// # Errors
    ///
    /// When it is not installed.
    pub fn start(program: &str, jwt: &str, arguments: &[&str]) -> Result<Self> {
        let dir = TempDir::new()?;
        let mut child = run(program, &dir, arguments, jwt)?;
        let lines = BufReader::new(child.stdout.take().context("a stdout")?).lines();
        let events = stream::try_unfold(lines, async |mut lines| {
            let Some(line) = lines.next_line().await? else { return Ok(None) };
            Ok(Some((serde_json::from_str(&line).with_context(|| line.clone())?, lines)))
        });
        Ok(Self { events: events.boxed(), process: Some((child, dir)) })
    }

    /// A client that is a part of this process.
    pub fn within(events: impl Stream<Item = Seen> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let running = tokio::spawn(events.map(Ok).forward(PollSender::new(sender)));
        let running = AbortOnDropHandle::new(running);
        let events = stream::unfold((receiver, running), async |(mut receiver, running)| {
            Some((Ok(receiver.recv().await?), (receiver, running)))
        });
        Self { events: events.boxed(), process: None }
    }

    /// What it sees next.
    ///
    /// # Errors
    ///
    /// When it sees nothing in time, or has ended; the error has what it said.
    pub async fn next(&mut self) -> Result<Seen> {
        let next = timeout(DEADLINE, self.events.next()).await;
        let next = next.with_context(|| format!("it sees nothing: {}", self.said()))?;
        next.with_context(|| format!("it has ended: {}", self.said()))?
    }

    /// What it said on stderr.
    #[must_use]
    pub fn said(&self) -> String {
        let said = self.process.as_ref().map(|(_, dir)| std::fs::read_to_string(dir.path().join("stderr")));
        said.and_then(Result::ok).unwrap_or_default()
    }
}
