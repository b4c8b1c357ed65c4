//! The examples of publishing reach a stream as they say: one world for each, since they name the same event. And what
//! the use cases publish is seen on their pages.

mod pages;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::client::Stream;
use sse_tests::examples::{folder, publisher, run};
use sse_tests::process::{Gateway, Nats};
use tempfile::TempDir;

use crate::publish;

/// Whom they publish to, and the same as a subject has it.
const USER: &str = "alice@example.com";
const SUBJECT: &str = "sse.acme.user.alice%40example%2Ecom";
const ORDER: &str = r#"{"orderId":42}"#;
/// Type and data of what they publish: raw, with headers, as a `CloudEvent`.
const EVENTS: [(&str, &str); 3] = [("message", ORDER), ("order.shipped", ORDER), ("order.paid", ORDER)];
/// An example has fewer.
const LINES: usize = 20;

struct World {
    nats: Nats,
    gateway: Gateway,
    stream: Stream,
}

impl World {
    async fn start() -> Result<Self> {
        let nats = Nats::start().await?;
        let gateway = publish::gateway(&nats, json!({})).await?;
        let stream = gateway.client("acme", USER).open("").await?;
        Ok(Self { nats, gateway, stream })
    }

    /// The stream shows the three events, with the places that they have in the log.
    async fn shows(mut self) -> Result<()> {
        let (epoch, _) = self.stream.position().await?.split_once('-').map(own).context("a place")?;
        let log = self.nats.publisher().await?.jetstream.get_stream("SSE_sse").await?;
        for (kind, data) in EVENTS {
            let event = self.stream.event().await?;
            ensure!((event.name.as_str(), event.data.as_str()) == (kind, data), "{event:?}");
            let sequence = event.id.strip_prefix(&format!("{epoch}-")).context("an id of this log")?;
            let stored = log.get_raw_message(sequence.parse()?).await?;
            ensure!(stored.subject.as_str() == SUBJECT, "{stored:?}");
            let named = if kind == "message" { String::new() } else { format!("event: {kind}\n") };
            let frame = format!("\n\nid: {}\n{named}data: {data}\n\n", event.id);
            ensure!(String::from_utf8_lossy(&self.stream.raw).contains(&frame), "{frame:?}");
        }
        ensure!(self.gateway.status().await?["refusedEvents"] == 0, "one was refused");
        Ok(())
    }
}

fn own((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

/// Runs the publisher in a language, over NATS.
async fn reaches(language: &str) -> Result<()> {
    let world = World::start().await?;
    let mut command = publisher(language)?;
    command.arg(world.nats.url());
    run(command).await?;
    world.shows().await
}

#[tokio::test]
async fn the_publisher_in_python_reaches_its_user() -> Result<()> {
    reaches("python").await
}

#[tokio::test]
async fn the_publisher_in_javascript_reaches_its_user() -> Result<()> {
    reaches("javascript").await
}

#[tokio::test]
async fn the_publisher_in_go_reaches_its_user() -> Result<()> {
    reaches("go").await
}

#[tokio::test]
async fn the_publisher_in_java_reaches_its_user() -> Result<()> {
    reaches("java").await
}

#[tokio::test]
async fn the_publisher_in_rust_reaches_its_user() -> Result<()> {
    reaches("rust").await
}

#[tokio::test]
async fn the_publisher_by_curl_reaches_its_user() -> Result<()> {
    let world = World::start().await?;
    let shop = publish::service(&world.gateway, "acme", &json!("user.*"));
    let mut command = publisher("curl.sh")?;
    command.env("JWT", shop.jwt).arg(format!("http://{}{}", world.gateway.address, publish::EVENTS));
    run(command).await?;
    world.shows().await
}

/// The CLI itself is not to be had here: what it is given is published as its documentation has it.
#[tokio::test]
async fn what_the_nats_cli_is_given_reaches_its_user() -> Result<()> {
    let (world, dir) = (World::start().await?, TempDir::new()?);
    let (said, path) = (dir.path().join("said"), std::env::var("PATH")?);
    std::fs::write(dir.path().join("nats"), "#!/bin/sh\nprintf '%s\\n' \"$@\" end >>\"$SAID\"\n")?;
    let mut executable = tokio::process::Command::new("chmod");
    executable.arg("+x").arg(dir.path().join("nats"));
    run(executable).await?;
    let mut command = publisher("nats.sh")?;
    command
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .env("SAID", &said)
        .arg("nats://there:4222");
    run(command).await?;
    let said = std::fs::read_to_string(said)?;
    let jetstream = world.nats.publisher().await?;
    for call in said.trim_end_matches("end\n").split("\nend\n") {
        let words: Vec<&str> = call.lines().collect();
        let ["--server", "nats://there:4222", "pub", "--jetstream", subject, data, headers @ ..] = &words[..]
        else {
            anyhow::bail!("{words:?}");
        };
        let headers: Vec<_> = headers.chunks(2).filter_map(|pair| pair[1].split_once(':')).collect();
        jetstream.publish_with(subject, &headers, data).await?;
    }
    world.shows().await
}

#[test]
fn each_publisher_is_short_enough_to_be_read_at_a_glance() -> Result<()> {
    let files =
        ["python/publish.py", "javascript/publish.mjs", "go/publish.go", "go/token.go", "java/Publish.java"];
    let others = ["rust/src/main.rs", "shell/curl.sh", "shell/nats.sh", "dotnet/Program.cs"];
    for file in files.into_iter().chain(others) {
        let text = std::fs::read_to_string(folder("publish").join(file)).with_context(|| file.to_owned())?;
        ensure!(text.lines().count() < LINES, "{file} has {} lines", text.lines().count());
    }
    Ok(())
}
