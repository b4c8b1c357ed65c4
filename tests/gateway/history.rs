//! What the log has no more comes from a history service, before the log, without a seam; and a service that is
//! late, failing or lying does no harm.

mod harm;
mod meanwhile;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sse_tests::client::Stream;
use sse_tests::eventually;
use sse_tests::history::{Archive, SUBJECT, Says, Service};
use sse_tests::process::{Gateway, Nats, merge};
use sse_tests::publisher::Publisher;

use crate::metrics::value;

/// The first of its log, after a trim.
const FIRST: u64 = 12;
/// The last before it was trimmed.
const LAST: u64 = 21;

/// A gateway that asks for history.
struct World {
    nats: Nats,
    gateway: Gateway,
    publisher: Publisher,
    epoch: String,
}

impl World {
    async fn start(history: Value) -> Result<Self> {
        Self::with(Nats::start().await?, history).await
    }

    async fn with(nats: Nats, history: Value) -> Result<Self> {
        let mut spec =
            json!({"replay": {"history": {"subject": SUBJECT}}, "auth": {"topicsClaim": "topics"}});
        merge(&mut spec["replay"]["history"], history);
        let gateway = Gateway::start(&nats, spec).await?;
        let publisher = nats.publisher().await?;
        let epoch = gateway.status().await?["stream"]["epoch"].as_str().context("an epoch")?.to_owned();
        Ok(Self { nats, gateway, publisher, epoch })
    }

    /// One whose log has `FIRST..=LAST` for everybody in acme, each with its sequence as data, and nothing in memory.
    async fn trimmed(nats: Nats, history: Value) -> Result<Self> {
        let mut world = Self::with(nats, history).await?;
        // The seam of the first start is the first.
        for sequence in 2..=LAST {
            let stored = world.publisher.publish("sse.acme.all", &sequence.to_string()).await?;
            ensure!(stored == sequence, "{stored}");
        }
        world.trim(FIRST).await?;
        Ok(world)
    }

    /// Takes everything before a sequence from the log, and from the gateway's memory.
    async fn trim(&mut self, first: u64) -> Result<()> {
        self.purge(first).await?;
        self.gateway.kill().await?;
        self.gateway.restart()?;
        self.gateway.ready().await
    }

    async fn purge(&self, first: u64) -> Result<()> {
        let stream = self.publisher.jetstream.get_stream("SSE_sse").await?;
        stream.purge().sequence(first).await?;
        Ok(())
    }

    fn cursor(&self, sequence: u64) -> String {
        format!("{}-{sequence}", self.epoch)
    }

    /// An event as a service has it.
    fn event(&self, sequence: u64) -> Value {
        json!({"id": self.cursor(sequence), "data": sequence.to_string()})
    }

    fn page(&self, sequences: impl IntoIterator<Item = u64>, more: bool) -> Value {
        let events: Vec<Value> = sequences.into_iter().map(|sequence| self.event(sequence)).collect();
        json!({"events": events, "more": more})
    }

    async fn metric(&self, series: &str) -> Result<f64> {
        value(&self.gateway.get("/metrics").await?.1, &format!("sse_server_history{series}"))
    }
}

/// What the next events are, up to and with the one that has this data: the reason of a `reset`, and data of others.
/// Ids of one life of the log only grow.
async fn seen(stream: &mut Stream, last: &str) -> Result<Vec<String>> {
    let (mut seen, mut place) = (Vec::new(), (String::new(), 0));
    loop {
        let event = stream.event().await.with_context(|| format!("waiting for {last}, saw {seen:?}"))?;
        if event.name == "reset" {
            let reason: Value = serde_json::from_str(&event.data)?;
            seen.push(format!("reset {}", reason["reason"].as_str().context("a reason")?));
            continue;
        }
        let (epoch, sequence) = event.id.split_once('-').context("a cursor")?;
        let sequence: u64 = sequence.parse()?;
        ensure!(epoch != place.0 || sequence > place.1, "{event:?} after {place:?}");
        place = (epoch.to_owned(), sequence);
        let came_last = event.data == last;
        seen.push(event.data);
        if came_last {
            return Ok(seen);
        }
    }
}

fn numbers(range: impl IntoIterator<Item = u64>) -> Vec<String> {
    range.into_iter().map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_cursor_older_than_the_log_is_served_from_the_archive_then_the_log_then_live() -> Result<()> {
    let mut world = World::start(json!({})).await?;
    let mut archive = Archive::start(&world.nats, None).await?;
    let publisher = world.publisher.clone();
    // To her, to her among others, to her tenant, to her topics; and not to her.
    let publish = async |i: u64| {
        let (subject, headers): (_, &[_]) = match i % 7 {
            0 => ("sse.acme.user.bob", &[]),
            1 => ("sse.acme.users", &[("Sse-Users", "bob, alice"), ("Sse-Event", "note")]),
            2 => ("sse.acme.all", &[]),
            3 => ("sse.acme.topic.orders.eu", &[]),
            4 => ("sse.acme.topics", &[("Sse-Topics", "orders.us,news,orders.eu")]),
            5 => ("sse.globex.user.alice", &[]),
            _ => ("sse.acme.user.alice", &[]),
        };
        publisher.publish_with(subject, headers, &i.to_string()).await
    };
    let is_hers = |i: &u64| !matches!(i % 7, 0 | 5);
    for i in 0..300 {
        if i == 150 {
            // What it has it keeps, and it goes on from there.
            archive.has(&publisher.client, &world.epoch, 120).await?;
            archive.kill().await?;
            archive.restart().await?;
        }
        publish(i).await?;
    }
    archive.has(&publisher.client, &world.epoch, 301).await?;
    world.trim(250).await?;

    let client = world.gateway.client("acme", "alice");
    let client = client.with_claims("acme", "alice", json!({"topics": ["orders.*"]}));
    let open = format!("&topics=orders.*&lastEventId={}", world.cursor(1));
    let mut streams = vec![client.open_with(&open).await?];
    let publishing = async {
        for i in 300..500 {
            publish(i).await?;
            if i % 50 == 0 {
                streams.push(client.open_with(&open).await?);
            }
        }
        anyhow::Ok(())
    };
    publishing.await?;
    let expected = numbers((0..500).filter(is_hers));
    for stream in &mut streams {
        ensure!(seen(stream, "499").await? == expected, "order, loss, or a reset");
        // Each with the type that its publisher gave it.
        let text = String::from_utf8_lossy(&stream.raw);
        ensure!(text.contains(&format!("id: {}\nevent: note\ndata: 8\n\n", world.cursor(10))), "{text}");
    }
    ensure!(world.metric("_total{result=\"served\"}").await? >= 5.0);
    // Where the archive does not reach back to, the client is told.
    let mut stream = client.open_with("&lastEventId=00000000-7").await?;
    ensure!(stream.event().await?.data == r#"{"reason":"epoch"}"#);
    ensure!(!archive.log().contains("rror"), "{}", archive.log());

    // A new log is another life, which it follows from its beginning.
    world.publisher.jetstream.delete_stream("SSE_sse").await?;
    let epoch = eventually("another log", Duration::from_secs(10), || async {
        let status = world.gateway.status().await?;
        let epoch = status["stream"]["epoch"].as_str().context("an epoch")?;
        ensure!(epoch != world.epoch, "{status}");
        Ok(epoch.to_owned())
    })
    .await?;
    let stored = world.publisher.insist("sse.acme.user.alice", "acme:new", "new").await?;
    archive.has(&world.publisher.client, &epoch, stored).await
}

#[tokio::test]
async fn a_client_without_a_cursor_gets_history_too_where_that_is_wanted() -> Result<()> {
    let mut world = World::start(json!({"onFirstConnect": true})).await?;
    let archive = Archive::start(&world.nats, None).await?;
    for i in 2..=100 {
        world.publisher.publish("sse.acme.user.alice", &i.to_string()).await?;
    }
    archive.has(&world.publisher.client, &world.epoch, 100).await?;
    world.trim(90).await?;
    // The example has the latest fifty; then comes the log.
    let client = world.gateway.client("acme", "alice");
    let mut stream = client.open("").await?;
    ensure!(seen(&mut stream, "100").await? == numbers(40..=100));
    let text = String::from_utf8_lossy(&stream.raw);
    ensure!(text.starts_with(&format!(":connected\n\nid: {}\ndata: 40\n", world.cursor(40))), "{text}");
    // Who got nothing is told a place to come back to, at once.
    let mut stream = world.gateway.client("acme", "zoe").open("").await?;
    let place = stream.position().await?;
    ensure!(place == world.cursor(89), "{place}");
    world.publisher.publish("sse.acme.all", "101").await?;
    ensure!(seen(&mut stream, "101").await? == ["101"]);
    Ok(())
}

#[tokio::test]
async fn whatever_a_client_brings_goes_to_the_service_verbatim_and_it_is_asked_for_the_identity_alone()
-> Result<()> {
    let world = World::trimmed(Nats::start().await?, json!({})).await?;
    let reply = json!({"events": [
        {"id": "00000003-8", "event": "note", "data": "a"}, {"id": "00000004-1", "data": "b"},
        world.event(11), world.event(12),
    ]});
    let answer = reply.clone();
    let service = Service::start(&world.publisher.client, move |_| {
        let reply = answer.clone();
        async move { Says::from(reply) }
    })
    .await?;
    let client = world.gateway.client("acme", "a@b.c");
    let client = client.with_claims("acme", "a@b.c", json!({"topics": ["orders.>"]}));
    // Of an earlier life, none of ours, and of this life, but not of this log: that is told after five seconds.
    for cursor in ["00000003-7".to_owned(), "1700000000000-0".to_owned(), "ü x".to_owned(), world.cursor(999)]
    {
        let authorization = format!("Bearer {}", client.jwt);
        let headers = [("authorization", authorization.as_str()), ("last-event-id", cursor.as_str())];
        let path = "/api/v1/sse/stream?topics=orders.%3E,orders.eu&user=bob&tenant=globex";
        let mut stream = client.stream(path, &headers).await?;
        ensure!(stream.event().await?.id == "00000003-8", "{cursor}");
        ensure!(seen(&mut stream, "21").await?[..2] == ["b".to_owned(), "11".to_owned()], "{cursor}");
        let asked = service.asked().pop().context("a question")?;
        let expected = json!({"tenant": "acme", "user": "a%40b%2Ec", "topics": ["orders.>", "orders.eu"],
            "lastEventId": cursor, "before": world.cursor(FIRST)});
        ensure!(asked == expected, "{asked}");
        // Its place is one of this log from then on.
        ensure!(stream.last_id == world.cursor(LAST), "{}", stream.last_id);
    }
    Ok(())
}

#[tokio::test]
async fn an_event_that_completed_a_stream_completes_it_from_history_and_the_client_stays_away() -> Result<()>
{
    let world = World::trimmed(Nats::start().await?, json!({})).await?;
    let end = format!("{}-end", world.cursor(5));
    let reply = json!({"events": [world.event(4), {"id": end, "data": "done"}, world.event(6)]});
    let _service = Service::start(&world.publisher.client, move |_| {
        let reply = reply.clone();
        async move { Says::from(reply) }
    })
    .await?;
    let client = world.gateway.client("acme", "alice");
    let mut stream = client.open(&world.cursor(3)).await?;
    ensure!(stream.until("done").await? == ["4", "done"]);
    stream.to_end(Duration::from_secs(5)).await?;
    ensure!(stream.last_id == end && stream.ended_cleanly == Some(true), "{}", stream.last_id);
    let path = format!("/api/v1/sse/stream?token={}&lastEventId={end}", client.token().await?);
    ensure!(client.request(hyper::Method::GET, &path, &[]).await?.status == 204);
    eventually("the end", Duration::from_secs(5), || async {
        let ended = value(
            &world.gateway.get("/metrics").await?.1,
            "sse_server_connection_duration_seconds_count{reason=\"complete\"}",
        )?;
        ensure!((ended - 1.0).abs() < 0.1, "{ended}");
        Ok(())
    })
    .await
}
