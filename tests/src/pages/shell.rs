//! A shell for the commands of a page: they run as they stand, but for the values that a reader would put in, for the
//! ports, which may be taken here, and for the images, which here have a tag of their own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Block, TOP};
use crate::cluster::values;
use crate::eventually;
use crate::process::{built, free_port, toolbox};

const PATIENCE: Duration = Duration::from_mins(3);
/// Ports that the pages give to the reader's own machine.
const PORTS: [&str; 4] = ["8080", "9090", "9091", "4222"];
/// Commands without an end, and what they say when they are at it.
const STREAMS: [(&str, &str); 2] = [("curl -N ", ":connected"), ("kubectl sse tail ", "connected to pod")];

/// What is other here than at a reader's.
const PRELUDE: &str = r#"
# NATS' own command is not to be had: what it is asked is noted.
nats() { printf '%s\n' "$@" '' >>"$HERE/nats"; }
# Nothing found is no mistake.
grep() { command grep "$@" || (($? == 1)); }
helm() {
  if [[ $1 =~ ^(upgrade|install)$ && $* != *--reuse-values* ]]; then set -- "$@" "${IMAGES[@]}"; fi
  command helm "$@"
}
# This cluster has no metrics server, and kubectl says so when it knows the rest of the command.
kubectl() {
  if [[ " $* " != *" top "* ]]; then command kubectl "$@"; return; fi
  local said
  said=$(command kubectl "$@" 2>&1) || [[ $said == *"Metrics API not available"* ]] || { echo "$said" >&2; return 1; }
}
if [[ ${WITHIN:-} ]]; then
  cp "$KUBECONFIG" "$HERE/kubeconfig"
  export KUBECONFIG=$HERE/kubeconfig
  kubectl config set-context --current --namespace "$WITHIN" >/dev/null
fi
# A stream goes on behind what comes next.
sees() { until command grep -qsF -- "$1" "$HERE/stream"; do sleep 0.1; done; }
"#;

/// Commands, and what becomes of them.
pub struct Shell {
    script: String,
    /// Where the commands run.
    folder: String,
    environment: Vec<(String, String)>,
    /// For files that they find by their names, and for what they leave.
    pub here: TempDir,
}

/// What commands printed, and what they asked of `nats`.
pub struct Ran {
    pub printed: String,
    pub asked: Vec<Vec<String>>,
}

impl Shell {
    /// The commands of these blocks, one after the other, in the folder of the project.
    ///
    /// # Errors
    ///
    /// When there is no folder for their files, or no free port.
    pub fn of<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Result<Self> {
        let mut script: String = blocks.into_iter().map(Block::commands).collect();
        for port in PORTS {
            let free = free_port()?;
            for (there, here) in [
                (format!("localhost:{port}"), format!("localhost:{free}")),
                (format!(" {port} &\n"), format!(" {free}:{port} &\n")),
                (format!(" {port}:"), format!(" {free}:")),
            ] {
                script = script.replace(&there, &here);
            }
        }
        Ok(Self { script, folder: TOP.to_owned(), environment: Vec::new(), here: TempDir::new()? })
    }

    /// With this in the place of what only stands for something.
    #[must_use]
    pub fn with(mut self, there: &str, here: &str) -> Self {
        self.script = self.script.replace(there, here);
        self
    }

    /// With one more command of the test's own at the end.
    #[must_use]
    pub fn then(mut self, command: &str) -> Self {
        self.script.extend([command, "\n"]);
        self
    }

    /// With a namespace that counts where none is named.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        self.knowing("WITHIN", namespace)
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn knowing(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a file that the commands find by its name: they run in a folder of their own.
    ///
    /// # Errors
    ///
    /// When it can not be written.
    pub fn finding(mut self, name: &str, content: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.here.path().join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        self.folder = self.here.path().display().to_string();
        Ok(self)
    }

    /// With what has no end behind what comes after it, once it is at it.
    #[must_use]
    pub fn streaming(mut self) -> Self {
        let line = |line: &str| match STREAMS.iter().find(|(command, _)| line.starts_with(command)) {
            Some((_, begun)) => format!("{line} >\"$HERE/stream\" 2>&1 &\nsees '{begun}'\n"),
            None => format!("{line}\n"),
        };
        self.script = self.script.lines().map(line).collect();
        self
    }

    /// Runs the commands to their end, which must be a good one.
    ///
    /// # Errors
    ///
    /// When one of them fails, with what it said.
    pub async fn run(self) -> Result<Ran> {
        self.until(None).await
    }

    /// Runs them until they have printed this: what watches has no end.
    ///
    /// # Errors
    ///
    /// When they end before that, or do not get there.
    pub async fn prints(self, expected: &str) -> Result<Ran> {
        self.until(Some(expected)).await
    }

    async fn until(self, expected: Option<&str>) -> Result<Ran> {
        let read = |name: &str| std::fs::read_to_string(self.here.path().join(name)).unwrap_or_default();
        let mut group = Group::of(self.spawn()?)?;
        let over = eventually("the end of the commands", PATIENCE, || {
            let enough = expected.is_some_and(|expected| read("out").contains(expected));
            let ended = group.bash.try_wait();
            async move {
                let ended = ended?;
                ensure!(enough || ended.is_some(), "they go on");
                Ok((enough, ended))
            }
        });
        let over = over.await;
        drop(group);
        let (printed, said) = (read("out"), read("said"));
        let tell = || format!("{}\nprinted {printed:?} and not {expected:?}, and said {said}", self.script);
        let (enough, ended) = over.with_context(tell)?;
        let well = enough || expected.is_none() && ended.is_some_and(|status| status.success());
        ensure!(well, "{ended:?}: {}", tell());
        let calls = read("nats");
        let words = |call: &str| call.lines().map(str::to_owned).collect();
        Ok(Ran { printed: printed.clone(), asked: calls.split_terminator("\n\n").map(words).collect() })
    }

    fn spawn(&self) -> Result<Child> {
        // Their values alone; where there is no cluster there are none.
        let images = values().map_or_else(|_| String::new(), |[set, images, ..]| format!("{set} {images}"));
        let script = format!("{PRELUDE}\nIMAGES=({images})\n{}", self.script);
        let folder =
            |path: &Path| Ok::<_, anyhow::Error>(path.parent().context("a folder")?.display().to_string());
        let tools = folder(&toolbox("kubectl"))?;
        let ours = built("sse-gateway").map_or_else(|_| Ok(String::new()), |path| folder(&path))?;
        let path = format!("{tools}:{ours}:{}", std::env::var("PATH")?);
        // A stream that is left ends by itself, too.
        let limit = PATIENCE.as_secs();
        let curl = format!("silent\nnoproxy = *\nmax-time = {limit}\n");
        std::fs::write(self.here.path().join(".curlrc"), curl)?;
        let file = |name: &str| std::fs::File::create(self.here.path().join(name));
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script])
            .current_dir(&self.folder)
            .env("PATH", path)
            .env("HERE", self.here.path())
            .env("CURL_HOME", self.here.path())
            .env("no_proxy", "*")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file("out")?)
            .stderr(file("said")?)
            .process_group(0)
            .kill_on_drop(true);
        bash.spawn().context("bash")
    }
}

/// A shell with all that it began: ended together.
struct Group {
    bash: Child,
    id: String,
}

impl Group {
    fn of(bash: Child) -> Result<Self> {
        let id = format!("-{}", bash.id().context("it has ended")?);
        Ok(Self { bash, id })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ =
            std::process::Command::new("kill").args(["-KILL", "--", &self.id]).stderr(Stdio::null()).status();
    }
}
