//! Publishes as any service would: into the stream, acknowledged; in Rust, or by the documented program in Python.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::Context;
use async_nats::{Client, HeaderMap};
use tokio::process::Command;

use crate::collector::Collector;
use crate::nats::Nats;
use crate::process::cache;

/// For a process of Python.
const DEADLINE: Duration = Duration::from_secs(30);
/// Wait before another try to reach NATS.
const RECONNECT: Duration = Duration::from_millis(100);

/// A connection to NATS for tests.
#[derive(Clone)]
pub struct Publisher {
    pub client: Client,
    pub jetstream: Context,
}

impl Publisher {
    /// Connects to one of these servers, comma-separated, and again to any of them when it is gone.
    ///
    /// # Errors
    ///
    /// When NATS can not be reached.
    pub async fn connect(urls: &str) -> Result<Self> {
        Self::connect_with(urls, async_nats::ConnectOptions::new()).await
    }

    /// The same, as the user of a credentials file.
    ///
    /// # Errors
    ///
    /// When NATS can not be reached, or refuses the user.
    pub async fn with_credentials(urls: &str, credentials: &str) -> Result<Self> {
        // Inboxes of their own, as the documented permissions have it.
        let options = async_nats::ConnectOptions::new().custom_inbox_prefix("_INBOX.publisher");
        Self::connect_with(urls, options.credentials(credentials)?).await
    }

    /// The same, over TLS, by a server that the authority in this file vouches for.
    ///
    /// # Errors
    ///
    /// When NATS can not be reached, or refuses the user.
    pub async fn over_tls(urls: &str, credentials: &str, authority: &Path) -> Result<Self> {
        let options = async_nats::ConnectOptions::new().custom_inbox_prefix("_INBOX.publisher");
        let options = options.require_tls(true).add_root_certificates(authority.to_owned());
        Self::connect_with(urls, options.credentials(credentials)?).await
    }

    async fn connect_with(urls: &str, options: async_nats::ConnectOptions) -> Result<Self> {
        let options = options.retry_on_initial_connect().reconnect_delay_callback(|_| RECONNECT);
        let urls: Vec<&str> = urls.split(',').collect();
        let client = options.connect(urls).await.context("connecting to NATS")?;
        let mut jetstream = async_nats::jetstream::new(client.clone());
        jetstream.set_timeout(Duration::from_secs(2));
        Ok(Self { client, jetstream })
    }

    /// Publishes, and returns the sequence that the stream acknowledged.
    ///
    /// # Errors
    ///
    /// When the stream does not acknowledge.
    pub async fn publish(&self, subject: &str, data: &str) -> Result<u64> {
        self.publish_with(subject, &[], data).await
    }

    /// Publishes with headers.
    ///
    /// # Errors
    ///
    /// When the stream does not acknowledge.
    pub async fn publish_with(&self, subject: &str, headers: &[(&str, &str)], data: &str) -> Result<u64> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let ack =
            self.jetstream.publish_with_headers(subject.to_owned(), map, data.to_owned().into()).await?;
        Ok(ack.await?.sequence)
    }

    /// Publishes, again and again until it is acknowledged. The same message id makes it one event.
    ///
    /// # Errors
    ///
    /// When the stream does not acknowledge within a minute.
    pub async fn insist(&self, subject: &str, id: &str, data: &str) -> Result<u64> {
        self.insist_with(subject, &[("Nats-Msg-Id", id)], data).await
    }

    /// Publishes with headers, of which one is a message id, again and again until it is acknowledged.
    ///
    /// # Errors
    ///
    /// When the stream does not acknowledge within a minute.
    pub async fn insist_with(&self, subject: &str, headers: &[(&str, &str)], data: &str) -> Result<u64> {
        crate::eventually("a publish", Duration::from_mins(1), || async {
            self.publish_with(subject, headers, data).await
        })
        .await
    }
}

/// Publishes by `tests/publisher/publish.py`, which traces it with an SDK of its own and exports the span to a
/// collector. Returns the sequence.
///
/// # Errors
///
/// When the program fails, with what it said.
pub async fn publish_traced(nats: &Nats, collector: &Collector, subject: &str, data: &str) -> Result<u64> {
    let (dir, exporter) = (tempfile::tempdir()?, collector.telemetry("http"));
    let authority = dir.path().join("ca.pem");
    let mut command = Command::new(cache().join("publisher/bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/publisher/publish.py")).args([
        &nats.url(),
        subject,
        data,
    ]);
    // A machine's proxies and authorities would count for more than what the exporter is told.
    command.env_clear().env("OTEL_SERVICE_NAME", "shop");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", exporter["otlpEndpoint"].as_str().context("an endpoint")?);
    if !collector.authority.is_empty() {
        std::fs::write(&authority, &collector.authority)?;
        command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority);
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, output).await.context("publish.py does not end")?;
    let output = output.context("no Python: run tests/publisher/install.sh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A span that could not be exported is a line there, and no failure.
    ensure!(output.status.success() && said.is_empty(), "publish.py: {said}");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
