//! The examples, each run as its reader would, from its very file: the publishers, with what `tests/examples/install.sh`,
//! `tests/publisher/install.sh` and the build of the workspace have installed, and the use cases by `make dev`.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::eventually;
use crate::process::{built, cache, free_port};

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
    let output = output
        .context("it is not installed: run the install.sh of tests/examples, contracts and publisher")?;
    let (printed, said) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} {printed} {said}", output.status);
    Ok(printed)
}

/// What `make dev` serves, with the pages of the use cases. Ended when dropped, with all that it started.
pub struct Dev {
    process: Child,
    /// The address of the pages.
    pub pages: String,
    dir: TempDir,
}

impl Dev {
    /// Starts it, and waits for its pages.
    ///
    /// # Errors
    ///
    /// When they are not served in time.
    pub async fn start() -> Result<Self> {
        let (dir, port) = (TempDir::new()?, free_port()?);
        let said = std::fs::File::create(dir.path().join("said"))?;
        let mut command = std::process::Command::new(folder("../tests/demo/dev.sh"));
        for name in ["DEV_NATS_PORT", "DEV_PORT", "DEV_ADMIN_PORT"] {
            command.env(name, free_port()?.to_string());
        }
        command.env("DEV_PAGES_PORT", port.to_string()).env("DEV_GATEWAY", built("sse-gateway")?);
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let dev = Self { process: command.spawn()?, pages: format!("http://127.0.0.1:{port}"), dir };
        let served = eventually("the pages", DEADLINE, || async {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop)?)
        });
        served.await.with_context(|| dev.said())?;
        Ok(dev)
    }

    /// The publisher of a use case.
    #[must_use]
    pub fn publisher(&self, case: &str) -> Command {
        let mut command = Command::new(folder(case).join("publish.sh"));
        command.env("PAGES", &self.pages);
        command
    }

    /// Everything that it has said.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // As Ctrl-C would: it ends what it started.
        let _ = std::process::Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
