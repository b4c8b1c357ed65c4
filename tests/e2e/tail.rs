//! The other commands of `kubectl sse`: `tail` across a pod that is killed, `publish`, `status`, `drain`.

use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join;
use serde_json::{Value, json};
use sse_tests::cluster::{Namespace, in_namespace, kubectl, prefix};
use sse_tests::jwt::{jwt, jwt_with};
use sse_tests::kubectl_sse::{answer, command, jwt_file, run};
use sse_tests::outside::outside;
use sse_tests::{eventually, secrets};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::{interval, timeout};

/// Pace of the publisher: the kill must find it at work.
const PACE: Duration = Duration::from_millis(5);
/// A tail has this long for what has to come.
const SOON: Duration = Duration::from_mins(1);

/// A running `kubectl sse tail`.
struct Tail {
    _process: Child,
    events: Lines<BufReader<ChildStdout>>,
    notes: Lines<BufReader<ChildStderr>>,
}

impl Tail {
    fn start(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        let arguments = [&["tail", "live", "-o", "json"], arguments].concat();
        let mut command = command(&namespace.name, &arguments)?;
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let events = BufReader::new(process.stdout.take().context("a pipe")?).lines();
        let notes = BufReader::new(process.stderr.take().context("a pipe")?).lines();
        Ok(Self { _process: process, events, notes })
    }

    /// The pod that it hangs on next.
    async fn pod(&mut self) -> Result<String> {
        loop {
            let note =
                timeout(SOON, self.notes.next_line()).await.context("no note")??.context("it ended")?;
            secrets::search([("kubectl-sse", note.as_bytes())])?;
            if let Some(rest) = note.strip_prefix("connected to pod ") {
                return Ok(rest.split(',').next().unwrap_or(rest).to_owned());
            }
        }
    }

    async fn event(&mut self) -> Result<Option<Value>> {
        let line = timeout(SOON, self.events.next_line()).await.context("no event")??;
        line.map(|line| serde_json::from_str(&line).context(line)).transpose()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_sees_every_event_once_across_a_killed_pod() -> Result<()> {
    in_namespace("tail", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let file = jwt_file(&jwt("acme", "alice"))?;
        let command = format!("cat {}", file.path().display());
        let mut tail = Tail::start(namespace, &["--jwt-command", &command])?;
        let first = tail.pod().await?;
        let over = AtomicBool::new(false);
        let publish = async {
            let (outside, mut pace, mut count) = (outside().await?, interval(PACE), 0_u32);
            let subject = format!("{}.acme.user.alice", prefix(&namespace.name));
            let headers = [("Sse-Event", "count")];
            while !over.load(Relaxed) {
                pace.tick().await;
                outside.publisher.publish_with(&subject, &headers, &count.to_string()).await?;
                count += 1;
            }
            let last = [("Sse-Event", "count"), ("Sse-Complete", "true")];
            outside.publisher.publish_with(&subject, &last, &count.to_string()).await?;
            Ok(count)
        };
        let mut seen = Vec::new();
        let disturb = async {
            while seen.len() < 20 {
                seen.push(tail.event().await?.context("an event")?);
            }
            let kill = ["-n", &namespace.name, "delete", "pod", &first, "--grace-period=0", "--force"];
            kubectl(&kill).await?;
            let other = tail.pod().await?;
            ensure!(other != first, "{other}");
            over.store(true, Relaxed);
            // The event that completes the stream ends the command.
            while let Some(event) = tail.event().await? {
                seen.push(event);
            }
            anyhow::Ok(())
        };
        let (last, ()) = try_join(publish, disturb).await?;
        let data: Vec<_> = seen.iter().map(|event| event["data"].as_str().unwrap_or_default()).collect();
        let expected: Vec<_> = (0..=last).map(|number| number.to_string()).collect();
        let wrong = data.iter().zip(&expected).find(|(seen, published)| seen != published);
        ensure!(data == expected, "{wrong:?}: {} of {} events", data.len(), expected.len());
        ensure!(seen.iter().all(|event| event["event"] == "count" && event["id"].is_string()), "{seen:?}");
        let end = seen.last().context("an event")?["id"].as_str().unwrap_or_default();
        ensure!(end.ends_with("-end"), "{end}");
        // Who comes back to an end is told so.
        let path = file.path().to_string_lossy();
        answer(&namespace.name, &["tail", "live", "--jwt-file", &path, "--last-event-id", end])
            .await
            .map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_tailed_and_a_drained_pod_lets_its_connections_go() -> Result<()> {
    in_namespace("shell", async |namespace: &Namespace| {
        namespace.gateway("live", json!({"publish": {"enabled": true}})).await?;
        let file = jwt_file(&jwt_with("acme", "alice", json!({"publish": ["user.*"]})))?;
        let path = file.path().to_string_lossy().into_owned();
        let mut tail = Tail::start(namespace, &["--jwt-file", &path])?;
        let pod = tail.pod().await?;

        let publish = ["publish", "live", "--user", "alice", "--event", "lunch", "--data", "at noon"];
        let id = answer(&namespace.name, &[&publish[..], &["--jwt-file", &path]].concat()).await?;
        let event = tail.event().await?.context("an event")?;
        ensure!(event == json!({"id": id.trim(), "event": "lunch", "data": "at noon"}), "{id} {event}");
        let more = ["publish", "live", "--all", "--data", "x", "--jwt-file", &path];
        let refused = run(&namespace.name, &more).await?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(2) && said.contains("403"), "{refused:?}");
        // Without a right to publish over HTTP there is the line for NATS.
        let dry =
            ["publish", "live", "--user", "carol", "--tenant", "acme", "--data", "at noon", "--dry-run"];
        let line = answer(&namespace.name, &dry).await?;
        let subject = format!(" pub {}.acme.user.carol 'at noon'", prefix(&namespace.name));
        ensure!(line.trim_end().ends_with(&subject), "{line}");

        let tree = answer(&namespace.name, &["status"]).await?;
        let parts = [
            &*namespace.name,
            "Ready",
            "generation  1, rolled out",
            &pod,
            "NATS connected, lag 0",
            "stream SSE_",
        ];
        ensure!(parts.iter().all(|part| tree.contains(part)), "{tree}");
        eventually("the connection to be counted", SOON, || async {
            let all: Value =
                serde_json::from_str(&answer(&namespace.name, &["status", "live", "-o", "json"]).await?)?;
            ensure!(all[0]["connections"] == 1 && all[0]["rolledOut"] == true, "{all}");
            Ok(())
        })
        .await?;

        let drained = answer(&namespace.name, &["drain", &pod]).await?;
        let told = ["evicted, with 1 connections", "gone after", "1 connections (+1"];
        ensure!(told.iter().all(|part| drained.contains(part)), "{drained}");
        ensure!(tail.pod().await? != pod, "{drained}");
        answer(&namespace.name, &[&publish[..], &["--jwt-file", &path]].concat()).await?;
        ensure!(tail.event().await?.context("an event")?["event"] == "lunch");
        Ok(())
    })
    .await
}
