//! What happens while the service takes its time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::eventually;
use sse_tests::history::{SUBJECT, Says, Service};
use sse_tests::process::{Gateway, Nats};
use tokio::sync::Notify;

use super::{FIRST, LAST, World, numbers, seen};

/// A world whose service takes as long as there is, and one that waits for it.
async fn patient(history: Value) -> Result<(World, Service)> {
    let world = World::trimmed(Nats::start().await?, history).await?;
    let service = Service::start(&world.publisher.client, |_| async { Says::Nothing }).await?;
    Ok((world, service))
}

async fn asked(service: &Service, count: usize) -> Result<()> {
    eventually("a question", Duration::from_secs(5), || async {
        ensure!(service.asked().len() == count, "{:?}", service.asked());
        Ok(())
    })
    .await
}

/// One that has everything, and with each answer takes so much more from the log.
async fn trimming(world: &World, step: u64) -> Result<Service> {
    let (stream, epoch) = (world.publisher.jetstream.get_stream("SSE_sse").await?, world.epoch.clone());
    let stream = Arc::new(stream);
    let answer = move |question: Value| {
        let (stream, epoch) = (stream.clone(), epoch.clone());
        async move {
            let place = |name: &str| question[name].as_str()?.rsplit_once('-')?.1.parse().ok();
            let (after, before) = (place("lastEventId").unwrap_or(3), place("before").unwrap_or(0));
            if stream.purge().sequence(before + step).await.is_err() {
                return Says::Error;
            }
            let event = |n: u64| json!({"id": format!("{epoch}-{n}"), "data": n.to_string()});
            Says::from(json!({"events": (after + 1..before).map(event).collect::<Vec<_>>(), "more": false}))
        }
    };
    Service::start(&world.publisher.client, answer).await
}

#[tokio::test]
async fn a_log_that_is_trimmed_meanwhile_is_asked_for_again_from_there() -> Result<()> {
    let world = World::trimmed(Nats::start().await?, json!({})).await?;
    let service = trimming(&world, 3).await?;
    // Of this one nothing was read before the question.
    let mut client = world.gateway.client("acme", "alice").open("what").await?;
    ensure!(seen(&mut client, &LAST.to_string()).await? == numbers(4..=LAST));
    let asked: Vec<Value> =
        service.asked().iter().map(|asked| json!([asked["lastEventId"], asked["before"]])).collect();
    let again = [world.cursor(FIRST - 1), world.cursor(FIRST + 3)];
    ensure!(asked == [json!(["what", world.cursor(FIRST)]), json!(again)], "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_log_that_runs_away_is_not_run_after_for_ever() -> Result<()> {
    const END: u64 = 61;
    let mut world = World::start(json!({})).await?;
    world.gateway.kill().await?;
    let spec = json!({"replay": {"history": {"subject": SUBJECT}}, "limits": {"maxPayloadBytes": 1_000_000}});
    world.gateway = Gateway::start(&world.nats, spec).await?;
    // Some eight of these are read at once.
    for n in 3..=END {
        world.publisher.publish("sse.acme.all", &format!("{n} {}", "x".repeat(500_000))).await?;
    }
    world.trim(FIRST).await?;
    let service = trimming(&world, 12).await?;
    let mut stream = world.gateway.client("acme", "alice").open(&world.cursor(3)).await?;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| *last != END.to_string()) {
        let event = stream.event().await?;
        seen.push(if event.name == "reset" { event.name } else { event.data.split(' ').take(1).collect() });
    }
    ensure!(service.asked().len() == 3, "{:?}", service.asked());
    let gap = seen.iter().position(|what| what == "reset").context("a gap")?;
    let last = 3 + u64::try_from(gap)?;
    ensure!(last >= FIRST + 24 && seen[..gap] == numbers(4..=last), "{seen:?}");
    ensure!(seen[gap + 1..] == numbers(FIRST + 36..=END), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_waits_for_history_beats_and_is_ended_by_back_ends_and_by_a_drain() -> Result<()> {
    let history = json!({"timeoutSeconds": 60, "onFirstConnect": true});
    let (mut world, service) = patient(history).await?;
    let client = world.gateway.client("acme", "alice");
    let mut streams = vec![
        client.open(&world.cursor(3)).await?,
        client.open_with("&heartbeat=event").await?,
        client.open_with("&heartbeat=event&lastEventId=what").await?,
    ];
    asked(&service, 3).await?;
    let control = |operation: &'static str| {
        let subject = "sse-ctl.acme.user.alice";
        world.publisher.client.publish(subject, json!({"op": operation}).to_string().into())
    };
    control("ping").await?;
    streams[0].until_raw(":heartbeat\n\n", Duration::from_secs(5)).await?;
    for stream in &mut streams[1..] {
        let beat = stream.event().await?;
        // What it came with is still its place: it is told no other.
        ensure!(beat.name == "heartbeat" && beat.id.is_empty(), "{beat:?}");
        ensure!(!String::from_utf8_lossy(&stream.raw).contains("id:"), "a place");
    }
    control("disconnect").await?;
    for stream in &mut streams {
        stream.to_end(Duration::from_secs(5)).await?;
        ensure!(stream.ended_cleanly == Some(true));
    }
    // One that leaves takes its question with it.
    let leaves = client.open(&world.cursor(3)).await?;
    asked(&service, 4).await?;
    drop(leaves);
    let mut stream = client.open(&world.cursor(3)).await?;
    asked(&service, 5).await?;
    eventually("the one that stays", Duration::from_secs(5), || async {
        let status = world.gateway.status().await?;
        ensure!(status["connections"] == 1, "{status}");
        Ok(())
    })
    .await?;
    world.gateway.terminate()?;
    stream.to_end(Duration::from_secs(10)).await?;
    ensure!(stream.retry.is_some() && stream.ended_cleanly == Some(true), "cut off");
    ensure!(world.gateway.exit_code(Duration::from_secs(10)).await? == 0);
    Ok(())
}

#[tokio::test]
async fn heartbeats_come_on_time_from_a_stream_that_waits_for_history() -> Result<()> {
    let nats = Nats::start().await?;
    let mut world = World::trimmed(nats, json!({"timeoutSeconds": 60})).await?;
    let go = Arc::new(Notify::new());
    let (wait, reply) = (go.clone(), world.page(4..=11, false));
    let _service = Service::start(&world.publisher.client, move |_| {
        let (wait, reply) = (wait.clone(), reply.clone());
        async move {
            wait.notified().await;
            Says::from(reply)
        }
    })
    .await?;
    world.gateway.kill().await?;
    let spec = json!({"replay": {"history": {"subject": SUBJECT, "timeoutSeconds": 60}},
        "stream": {"heartbeatIntervalSeconds": 5}});
    world.gateway = Gateway::start(&world.nats, spec).await?;
    let mut stream = world.gateway.client("acme", "alice").open(&world.cursor(3)).await?;
    stream.until_raw(":heartbeat\n\n", Duration::from_secs(7)).await?;
    go.notify_one();
    ensure!(seen(&mut stream, &LAST.to_string()).await? == numbers(4..=LAST));
    Ok(())
}

#[tokio::test]
async fn a_log_that_is_lost_while_a_stream_waits_for_history_is_told_and_the_stream_goes_on_in_the_new_one()
-> Result<()> {
    let (world, service) = patient(json!({"timeoutSeconds": 60, "onFirstConnect": true})).await?;
    let client = world.gateway.client("acme", "alice");
    let mut streams =
        [client.open(&world.cursor(3)).await?, client.open("").await?, client.open("what").await?];
    asked(&service, 3).await?;
    world.publisher.jetstream.delete_stream("SSE_sse").await?;
    eventually("another log", Duration::from_secs(10), || async {
        let status = world.gateway.status().await?;
        let epoch = status["stream"]["epoch"].as_str().context("an epoch")?;
        ensure!(epoch != world.epoch, "{status}");
        Ok(())
    })
    .await?;
    world.publisher.insist("sse.acme.all", "acme:new", "new").await?;
    for stream in &mut streams {
        ensure!(seen(stream, "new").await? == ["reset epoch", "new"]);
    }
    Ok(())
}
