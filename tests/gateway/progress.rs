//! A job that tells how far it is, from its start to the last event, as docs/progress.md has it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use sse_tests::client::{Client, Stream};
use sse_tests::clients::Watcher;
use sse_tests::process::{Gateway, Nats};

/// What a job tells.
fn progress(percentage: u8, status: &str) -> Value {
    json!({"percentage": percentage, "status": status, "isComplete": percentage == 100,
        "downloadUrl": (percentage == 100).then_some("/reports/7.pdf")})
}

/// Tells it over HTTP; the event's id.
async fn tell(worker: &Client, progress: &Value) -> Result<String> {
    let complete = progress["isComplete"] == true;
    let headers = [("sse-event", "progress"), ("sse-complete", if complete { "true" } else { "false" })];
    let answer = worker.post("topic.job.7", &headers, progress.to_string()).await?;
    ensure!(answer.status == 202, "{answer:?}");
    let answer: Value = serde_json::from_str(&answer.body)?;
    Ok(answer["id"].as_str().context("an id")?.to_owned())
}

/// Up to its end: what came, each as an event of its type.
async fn told(stream: &mut Stream) -> Result<Vec<Value>> {
    let mut told = Vec::new();
    while let Some(event) = stream.next(Duration::from_secs(10)).await? {
        ensure!(event.name == "progress", "{event:?}");
        told.push(serde_json::from_str(&event.data)?);
    }
    ensure!(stream.ended_cleanly == Some(true), "cut off");
    Ok(told)
}

#[tokio::test]
async fn a_job_is_followed_from_wherever_one_joins_to_its_end_and_nobody_comes_back_for_more() -> Result<()> {
    let nats = Nats::start().await?;
    let spec = json!({"publish": {"enabled": true}, "stream": {"retryMs": 100},
        "auth": {"modes": ["Token", "Bearer", "Cookie"]}});
    let gateway = Gateway::start(&nats, spec).await?;
    let anybody = gateway.client("acme", "alice");
    let worker = anybody.with_claims("acme", "zoe-reports", json!({"publish": ["topic.job.>"]}));
    // What the start of a job answers with, beside the job's id.
    let first = tell(&worker, &progress(0, "queued")).await?;
    let early = progress(40, "collecting");
    tell(&worker, &early).await?;

    // Who may not see the job does not; nor is anything else that she watches ended by it.
    let owner = anybody.with_claims("acme", "alice", json!({"topics": ["job.7"]}));
    let join = format!("&topics=job.7&lastEventId={first}");
    ensure!(anybody.open_with(&join).await.is_err_and(|error| error.to_string().contains("403")));
    let mut other = owner.open("").await?;
    let mut late = owner.open_with(&join).await?;
    let base = format!("http://{}/api/v1/sse/stream?topics=job.7&lastEventId={first}", gateway.address);
    let mut browser = Watcher::start("progress.cjs", &owner.jwt, &[&base, "progress"])?;
    ensure!(browser.next().await?.data == early.to_string());

    // Over NATS it is the same.
    let (half, done) = (progress(80, "writing"), progress(100, "done"));
    let publisher = nats.publisher().await?;
    let subject = "sse.acme.topic.job.7";
    publisher.publish_with(subject, &[("Sse-Event", "progress")], &half.to_string()).await?;
    let last = tell(&worker, &done).await?;
    let all = [early, half, done];
    ensure!(told(&mut late).await? == all);
    ensure!(late.last_id == last && last.ends_with("-end"), "{last}");
    // One who joins after the end sees all of it, too.
    let mut later = owner.open_with(&join).await?;
    ensure!(told(&mut later).await? == all);

    // An EventSource comes back by itself, once, and is told to stay away.
    for expected in &all[1..] {
        ensure!(browser.next().await?.data == expected.to_string());
    }
    let closed = browser.next().await?;
    ensure!((closed.kind.as_str(), closed.data.as_str()) == ("closed", "204"), "{closed:?}");
    // So is one that brings the id with a token.
    let path = format!("/api/v1/sse/stream?token={}&topics=job.7&lastEventId={last}", owner.token().await?);
    let answer = owner.request(Method::GET, &path, &[]).await?;
    ensure!(answer.status == 204 && answer.body.is_empty(), "{answer:?}");

    publisher.publish("sse.acme.user.alice", "still here").await?;
    ensure!(other.event().await?.data == "still here");
    Ok(())
}
