//! Streams that end in every way, by the thousand: each frees its place, its socket and its memory,
//! once.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::{join_all, try_join_all};
use jsonwebtoken::Algorithm;
use serde_json::json;
use sse_tests::eventually;
use sse_tests::h2::{Http2, to_end};
use sse_tests::jwt::{ISSUER, KEY, jwt, now, signed};
use sse_tests::proc::{memory, sockets};
use sse_tests::process::{Gateway, Nats};
use sse_tests::publisher::Publisher;
use sse_tests::raw::{Raw, Shape, connect, request};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

const ROUNDS: usize = 3;
/// Streams of one kind in a round.
const MANY: usize = 100;
const PER_USER: usize = 5;
const PER_POD: usize = 250;
/// Far less than a heartbeat takes: what is seen by then was seen at once.
const AT_ONCE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(15);
/// What a round may leave behind: the ring has some more events, and the allocator is not exact. But a
/// thousand streams that were left would be thirty megabytes.
const ROUND_LEAVES: usize = 6 << 20;
/// More than a socket and all buffers hold of one that does not read.
const FLOOD: usize = 12;

/// A gateway, and what it is without streams.
struct Soak {
    gateway: Gateway,
    publisher: Publisher,
    sockets: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_way_a_stream_ends_nothing_of_it_is_left() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"logging": {"level": "debug"}, "limits": {"writeTimeoutSeconds": 1,
        "maxConnectionsPerUser": PER_USER, "maxConnectionsPerPod": PER_POD}});
    let soak = Soak::start(&nats, patch).await?;
    let (begun, mut left) = (Instant::now(), Vec::new());
    for _ in 0..ROUNDS {
        soak.gone_before_the_first_byte().await?;
        soak.gone_in_the_middle().await?;
        soak.gone_after_more_than_a_request().await?;
        soak.half_closed().await?;
        soak.completed().await?;
        soak.stalled().await?;
        soak.expired().await?;
        soak.refused().await?;
        soak.over_http2().await?;
        left.push(memory(soak.gateway.id()?)?);
    }
    let ends = soak.ends()?;
    println!(
        "soak: {ends:?} in {:.1?}; memory in KiB after each round: {:?}",
        begun.elapsed(),
        left.iter().map(|bytes| bytes >> 10).collect::<Vec<_>>(),
    );
    for reason in ["client", "complete", "write_timeout", "lifetime"] {
        ensure!(ends.get(reason).is_some_and(|count| *count >= ROUNDS), "no {reason} in {ends:?}");
    }
    // The first rounds fill caches and pools.
    let grown = left[ROUNDS - 1].saturating_sub(left[1]);
    ensure!(grown < (ROUNDS - 2) * ROUND_LEAVES, "memory grows: {left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_or_a_long_life_ends_a_stream_where_that_is_asked_for() -> Result<()> {
    let nats = Nats::start().await?;
    let patch = json!({"logging": {"level": "debug"}, "stream": {"maxLifetimeSeconds": 2},
        "limits": {"overflowPolicy": "Disconnect", "connectionBufferSize": 1, "writeTimeoutSeconds": 1}});
    let soak = Soak::start(&nats, patch).await?;
    for round in 0..ROUNDS {
        let streams = soak.open("flooded", Shape::default()).await?;
        soak.flood("flooded", MANY).await?;
        soak.settled("overflow").await?;
        drop(streams);
        let long = soak.open(&format!("long{round}"), Shape::default()).await?;
        for end in join_all(long.into_iter().map(|mut raw| async move { raw.to_end(PATIENCE).await })).await {
            ensure!(end?, "cut off");
        }
        soak.settled("lifetime").await?;
    }
    let ends = soak.ends()?;
    println!("soak: {ends:?}");
    ensure!(ends.contains_key("overflow") && ends.contains_key("lifetime"), "{ends:?}");
    Ok(())
}

impl Soak {
    async fn start(nats: &Nats, patch: serde_json::Value) -> Result<Self> {
        let gateway = Gateway::start(nats, patch).await?;
        let publisher = nats.publisher().await?;
        let mut soak = Self { gateway, publisher, sockets: usize::MAX };
        soak.open("first", Shape::default()).await?;
        soak.settled("the first").await?;
        for _ in 0..10 {
            // The socket of the last question is closed in a moment.
            sleep(Duration::from_millis(20)).await;
            soak.sockets = soak.sockets.min(sockets(soak.gateway.id()?)?);
        }
        Ok(soak)
    }

    /// Waits until there is no stream and no socket left of what was before.
    async fn settled(&self, what: &str) -> Result<()> {
        let settled = eventually("no stream, no socket", AT_ONCE, || async {
            let sockets = sockets(self.gateway.id()?)?;
            ensure!(sockets <= self.sockets, "{sockets} sockets, {} before", self.sockets);
            // The question is a socket too, for a moment.
            let status = self.gateway.status().await?;
            let (streams, members) = (&status["connections"], &status["members"]);
            ensure!(*streams == 0 && *members == 0, "{streams} streams, {members} in the hub");
            Ok(())
        });
        settled.await.with_context(|| format!("after {what}"))
    }

    /// Many streams of a tenant.
    async fn open(&self, tenant: &str, shape: Shape) -> Result<Vec<Raw>> {
        let open = |user: usize| async move {
            let jwt = jwt(tenant, &format!("user-{user}"));
            let mut raw = Raw::open(self.gateway.address, &jwt, "", shape).await?;
            raw.opened().await?;
            anyhow::Ok(raw)
        };
        try_join_all((0..MANY).map(open)).await
    }

    async fn flood(&self, tenant: &str, events: usize) -> Result<()> {
        let data = "x".repeat(16_000);
        let subject = format!("sse.{tenant}.all");
        try_join_all((0..events).map(|_| self.publisher.publish(&subject, &data))).await.map(drop)
    }

    /// Between slot, registration and first byte, or before the end of the request.
    async fn gone_before_the_first_byte(&self) -> Result<()> {
        let go = |user: usize| async move {
            let request = request(&jwt("early", &format!("user-{user}")), "");
            let mut socket = connect(self.gateway.address, Shape::default()).await?;
            let much = if user.is_multiple_of(3) { user * request.len() / MANY } else { request.len() };
            socket.write_all(&request.as_bytes()[..much]).await?;
            sleep(Duration::from_micros(u64::try_from(user)? * 20)).await;
            if user.is_multiple_of(2) {
                socket.set_zero_linger()?;
            }
            anyhow::Ok(())
        };
        try_join_all((0..MANY).map(go)).await?;
        let with_token = |user: usize| async move {
            let client = self.gateway.client("early", &format!("token-{user}"));
            let token = client.token().await?;
            let mut socket = connect(self.gateway.address, Shape::default()).await?;
            let request = format!("GET /api/v1/sse/stream?token={token} HTTP/1.1\r\nHost: x\r\n\r\n");
            socket.write_all(request.as_bytes()).await?;
            sleep(Duration::from_micros(u64::try_from(user)? * 50)).await;
            anyhow::Ok(())
        };
        try_join_all((0..MANY / 2).map(with_token)).await?;
        self.settled("clients that did not wait for a byte").await
    }

    async fn gone_in_the_middle(&self) -> Result<()> {
        for reset in [false, true] {
            let streams = self.open("middle", Shape::default()).await?;
            self.publisher.publish("sse.middle.all", "some event").await?;
            for raw in &streams {
                if reset {
                    raw.socket.set_zero_linger()?;
                }
            }
            drop(streams);
            self.settled("clients that went in the middle").await?;
        }
        Ok(())
    }

    /// What a client sends after its request is not parsed, and does not hide its close.
    async fn gone_after_more_than_a_request(&self) -> Result<()> {
        let mut streams = self.open("more", Shape::default()).await?;
        for (index, raw) in streams.iter_mut().enumerate() {
            let more =
                if index % 2 == 0 { "GET /api/v1/sse/nothing HTTP/1.1\r\nHost: x\r\n\r\n" } else { "\0?" };
            raw.socket.write_all(more.repeat(1 + index % 50).as_bytes()).await?;
        }
        self.publisher.publish("sse.more.all", "still open").await?;
        for raw in &mut streams {
            ensure!(raw.next(PATIENCE).await?.is_some_and(|event| event.data == "still open"));
        }
        drop(streams);
        self.settled("clients that sent more than a request").await?;
        // With the request, in one write; and a body that never comes.
        let go = |user: usize| async move {
            let jwt = jwt("more", &format!("pipelined-{user}"));
            let request = request(&jwt, "");
            let request = match user % 2 {
                0 => request.repeat(2),
                _ => request.replace("Host: x\r\n", "Host: x\r\nContent-Length: 10\r\n") + "12345",
            };
            let mut raw = Raw::send(self.gateway.address, &request, Shape::default()).await?;
            raw.opened().await?;
            anyhow::Ok(raw)
        };
        drop(try_join_all((0..MANY).map(go)).await?);
        self.settled("clients that sent two requests, or a body").await
    }

    /// A client that ends its sending has gone, for HTTP/1.1.
    async fn half_closed(&self) -> Result<()> {
        let mut streams = self.open("half", Shape::default()).await?;
        for raw in &mut streams {
            raw.socket.shutdown().await?;
        }
        self.settled("clients that ended their sending").await
    }

    async fn completed(&self) -> Result<()> {
        let streams = self.open("complete", Shape::default()).await?;
        self.publisher.publish_with("sse.complete.all", &[("Sse-Complete", "true")], "done").await?;
        let ends = streams.into_iter().map(|mut raw| async move {
            ensure!(raw.next(PATIENCE).await?.is_some_and(|event| event.id.ends_with("-end")));
            let clean = raw.to_end(PATIENCE).await?;
            // Its socket ends as well, whoever closes it first.
            ensure!(clean && raw.read(1).await? == 0, "the connection goes on");
            anyhow::Ok(raw)
        });
        let streams = try_join_all(ends).await?;
        self.settled("completion").await?;
        drop(streams);
        Ok(())
    }

    /// The clients keep their sockets: it is the gateway that must let go.
    async fn stalled(&self) -> Result<()> {
        let streams = self.open("stalled", Shape { receive_buffer: Some(4096) }).await?;
        self.flood("stalled", FLOOD).await?;
        self.settled("clients that accept nothing").await?;
        drop(streams);
        Ok(())
    }

    async fn expired(&self) -> Result<()> {
        let open = |user: usize| async move {
            let claims =
                json!({"iss": ISSUER, "sub": format!("user-{user}"), "tenant": "expired", "exp": now() + 3});
            let jwt = signed(&claims, KEY, Algorithm::HS256);
            let mut raw = Raw::open(self.gateway.address, &jwt, "", Shape::default()).await?;
            raw.opened().await?;
            ensure!(raw.to_end(PATIENCE).await?, "cut off");
            anyhow::Ok(raw)
        };
        let streams = try_join_all((0..MANY).map(open)).await?;
        self.settled("expired credentials").await?;
        drop(streams);
        Ok(())
    }

    /// Of many at once as many are let in as may be, by user and by pod.
    async fn refused(&self) -> Result<()> {
        for (user_of, expected) in [(0, PER_USER), (1, PER_POD)] {
            let open = |client: usize| async move {
                let jwt = jwt("crowd", &format!("user-{}", client * user_of));
                let mut raw = Raw::open(self.gateway.address, &jwt, "", Shape::default()).await?;
                let opened = raw.opened().await;
                ensure!(matches!(raw.status, 200 | 429 | 503), "{}: {opened:?}", raw.status);
                anyhow::Ok((raw.status, raw))
            };
            let count = expected + MANY;
            let streams = try_join_all((0..count).map(open)).await?;
            let open = streams.iter().filter(|(status, _)| *status == 200).count();
            ensure!(open == expected, "{open} streams instead of {expected}");
            drop(streams);
            self.settled("a crowd").await?;
        }
        Ok(())
    }

    async fn over_http2(&self) -> Result<()> {
        let mut http2 = Http2::connect(self.gateway.address).await?;
        let (mut stalled, mut completed) = (Vec::new(), Vec::new());
        for user in 0..MANY / 2 {
            drop(http2.open(&jwt("left", &format!("user-{user}"))).await?);
            stalled.push(http2.open(&jwt("stalled", &format!("user-{user}"))).await?);
            completed.push(http2.open(&jwt("complete", &format!("user-{user}"))).await?);
        }
        self.publisher.publish_with("sse.complete.all", &[("Sse-Complete", "true")], "done").await?;
        let ends = timeout(PATIENCE, join_all(completed.into_iter().map(to_end))).await;
        for (clean, text) in ends.context("completed streams do not end")? {
            ensure!(clean && text.ends_with("-end\ndata: done\n\n"), "{clean} {text:?}");
        }
        self.flood("stalled", FLOOD).await?;
        let none = || async {
            let connections = self.gateway.status().await?["connections"].clone();
            ensure!(connections == 0, "{connections} streams");
            Ok(())
        };
        eventually("no stream of HTTP/2", AT_ONCE, none).await?;
        // They were reset, after what their windows let through; the connection carries on.
        let ends = timeout(PATIENCE, join_all(stalled.into_iter().map(to_end))).await;
        for (clean, _) in ends.context("stalled streams are not reset")? {
            ensure!(!clean, "a stalled stream ended as if it had everything");
        }
        let last = http2.open(&jwt("left", "user-last")).await?;
        drop((http2, last));
        self.settled("HTTP/2").await
    }

    /// How the streams ended, from the log: each that was opened, once.
    fn ends(&self) -> Result<HashMap<String, usize>> {
        let (mut open, mut ends) = (HashMap::new(), HashMap::new());
        for line in self.gateway.log().lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let field = |name: &str| {
                line.get(name)
                    .or_else(|| line["fields"].get(name))
                    .and_then(|value| value.as_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            match field("message").as_str() {
                "A stream opened." => *open.entry(field("connection")).or_insert(0) += 1,
                "A stream ended." => {
                    *open.entry(field("connection")).or_insert(0) -= 1;
                    *ends.entry(field("reason")).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        let odd: Vec<_> = open.iter().filter(|(_, count)| **count != 0).collect();
        ensure!(
            !open.is_empty() && odd.is_empty(),
            "opened more often than ended, or the other way: {odd:?}"
        );
        Ok(ends)
    }
}
