//! History services: the example, as a process, and others that answer as a test wants it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::eventually;
use crate::nats::Nats;
use crate::pages::documented;
use crate::process::{Process, START, cache};

/// Where they are asked.
pub const SUBJECT: &str = "history.get";
/// How a service fails by NATS' own convention.
const ERROR: &str = "Nats-Service-Error";

/// `examples/history/history.py`, by the commands of its page.
pub struct Archive {
    process: Option<Process>,
    dir: TempDir,
    url: String,
}

impl Archive {
    /// Starts it, with an empty archive, as the user of these credentials if there are any.
    ///
    /// # Errors
    ///
    /// When it does not begin to answer.
    pub async fn start(nats: &Nats, credentials: Option<&str>) -> Result<Self> {
        let mut archive = Self { process: None, dir: TempDir::new()?, url: nats.url() };
        if let Some(credentials) = credentials {
            std::fs::write(archive.dir.path().join("creds"), credentials)?;
        }
        archive.restart().await?;
        Ok(archive)
    }

    /// Starts it again, with what it has.
    ///
    /// # Errors
    ///
    /// When it does not begin to answer.
    pub async fn restart(&mut self) -> Result<()> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/history/history.py");
        let python = cache().join("publisher/bin/python").display().to_string();
        let (example, file) = (example.display().to_string(), path("archive.db"));
        let user = format!("NATS_CREDS={}", path("creds"));
        let block = documented(file!())?.remove(0).text;
        let (install, command) = block.trim_end().split_once('\n').context("two lines")?;
        let pinned = include_str!("../publisher/requirements.txt");
        let version = install.split("==").nth(1).context("a version")?.trim_end_matches('\'');
        ensure!(pinned.contains(&format!("nats-py=={version}\n")), "the tests run with another: {install}");
        let named = command.split(' ').filter_map(|word| match word {
            "NATS_CREDS=history.creds" => Path::new(&path("creds")).exists().then_some(user.as_str()),
            "python" => Some(&python),
            "history.py" => Some(&example),
            "nats://nats:4222" => Some(&self.url),
            "archive.db" => Some(&file),
            other => Some(other),
        });
        let arguments: Vec<&str> = named.collect();
        let answers = self.log().matches("Answers on").count();
        self.process = Some(Process::start(Path::new("/usr/bin/env"), &arguments, path("log").into())?);
        let begun = eventually("the example to answer", START, || async {
            ensure!(self.log().matches("Answers on").count() > answers);
            Ok(())
        });
        begun.await.with_context(|| format!("{}; tests/publisher/install.sh installs its Python", self.log()))
    }

    /// Ends it at once, as a crash would.
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

    /// Waits until it has the log up to a sequence.
    ///
    /// # Errors
    ///
    /// When it does not get there.
    pub async fn has(&self, client: &Client, epoch: &str, sequence: u64) -> Result<()> {
        let question = json!({"tenant": "acme", "user": "nobody", "topics": [], "lastEventId": "",
            "before": format!("{epoch}-{}", sequence + 1)});
        let has = eventually("the archive to catch up", Duration::from_secs(20), || async {
            let answer = client.request(SUBJECT, question.to_string().into()).await?;
            let answer: Value = serde_json::from_slice(&answer.payload)?;
            ensure!(answer["events"].is_array(), "{answer}");
            Ok(())
        });
        has.await.with_context(|| self.log())
    }

    /// Everything that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// What a service says to a question.
#[derive(Clone, Debug)]
pub enum Says {
    Reply(Bytes),
    /// An error in a header.
    Error,
    /// Nothing, ever.
    Nothing,
}

impl From<Value> for Says {
    fn from(reply: Value) -> Self {
        Self::Reply(reply.to_string().into())
    }
}

/// A service that is a part of the test. Ended when dropped.
pub struct Service {
    asked: Arc<Mutex<Vec<Value>>>,
    _task: AbortOnDropHandle<()>,
}

impl Service {
    /// Answers each question by itself, beside all others.
    ///
    /// # Errors
    ///
    /// When NATS can not be reached.
    pub async fn start<F>(client: &Client, answer: impl Fn(Value) -> F + Send + 'static) -> Result<Self>
    where
        F: Future<Output = Says> + Send + 'static,
    {
        let mut questions = client.subscribe(SUBJECT).await?;
        client.flush().await?;
        let (client, asked) = (client.clone(), Arc::<Mutex<Vec<Value>>>::default());
        let noted = asked.clone();
        let task = tokio::spawn(async move {
            let mut answers = JoinSet::new();
            while let Some(message) = questions.next().await {
                let question: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
                let (client, says) = (client.clone(), answer(question));
                answers.spawn(async move {
                    let Some(to) = message.reply else { return };
                    let mut headers = HeaderMap::new();
                    let payload = match says.await {
                        Says::Nothing => return,
                        Says::Reply(payload) => payload,
                        Says::Error => {
                            headers.insert(ERROR, "out of order");
                            Bytes::from_static(br#"{"events":[]}"#)
                        }
                    };
                    // Who asked may have gone.
                    let _ = client.publish_with_headers(to, headers, payload).await;
                });
                while answers.try_join_next().is_some() {}
            }
        });
        Ok(Self { asked, _task: AbortOnDropHandle::new(task) })
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
