//! Servers as processes: started on free ports, ended by their id, their logs kept for a failure. What a gateway told
//! until its end has no [secret](secrets) in it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::eventually;
use crate::jwt::{ISSUER, KEY};
pub use crate::nats::Nats;
use crate::secrets;

/// A server has this long to begin.
pub(crate) const START: Duration = Duration::from_mins(1);
/// Below the ports that the kernel gives to outgoing connections: one of those could take the port of
/// a server that is killed for a moment.
const PORTS: Range<u16> = 10_000..32_000;

/// A gateway has this long to show its metrics before it is ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where the toolbox put nats-server and the cluster's binaries.
#[must_use]
pub fn toolbox(tool: &str) -> PathBuf {
    cache().join("bin").join(tool)
}

/// Where everything is that was installed for the tests.
pub(crate) fn cache() -> PathBuf {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let user_cache = || path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
    let cache = path("SSE_CACHE").or_else(|| user_cache().map(|cache| cache.join("sse-gateway")));
    cache.unwrap_or_default()
}

/// A binary of this workspace: of the folder that `SSE_BINARIES` names, or built beside this test.
///
/// # Errors
///
/// When it is not built.
pub fn built(name: &str) -> Result<PathBuf> {
    let beside = || anyhow::Ok(std::env::current_exe()?.ancestors().nth(2).map(Path::to_owned));
    let folder = std::env::var_os("SSE_BINARIES").map(PathBuf::from);
    let path = folder.map_or_else(beside, |folder| Ok(Some(folder)))?.context("a target folder")?.join(name);
    ensure!(path.exists(), "{} is not built: run `make build`", path.display());
    Ok(path)
}

/// A port that was free a moment ago, and that no other test gets: a server that is restarted keeps it.
///
/// # Errors
///
/// When there is none.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = (0..1000).map(|_| rand::random_range(PORTS)).filter(|port| !given.contains(port));
    let port = ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    drop(ports);
    given.extend(port);
    port.context("a free port")
}

/// A running process. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(program: &Path, arguments: &[&str], log: PathBuf) -> Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log })
    }

    pub(crate) fn id(&self) -> Result<u32> {
        self.child.id().context("the process has ended")
    }

    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let id = self.id()?.to_string();
        let status = std::process::Command::new("kill").args([signal, &id]).status()?;
        ensure!(status.success(), "kill {signal} {id}");
        Ok(())
    }
}

/// A gateway as a process. Its log, and its metrics whenever it is ended, are searched for secrets.
pub struct Gateway {
    program: PathBuf,
    process: Option<Process>,
    dir: TempDir,
    name: String,
    /// More arguments of the process.
    arguments: Vec<String>,
    /// Of the declaration: what the next start is told.
    pub generation: u64,
    /// The public port.
    pub address: SocketAddr,
    /// The admin port.
    pub admin: SocketAddr,
}

impl Gateway {
    /// Starts a gateway and waits until it is ready. `patch` is merged into a small good spec.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn start(nats: &Nats, patch: Value) -> Result<Self> {
        let gateway = Self::start_unready(nats, "tests/gateway", patch)?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// The same, with more arguments.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn start_with(nats: &Nats, patch: Value, arguments: &[&str]) -> Result<Self> {
        Self::start_bounded(nats, patch, None, arguments).await
    }

    /// The same, with so many files.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn start_bounded(
        nats: &Nats,
        patch: Value,
        files: Option<u32>,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut gateway = Self::make(built("sse-gateway")?, &nats.url(), "tests/gateway", patch)?;
        if let Some(files) = files {
            let script = gateway.dir.path().join("bounded");
            let program = gateway.program.display();
            std::fs::write(&script, format!("#!/bin/sh\nulimit -n {files}\nexec {program} \"$@\"\n"))?;
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
            gateway.program = script;
        }
        gateway.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        gateway.restart()?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Starts a gateway under a name, without waiting for it.
    ///
    /// # Errors
    ///
    /// When the process does not start.
    pub fn start_unready(nats: &Nats, name: &str, patch: Value) -> Result<Self> {
        Self::start_at(&nats.url(), name, patch)
    }

    /// Starts a gateway that reaches NATS at these URLs, without waiting for it.
    ///
    /// # Errors
    ///
    /// When the process does not start.
    pub fn start_at(urls: &str, name: &str, patch: Value) -> Result<Self> {
        Self::start_program(built("sse-gateway")?, urls, name, patch)
    }

    /// The same, of any build.
    ///
    /// # Errors
    ///
    /// When the process does not start.
    pub fn start_program(program: PathBuf, urls: &str, name: &str, patch: Value) -> Result<Self> {
        let mut gateway = Self::make(program, urls, name, patch)?;
        gateway.restart()?;
        Ok(gateway)
    }

    /// One that is still to be started.
    fn make(program: PathBuf, urls: &str, name: &str, patch: Value) -> Result<Self> {
        let mut spec = json!({
            "nats": {"url": urls},
            "auth": {"issuers": [{
                "issuer": ISSUER, "algorithms": ["HS256"], "keySecretRef": {"name": "jwt", "key": "key"},
            }]},
            "drain": {"windowSeconds": 1},
            "logging": {"level": "debug"},
        });
        merge(&mut spec, patch);
        let dir = TempDir::new()?;
        std::fs::write(dir.path().join("gateway.yaml"), spec.to_string())?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (address, admin) = (local(free_port()?), local(free_port()?));
        let (name, arguments) = (name.into(), Vec::new());
        let gateway = Self { program, process: None, dir, name, arguments, generation: 0, address, admin };
        gateway.write_secret("jwt", "key", KEY)?;
        Ok(gateway)
    }

    /// Starts the process again, as a pod that was killed would be.
    ///
    /// # Errors
    ///
    /// When the process does not start.
    pub fn restart(&mut self) -> Result<()> {
        let path = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        let (address, admin) = (self.address.to_string(), self.admin.to_string());
        let (config, secrets) = (path("gateway.yaml"), path("secrets"));
        let generation = self.generation.to_string();
        let mut arguments = vec![
            "--config",
            &config,
            "--secrets-dir",
            &secrets,
            "--listen",
            &address,
            "--admin-listen",
            &admin,
            "--name",
            &self.name,
            "--generation",
            &generation,
        ];
        arguments.extend(self.arguments.iter().map(String::as_str));
        self.process = Some(Process::start(&self.program, &arguments, self.dir.path().join("log"))?);
        Ok(())
    }

    /// Waits until the gateway is ready.
    ///
    /// # Errors
    ///
    /// When it is not ready in time; the error has its log.
    pub async fn ready(&self) -> Result<()> {
        let ready = eventually("a gateway that is ready", START, || async {
            let (status, body) = self.get("/readyz").await?;
            ensure!(status == 200, "{status} {body}");
            Ok(())
        });
        ready.await.with_context(|| self.log())
    }

    /// A path of the admin port.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let admin = Client { gateway: self.admin.into(), base: String::new(), jwt: String::new() };
        let answer = admin.request(hyper::Method::GET, path, &[]).await?;
        Ok((answer.status.as_u16(), answer.body))
    }

    /// What `/status` says.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/status").await?.1)?)
    }

    #[must_use]
    pub fn client(&self, tenant: &str, user: &str) -> Client {
        Client::new(self.address, tenant, user)
    }

    /// Everything that the process has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The process's id.
    ///
    /// # Errors
    ///
    /// When there is no process.
    pub fn id(&self) -> Result<u32> {
        self.process.as_ref().context("no process")?.id()
    }

    /// Writes a secret, as a mounted volume would change.
    ///
    /// # Errors
    ///
    /// When the file can not be written.
    pub fn write_secret(&self, name: &str, key: &str, content: &str) -> Result<()> {
        secrets::file(content);
        let dir = self.dir.path().join("secrets").join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(std::fs::write(dir.join(key), content)?)
    }

    /// Deletes a secret, as the kubelet empties an optional volume.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn delete_secret(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.dir.path().join("secrets").join(name))?)
    }

    /// Ends the process at once, as a crash would.
    ///
    /// # Errors
    ///
    /// When it can not be killed.
    pub async fn kill(&mut self) -> Result<()> {
        secrets::assert_none([("metrics", &*self.metrics())]);
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Asks the process to end.
    ///
    /// # Errors
    ///
    /// When there is no process.
    pub fn terminate(&self) -> Result<()> {
        secrets::assert_none([("metrics", &*self.metrics())]);
        self.process.as_ref().context("no process")?.signal("-TERM")
    }

    /// Waits until the process has ended, and returns its exit code.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub async fn exit_code(&mut self, within: Duration) -> Result<i32> {
        let Some(process) = self.process.as_mut() else { bail!("no process") };
        let status = tokio::time::timeout(within, process.child.wait()).await;
        let status = status.with_context(|| format!("still running, see {}", process.log.display()))??;
        status.code().context("ended by a signal")
    }

    /// Its metrics now; none of one that has ended or hangs. Can be asked for where nothing can be awaited.
    fn metrics(&self) -> Vec<u8> {
        let mut answer = Vec::new();
        // Somebody else may have the port by then.
        if self.id().is_err() {
            return answer;
        }
        let mut ask = || {
            let mut socket = TcpStream::connect_timeout(&self.admin, LAST_WORDS)?;
            socket.set_read_timeout(Some(LAST_WORDS))?;
            socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
            socket.read_to_end(&mut answer)
        };
        // What came is looked at, even of one that broke off.
        let _ = ask();
        answer
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let metrics = self.metrics();
        self.process = None;
        secrets::assert_none([("metrics", &*metrics), ("log", self.log().as_bytes())]);
    }
}

/// Merges a patch into a value, object by object.
pub fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}
