//! The console in a real Chromium: `tests/clients/console.cjs` does with it what a person would, and tells what is seen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::clients::run;
use crate::eventually;

/// For what a browser is told to do, and for what is to be seen then, on a machine that is busy.
const DEADLINE: Duration = Duration::from_mins(2);
const SOON: Duration = Duration::from_mins(1);

/// A browser that shows the console. Ended when dropped.
pub struct Console {
    _process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    dir: TempDir,
}

/// Where the pictures go.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/console")
}

impl Console {
    /// A browser at this address.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn open(url: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        let mut process = run("console.cjs", &dir, &[], "")?;
        let stdin = process.stdin.take().context("a stdin")?;
        let lines = BufReader::new(process.stdout.take().context("a stdout")?).lines();
        let mut console = Self { _process: process, stdin, lines, dir };
        console.act(json!({"do": "open", "url": url})).await?;
        console.size(1440, 900).await?;
        Ok(console)
    }

    async fn ask<T: DeserializeOwned>(&mut self, deed: Value) -> Result<T> {
        self.stdin.write_all(format!("{deed}\n").as_bytes()).await?;
        let line = timeout(DEADLINE, self.lines.next_line()).await;
        let line = line.with_context(|| format!("it does not {deed}: {}", self.said()))??;
        let mut line: Value =
            serde_json::from_str(&line.with_context(|| format!("it has ended: {}", self.said()))?)?;
        ensure!(line["failed"].is_null(), "{deed}: {}", line["failed"]);
        Ok(serde_json::from_value(line["told"].take())?)
    }

    async fn act(&mut self, deed: Value) -> Result<()> {
        self.ask::<Value>(deed).await.map(drop)
    }

    /// # Errors
    ///
    /// When it can not.
    pub async fn size(&mut self, width: u32, height: u32) -> Result<()> {
        self.act(json!({"do": "size", "width": width, "height": height})).await
    }

    /// # Errors
    ///
    /// When there is no such field, or more than one.
    pub async fn fill(&mut self, into: &str, text: &str) -> Result<()> {
        self.act(json!({"do": "fill", "into": into, "text": text})).await
    }

    /// # Errors
    ///
    /// When there is no such element, or it can not be clicked.
    pub async fn click(&mut self, on: &str) -> Result<()> {
        self.act(json!({"do": "click", "on": on})).await
    }

    /// # Errors
    ///
    /// When there is no such choice.
    pub async fn choose(&mut self, on: &str, option: &str) -> Result<()> {
        self.act(json!({"do": "choose", "on": on, "option": option})).await
    }

    /// Presses keys, one after the other.
    ///
    /// # Errors
    ///
    /// When there is no such key.
    pub async fn press(&mut self, keys: &[&str]) -> Result<()> {
        self.act(json!({"do": "press", "keys": keys})).await
    }

    /// Writes where the focus is.
    ///
    /// # Errors
    ///
    /// When it can not.
    pub async fn write(&mut self, text: &str) -> Result<()> {
        self.act(json!({"do": "write", "text": text})).await
    }

    /// What has the focus; fails when that can not be seen.
    ///
    /// # Errors
    ///
    /// When the focus does not show.
    pub async fn focused(&mut self) -> Result<String> {
        let focused: Value = self.ask(json!({"do": "focused"})).await?;
        let name = focused["name"].as_str().context("a name")?;
        ensure!(focused["seen"] == true, "the focus on {name} is not seen");
        Ok(name.to_owned())
    }

    /// The texts of what is visible.
    ///
    /// # Errors
    ///
    /// When it can not.
    pub async fn texts(&mut self, of: &str) -> Result<Vec<String>> {
        self.ask(json!({"do": "texts", "of": of})).await
    }

    /// The text of the one that is visible; empty when none is.
    ///
    /// # Errors
    ///
    /// When it can not.
    pub async fn text(&mut self, of: &str) -> Result<String> {
        Ok(self.texts(of).await?.join("\n"))
    }

    /// # Errors
    ///
    /// When there is no such element.
    pub async fn attribute(&mut self, of: &str, name: &str) -> Result<Option<String>> {
        self.ask(json!({"do": "attribute", "of": of, "name": name})).await
    }

    /// Waits until the visible texts are as wanted.
    ///
    /// # Errors
    ///
    /// When they are not in time.
    pub async fn until(&mut self, of: &str, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        let console = tokio::sync::Mutex::new(self);
        let seen = eventually("what is to be seen", SOON, || async {
            let texts = console.lock().await.texts(of).await?;
            ensure!(wanted(&texts), "{of}: {texts:?}");
            Ok(texts)
        });
        seen.await
    }

    /// Waits until a visible text holds this.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub async fn shows(&mut self, of: &str, text: &str) -> Result<()> {
        self.until(of, |texts| texts.iter().any(|one| one.contains(text))).await.map(drop)
    }

    /// Connects with this JWT.
    ///
    /// # Errors
    ///
    /// When there is no stream in time.
    pub async fn connect(&mut self, jwt: &str, topics: &str) -> Result<()> {
        self.fill("#jwt", jwt).await?;
        self.fill("#topics", topics).await?;
        self.click("#start button").await?;
        let live = self.shows("#state", "Live").await;
        let refusal = self.text("#refusal").await?;
        live.context(refusal)
    }

    /// A state that somebody looks at: a picture of it, light and dark, and nothing in it that shuts somebody out.
    ///
    /// # Errors
    ///
    /// When axe finds something serious in it.
    pub async fn look(&mut self, name: &str) -> Result<()> {
        // The colours alone differ.
        for (scheme, rule) in [("light", None), ("dark", Some("color-contrast"))] {
            self.act(json!({"do": "media", "scheme": scheme})).await?;
            let file = pictures().join(format!("{name}-{scheme}.png"));
            self.act(json!({"do": "shot", "file": file})).await?;
            let found: Vec<String> = self.ask(json!({"do": "axe", "rule": rule})).await?;
            ensure!(found.is_empty(), "{name}, {scheme}: {found:#?}");
        }
        self.act(json!({"do": "media", "scheme": "light"})).await
    }

    /// Everything that outlasts the page, or is in its document.
    ///
    /// # Errors
    ///
    /// When it can not.
    pub async fn kept(&mut self) -> Result<String> {
        self.ask(json!({"do": "kept"})).await
    }

    /// What the page has asked for: the method and the address of each.
    ///
    /// # Errors
    ///
    /// When it can not.
    pub async fn requests(&mut self) -> Result<Vec<String>> {
        self.ask(json!({"do": "requests"})).await
    }

    /// Whatever the browser complained of: the page's policy, errors of its script.
    ///
    /// # Errors
    ///
    /// When there was something.
    pub async fn is_content(&mut self) -> Result<()> {
        let complaints: Vec<String> = self.ask(json!({"do": "complaints"})).await?;
        ensure!(complaints.is_empty(), "{complaints:#?}");
        Ok(())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}
