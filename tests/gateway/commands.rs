//! The lines with curl in the documentation: each is run as it stands, but for the host, against a gateway.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use sse_tests::jwt::jwt_with;
use sse_tests::process::{Gateway, Nats};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
pub const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// How the documentation calls a gateway.
const HOSTS: [&str; 2] = ["https://live.example.com", "http://localhost:8080"];

/// All pages below a folder.
pub fn pages(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.ends_with("node_modules") {
            continue;
        }
        if path.is_dir() {
            pages(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

/// The commands of a page that ask a gateway by curl, block by block. The way to it, a port-forward, is the test's own.
fn blocks(page: &str) -> Vec<String> {
    let fenced = page.split("```").skip(1).step_by(2);
    let shell = fenced.filter_map(|block| block.strip_prefix("sh\n"));
    let asking =
        shell.filter(|block| block.contains("curl") && HOSTS.iter().any(|host| block.contains(host)));
    let ours = asking.map(|block| {
        let lines = block.lines().filter(|line| !line.trim_start().starts_with("kubectl "));
        lines.collect::<Vec<_>>().join("\n")
    });
    ours.collect()
}

/// Runs commands until they have printed this.
async fn prints(commands: &str, expected: &str, home: &Path, jwt: &str) -> Result<()> {
    let mut shell = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .env("CURL_HOME", home)
        .env("JWT", jwt)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut out = shell.stdout.take().context("its output")?;
    let mut printed = String::new();
    let read = async {
        while !printed.contains(expected) {
            let mut chunk = [0; 1024];
            let length = out.read(&mut chunk).await?;
            ensure!(length > 0, "it ended");
            printed.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
        Ok(())
    };
    let read = timeout(PATIENCE, read).await.map_err(anyhow::Error::from).flatten();
    read.with_context(|| format!("{commands}\ndid not print {expected:?} but {printed:?}"))
}

#[tokio::test]
async fn each_line_with_curl_in_the_documentation_works() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({"publish": {"enabled": true}})).await?;
    let jwt = jwt_with("acme", "alice", json!({"topics": ["orders.>"], "publish": [">"]}));
    let home = tempfile::tempdir()?;
    // A stream that is left ends by itself, too.
    let limit = 2 * PATIENCE.as_secs();
    std::fs::write(home.path().join(".curlrc"), format!("silent\nnoproxy = *\nmax-time = {limit}\n"))?;
    let mut found = vec![Path::new(REPOSITORY).join("README.md")];
    pages(&Path::new(REPOSITORY).join("docs"), &mut found)?;
    let mut all = Vec::new();
    for page in found {
        all.extend(blocks(&std::fs::read_to_string(page)?));
    }
    ensure!(all.len() >= 5, "{all:#?}");
    let here = format!("http://{}", gateway.address);
    let runs = all.iter().map(|block| {
        let commands = HOSTS.iter().fold(block.clone(), |text, host| text.replace(host, &here));
        let expected = if block.contains("/stream?") { ":connected\n" } else { r#"{"id":""# };
        let (home, jwt) = (home.path(), &jwt);
        async move { prints(&commands, expected, home, jwt).await }
    });
    try_join_all(runs).await.map(drop)
}
