//! nats-server as a process: one alone, or a cluster of three. Their data outlives a kill.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Config;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::eventually;
use crate::process::{Process, START, free_port, toolbox};
use crate::publisher::Publisher;

/// Accounts of a cluster: only the system's may ask the meta leader to step down.
const ACCOUNTS: &str = r"
accounts {
  APP { jetstream: enabled, users: [{user: app, password: app}] }
  SYS { users: [{user: sys, password: sys}] }
}
system_account: SYS
no_auth_user: app
";

/// A nats-server with JetStream.
pub struct Nats {
    process: Option<Process>,
    dir: TempDir,
    port: u16,
    monitor: u16,
}

impl Nats {
    /// # Errors
    ///
    /// When the server does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// The same, with more in its configuration.
    ///
    /// # Errors
    ///
    /// When the server does not start.
    pub async fn start_with(more: &str) -> Result<Self> {
        let mut nats = Self::prepare(more)?;
        nats.restart().await?;
        Ok(nats)
    }

    /// Starts three servers that are one cluster. They do not tell clients of each other: who connects
    /// through a proxy stays on it.
    ///
    /// # Errors
    ///
    /// When they do not start, or do not find each other.
    pub async fn start_three() -> Result<Vec<Self>> {
        let routes = [free_port()?, free_port()?, free_port()?];
        let all = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let mut servers = Vec::new();
        for (index, port) in routes.into_iter().enumerate() {
            let mut more = ACCOUNTS.to_owned();
            writeln!(more, "server_name: n{index}")?;
            writeln!(
                more,
                "cluster {{ name: three, listen: \"127.0.0.1:{port}\", routes: [{all}], no_advertise: true }}"
            )?;
            servers.push(Self::prepare(&more)?);
        }
        for server in &mut servers {
            server.restart().await?;
        }
        for server in &servers {
            eventually("a server of the cluster that is healthy", START, || server.healthy()).await?;
        }
        Ok(servers)
    }

    fn prepare(more: &str) -> Result<Self> {
        let nats = Self { process: None, dir: TempDir::new()?, port: free_port()?, monitor: free_port()? };
        nats.configure(more)?;
        Ok(nats)
    }

    /// Has its next start be with this in its configuration.
    ///
    /// # Errors
    ///
    /// When it can not be written.
    pub fn configure(&self, more: &str) -> Result<()> {
        let Self { dir, port, monitor, .. } = self;
        let data = dir.path().join("data").display().to_string();
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\njetstream {{ store_dir: {data:?} }}\n{more}"
        );
        Ok(std::fs::write(dir.path().join("nats.conf"), config)?)
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process's id.
    ///
    /// # Errors
    ///
    /// When there is no process.
    pub fn id(&self) -> Result<u32> {
        self.process.as_ref().context("no process")?.id()
    }

    /// Ends the server at once, as a crash would.
    ///
    /// # Errors
    ///
    /// When it can not be killed.
    pub async fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the server again, on the same port with the same data.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        let config = self.dir.path().join("nats.conf");
        let arguments = ["-c", &config.to_string_lossy()];
        let log = self.dir.path().join("nats.log");
        self.process = Some(Process::start(&toolbox("nats-server"), &arguments, log)?);
        let address = self.address();
        let begun = eventually("nats-server", START, || async {
            Ok(tokio::net::TcpStream::connect(address).await.map(drop)?)
        });
        begun.await.with_context(|| self.log())
    }

    /// Whether the server has everything that it should have.
    ///
    /// # Errors
    ///
    /// When it has not yet, or does not answer.
    pub async fn healthy(&self) -> Result<()> {
        let monitor = SocketAddr::from((Ipv4Addr::LOCALHOST, self.monitor));
        let monitor = Client { gateway: monitor.into(), base: String::new(), jwt: String::new() };
        let answer = monitor.request(hyper::Method::GET, "/healthz", &[]).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(())
    }

    /// Everything that the process has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("nats.log")).unwrap_or_default()
    }

    /// # Errors
    ///
    /// When NATS can not be reached.
    pub async fn publisher(&self) -> Result<Publisher> {
        Publisher::connect(&self.url()).await
    }
}

/// How the log of a gateway is configured, and the same but that what it stores and acknowledges is not republished, and
/// so is lost from the feed.
///
/// # Errors
///
/// When there is no log.
pub async fn heard_and_mute(jetstream: &Context) -> Result<(Config, Config)> {
    let heard = jetstream.get_stream("SSE_sse").await?.cached_info().config.clone();
    let mute = Config { republish: None, ..heard.clone() };
    Ok((heard, mute))
}

/// Has the leader of a stream step down.
///
/// # Errors
///
/// When there is none now, or it refuses.
pub async fn step_down(client: &async_nats::Client, stream: &str) -> Result<()> {
    ask(client, &format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}")).await
}

/// Has the cluster's meta leader step down.
///
/// # Errors
///
/// When there is none now, or it refuses.
pub async fn step_down_meta(servers: &[Nats]) -> Result<()> {
    let options = async_nats::ConnectOptions::with_user_and_password("sys".into(), "sys".into());
    let urls: Vec<String> = servers.iter().map(Nats::url).collect();
    ask(&options.connect(urls).await?, "$JS.API.META.LEADER.STEPDOWN").await
}

async fn ask(client: &async_nats::Client, subject: &str) -> Result<()> {
    let answer = client.request(subject.to_owned(), "".into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(answer["success"] == true, "{subject}: {answer}");
    Ok(())
}
