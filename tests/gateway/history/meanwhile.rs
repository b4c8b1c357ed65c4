//! What happens while the service takes its time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::history::{Says, Service};
use sse_tests::process::Nats;
use tokio::sync::Notify;

use super::{FIRST, LAST, World, numbers, seen};

/// A world whose service takes as long as there is, and one that waits for it.
async fn patient(history: serde_json::Value) -> Result<(World, Service)> {
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

#[tokio::test]
async fn a_log_that_is_trimmed_meanwhile_is_asked_for_again_from_there() -> Result<()> {
    let world = World::trimmed(Nats::start().await?, json!({})).await?;
    let stream = world.publisher.jetstream.get_stream("SSE_sse").await?;
    let (stream, epoch) = (Arc::new(stream), world.epoch.clone());
    // It has whatever goes: to the events before 15, to those before 18 and so on.
    let service = Service::start(&world.publisher.client, move |question| {
        let (stream, epoch) = (stream.clone(), epoch.clone());
        async move {
            let number = |name: &str| -> u64 {
                let text = question[name].as_str().unwrap_or_default();
                text.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or_default()
            };
            let (after, before) = (number("lastEventId"), number("before"));
            if before < 18 && stream.purge().sequence(before + 3).await.is_err() {
                return Says::Error;
            }
            let event = |n: u64| json!({"id": format!("{epoch}-{n}"), "data": n.to_string()});
            let events: Vec<_> = (after + 1..before).map(event).collect();
            Says::from(json!({"events": events, "more": false}))
        }
    })
    .await?;
    let mut client = world.gateway.client("acme", "alice").open(&world.cursor(3)).await?;
    ensure!(seen(&mut client, &LAST.to_string()).await? == numbers(4..=LAST));
    let asked = service.asked();
    let ways: Vec<_> = asked.iter().map(|question| (&question["lastEventId"], &question["before"])).collect();
    let expected = [(3, FIRST), (11, 15), (14, 18)].map(|(a, b)| (json!(world.cursor(a)), json!(world.cursor(b))));
    ensure!(ways.iter().map(|(a, b)| ((*a).clone(), (*b).clone())).eq(expected), "{ways:?}");

    // And not for ever: somewhere it is told what it is told without history.
    let (stream, epoch) = (world.publisher.jetstream.get_stream("SSE_sse").await?, world.epoch.clone());
    drop(service);
    for n in 23..=60 {
        world.publisher.publish("sse.acme.all", &n.to_string()).await?;
    }
    let stream = Arc::new(stream);
    let service = Service::start(&world.publisher.client, move |question| {
        let (stream, epoch) = (stream.clone(), epoch.clone());
        async move {
            let before = question["before"].as_str().unwrap_or_default().to_owned();
            let before: u64 = before.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or_default();
            if stream.purge().sequence(before + 2).await.is_err() {
                return Says::Error;
            }
            Says::from(json!({"events": [{"id": format!("{epoch}-{}", before - 1), "data": "past"}]}))
        }
    })
    .await?;
    let mut world = world;
    world.trim(24).await?;
    let mut client = world.gateway.client("acme", "bob").open(&world.cursor(3)).await?;
    let seen = seen(&mut client, "60").await?;
    ensure!(seen[..4] == ["past", "past", "past", "reset expired"], "{seen:?}");
    ensure!(seen[4..] == numbers(30..=60), "{seen:?}");
    ensure!(service.asked().len() == 3, "{:?}", service.asked());
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
    drop(client.open(&world.cursor(3)).await?);
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
    let spec = json!({"replay": {"history": {"subject": sse_tests::history::SUBJECT, "timeoutSeconds": 60}},
        "stream": {"heartbeatIntervalSeconds": 5}});
    world.gateway = sse_tests::process::Gateway::start(&world.nats, spec).await?;
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
