//! What can be sent without end: [bad credentials](credentials), and frames of HTTP/2 that cost their sender nothing. Memory
//! stays bounded, and others are served meanwhile.

mod credentials;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sse_tests::client::Client;
use sse_tests::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame,
};
use sse_tests::process::{Gateway, Nats, merge};
use sse_tests::publisher::Publisher;
use sse_tests::{eventually, proc};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// An attack is at its height after this long: what somebody got before says nothing.
const RAMP: Duration = Duration::from_secs(3);
/// Turns from then on, one after another, all under the attack: so none of them takes more than a part of its time.
const TURNS: usize = 6;
/// For one turn, on a machine that is busy with the attackers, too; usual are some milliseconds.
const SOON: Duration = Duration::from_secs(15);
/// What an attack may take: the gateway has 30 to 40 MiB when it starts.
const MAY_GROW: usize = 64 << 20;
const FULL: u8 = END_STREAM | END_HEADERS;

/// A gateway, with somebody who uses it.
pub struct Served {
    pub gateway: Gateway,
    pub publisher: Publisher,
    alice: Client,
    /// Memory of the gateway before anybody came.
    empty: usize,
    _nats: Nats,
}

async fn served(limits: Value) -> Result<Served> {
    served_with(json!({"limits": limits}), &[]).await
}

/// By a gateway with these arguments.
pub async fn served_with(mut patch: Value, arguments: &[&str]) -> Result<Served> {
    let nats = Nats::start().await?;
    merge(&mut patch, json!({"logging": {"level": "info"}}));
    let gateway = Gateway::start_with(&nats, patch, arguments).await?;
    let (publisher, alice) = (nats.publisher().await?, gateway.client("acme", "alice"));
    let empty = proc::memory(gateway.id()?)?;
    Ok(Served { gateway, publisher, alice, empty, _nats: nats })
}

impl Served {
    /// Connects and gets an event over and over while `attack` goes on, which it has to do until it is told that it is over.
    /// That is when enough was served that began and ended under the attack at its height. Then looks at the memory.
    pub async fn during<T>(&self, attack: impl AsyncFnOnce(&CancellationToken) -> Result<T>) -> Result<T> {
        let (over, begun) = (CancellationToken::new(), Instant::now());
        let turns = async {
            let mut slowest = Duration::ZERO;
            let mut count = 0;
            while count < TURNS {
                let from = begun.elapsed();
                let late = || format!("after {from:.1?} of attack, and {count} turns at its height");
                slowest = slowest.max(timeout(SOON, self.turn()).await.with_context(late)??);
                count += usize::from(from > RAMP);
            }
            over.cancel();
            anyhow::Ok(slowest)
        };
        let attack = async {
            let told = attack(&over).await?;
            ensure!(over.is_cancelled(), "the attack ended by itself, after {:?}", begun.elapsed());
            Ok(told)
        };
        let (slowest, told) = tokio::try_join!(turns, attack)?;
        let peak = proc::peak(self.gateway.id()?)?;
        println!("slowest turn {slowest:.1?}, memory {} MiB, at most {}", self.empty >> 20, peak >> 20);
        ensure!(peak < self.empty + MAY_GROW, "memory grew from {} to {peak}", self.empty);
        Ok(told)
    }

    /// A token, a stream, an event.
    async fn turn(&self) -> Result<Duration> {
        let begun = Instant::now();
        let mut stream = self.alice.open("").await?;
        self.publisher.publish("sse.acme.user.alice", "event").await?;
        ensure!(stream.event().await?.data == "event");
        Ok(begun.elapsed())
    }
}

/// Sends bytes again and again until the other side has had enough, or the attack is over; whether it ended.
async fn pour(socket: &mut TcpStream, over: &CancellationToken, mut bytes: impl FnMut() -> Vec<u8>) -> bool {
    let ended = async { while socket.write_all(&bytes()).await.is_ok() {} };
    over.run_until_cancelled(ended).await.is_some()
}

/// Opens streams and has each of them reset by the frame that follows, until a connection ends; again and again.
async fn rapid_reset(follows: impl Fn(u32) -> Vec<u8> + Copy) -> Result<()> {
    let served = served(json!({})).await?;
    let address = served.gateway.address;
    let attack = async |over: &CancellationToken| {
        let mut ended = 0;
        while !over.is_cancelled() {
            let mut socket = frames::connect(address, 65_535).await?;
            let mut stream = 1;
            let path = format!("/api/v1/sse/stream?token={:032x}", rand::random::<u128>());
            let block = frames::get(&path, &[]);
            let burst = || {
                let mut bytes = Vec::new();
                for _ in 0..100 {
                    bytes.extend(frame(HEADERS, FULL, stream, &block));
                    bytes.extend(follows(stream));
                    stream += 2;
                }
                bytes
            };
            ended += usize::from(pour(&mut socket, over, burst).await);
        }
        println!("{ended} connections ended");
        ensure!(ended > 0, "no connection was ended");
        Ok(())
    };
    served
        .during(async |over| futures::future::try_join_all((0..4).map(|_| attack(over))).await.map(drop))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset_ends_the_attackers_connections() -> Result<()> {
    rapid_reset(|stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).await
}

/// The gateway is made to reset each of them, by a window that is too large: CVE-2025-8671.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_the_gateway_has_to_reset_end_the_attackers_connections() -> Result<()> {
    rapid_reset(|stream| frame(WINDOW_UPDATE, 0, stream, &(u32::MAX >> 1).to_be_bytes())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_ask_for_an_answer_which_nobody_reads_are_not_kept() -> Result<()> {
    let served = served(json!({})).await?;
    let address = served.gateway.address;
    let empty = frame(DATA, 0, 1, &[]);
    let questions = [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[]), empty];
    let connection = async |question: &[u8], over: &CancellationToken| {
        while !over.is_cancelled() {
            let mut socket = frames::connect(address, 65_535).await?;
            socket.write_all(&frame(HEADERS, END_HEADERS, 1, &frames::get("/nothing", &[]))).await?;
            // Ended or held up: either costs the gateway nothing more.
            pour(&mut socket, over, || question.repeat(1000)).await;
        }
        anyhow::Ok(())
    };
    served
        .during(async |over| {
            let connections = (0..20).flat_map(|_| &questions).map(|question| connection(question, over));
            futures::future::try_join_all(connections).await.map(drop)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_cut_and_not_kept() -> Result<()> {
    let served = served(json!({})).await?;
    let address = served.gateway.address;
    // A long header, again and again; and frames of nothing.
    let bombs: [Vec<u8>; 2] = [
        {
            let (name, value) = ("x".repeat(20), "y".repeat(4000));
            let literal = frames::get("/", &[(&name, &value)]);
            frame(CONTINUATION, 0, 1, &literal[frames::get("/", &[]).len()..])
        },
        frame(CONTINUATION, 0, 1, &[]),
    ];
    let attack = async |bomb: &Vec<u8>, over: &CancellationToken| {
        let mut ended = 0;
        while !over.is_cancelled() {
            let mut socket = frames::connect(address, 65_535).await?;
            socket.write_all(&frame(HEADERS, END_STREAM, 1, &frames::get("/", &[]))).await?;
            let poured = timeout(SOON, pour(&mut socket, over, || bomb.repeat(100))).await;
            ended += usize::from(poured.with_context(|| format!("{} bytes each time", bomb.len()))?);
        }
        println!("{ended} connections ended");
        ensure!(ended > 0, "no connection was ended");
        Ok(())
    };
    let attack = async |over: &CancellationToken| {
        futures::future::try_join_all(bombs.iter().map(|bomb| attack(bomb, over))).await.map(drop)
    };
    served.during(attack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_cost_little_and_streams_among_them_end() -> Result<()> {
    let served = served(json!({"writeTimeoutSeconds": 6, "maxConnectionsPerUser": 100})).await?;
    let address = served.gateway.address;
    let bearer = format!("Bearer {}", served.alice.with_claims("acme", "mallory", json!({})).jwt);
    let connection = async |block: &[u8], over: &CancellationToken| {
        // No byte of an answer is let through.
        let mut socket = frames::connect(address, 0).await?;
        for stream in (1..200).step_by(2) {
            socket.write_all(&frame(HEADERS, FULL, stream, block)).await?;
        }
        if let Some(ended) = over.run_until_cancelled(frames::until_end(&mut socket)).await {
            bail!("a connection like any other was ended: {ended:?}");
        }
        Ok(())
    };
    for block in
        [frames::get("/nothing", &[]), frames::get("/api/v1/sse/stream", &[("authorization", &bearer)])]
    {
        let attack = async |over: &CancellationToken| {
            futures::future::try_join_all((0..50).map(|_| connection(&block, over))).await.map(drop)
        };
        served.during(attack).await?;
    }
    eventually("streams that nobody reads to end", Duration::from_secs(20), || async {
        let status = served.gateway.status().await?;
        ensure!(status["connections"] == 0, "{}", status["connections"]);
        Ok(())
    })
    .await
    .context("mallory's")
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_reset_after_a_minute_and_a_stream_stays() -> Result<()> {
    let served = served(json!({"writeTimeoutSeconds": 600})).await?;
    let mut socket = frames::connect(served.gateway.address, 0).await?;
    let authorization = format!("Bearer {}", served.alice.jwt);
    let headers = [("authorization", authorization.as_str())];
    socket.write_all(&frame(HEADERS, FULL, 1, &frames::get("/api/v1/sse/stream", &headers))).await?;
    socket.write_all(&frame(HEADERS, FULL, 3, &frames::get("/nothing", &[]))).await?;
    let begun = Instant::now();
    let reset = async {
        loop {
            let came = frames::read(&mut socket).await?;
            match came.kind {
                PING if came.flags == 0 => socket.write_all(&frame(PING, ACK, 0, &came.payload)).await?,
                RST_STREAM => return anyhow::Ok(came.stream),
                _ => {}
            }
        }
    };
    let reset = timeout(Duration::from_secs(100), reset).await.context("nothing was reset")??;
    assert_eq!(reset, 3);
    ensure!(begun.elapsed() > Duration::from_secs(55), "{:?}", begun.elapsed());
    assert_eq!(served.gateway.status().await?["connections"], 1);
    // It waits for its client, and has what it is owed.
    socket.write_all(&frame(WINDOW_UPDATE, 0, 1, &65_535_u32.to_be_bytes())).await?;
    let data = async {
        loop {
            let came = frames::read(&mut socket).await?;
            if came.kind == DATA {
                return anyhow::Ok(came);
            }
        }
    };
    let came = timeout(SOON, data).await??;
    assert_eq!(came.stream, 1);
    assert!(came.payload.starts_with(b":connected\n\n"), "{came:?}");
    Ok(())
}
