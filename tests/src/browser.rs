//! Our client's built bundle, in the tabs of a real Chromium: `tests/clients/tabs.cjs` opens, hides, freezes and closes
//! them as it is told, and what they tell is kept, tab by tab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::clients::{Seen, run};
use crate::process::free_port;

/// For what a browser is told to do, on a machine that is busy.
const DEADLINE: Duration = Duration::from_mins(2);

type Told = Arc<Mutex<BTreeMap<u64, Vec<Value>>>>;

/// A browser. Ended when dropped.
pub struct Browser {
    /// Of its pages.
    pub origin: String,
    _process: Child,
    stdin: ChildStdin,
    done: mpsc::Receiver<(u64, String)>,
    told: Told,
    number: u64,
    dir: TempDir,
    _reading: AbortOnDropHandle<Result<()>>,
}

/// Where `tests/clients/js.sh` has built the client.
#[must_use]
pub fn bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/js/dist")
}

impl Browser {
    /// A browser whose pages will be at this port.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start() -> Result<Self> {
        let (dir, port) = (TempDir::new()?, free_port()?.to_string());
        let bundle = bundle();
        ensure!(bundle.join("index.js").exists(), "the client is not built: run tests/clients/js.sh");
        let mut process = run("tabs.cjs", &dir, &[&port, &bundle.to_string_lossy()], "")?;
        let stdin = process.stdin.take().context("a stdin")?;
        let lines = BufReader::new(process.stdout.take().context("a stdout")?).lines();
        let (sender, done) = mpsc::channel(1);
        let told = Told::default();
        let reading = AbortOnDropHandle::new(tokio::spawn(read(lines, sender, told.clone())));
        let origin = format!("http://127.0.0.1:{port}");
        Ok(Self { origin, _process: process, stdin, done, told, number: 0, dir, _reading: reading })
    }

    /// Has it do something, and waits until that is done.
    ///
    /// # Errors
    ///
    /// When it can not.
    pub async fn act(&mut self, mut deed: Value) -> Result<()> {
        self.number += 1;
        deed["number"] = self.number.into();
        self.stdin.write_all(format!("{deed}\n").as_bytes()).await?;
        let done = timeout(DEADLINE, self.done.recv()).await;
        let done = done.with_context(|| format!("it does not {}: {}", deed["do"], self.said()))?;
        let (number, failed) = done.with_context(|| format!("it has ended: {}", self.said()))?;
        ensure!(number == self.number && failed.is_empty(), "{}: {failed}", deed["do"]);
        Ok(())
    }

    /// Opens a tab, which is shown then, with this script of a module.
    ///
    /// # Errors
    ///
    /// When it can not.
    pub async fn open(&mut self, tab: u64, script: &str) -> Result<()> {
        self.act(json!({"do": "open", "tab": tab, "script": script})).await
    }

    /// Everything that a tab has told.
    #[must_use]
    pub fn told(&self, tab: u64) -> Vec<Value> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&tab).cloned().unwrap_or_default()
    }

    /// The events that a tab has seen.
    #[must_use]
    pub fn seen(&self, tab: u64) -> Vec<Seen> {
        self.told(tab).into_iter().filter_map(|told| serde_json::from_value(told).ok()).collect()
    }

    /// The states that a tab went through, each with the status that led to it.
    #[must_use]
    pub fn states(&self, tab: u64) -> Vec<String> {
        let state = |told: &Value| Some(format!("{}{}", told["state"].as_str()?, told["status"].as_str()?));
        self.told(tab).iter().filter_map(state).collect()
    }

    /// What it said on stderr.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

async fn read(
    mut lines: Lines<BufReader<ChildStdout>>,
    done: mpsc::Sender<(u64, String)>,
    told: Told,
) -> Result<()> {
    while let Some(line) = lines.next_line().await? {
        let mut line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        if let Some(number) = line["done"].as_u64() {
            done.send((number, line["failed"].as_str().unwrap_or_default().to_owned())).await?;
        } else if let Some(tab) = line["tab"].as_u64() {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.entry(tab).or_default().push(line["told"].take());
        }
    }
    Ok(())
}
