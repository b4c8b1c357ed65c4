//! What can be sent without end: bad tokens, and frames of HTTP/2 that cost their sender nothing. Memory stays
//! bounded, and others are served meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
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
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const FOR: Duration = Duration::from_secs(3);
/// On a busy machine; usual are some milliseconds.
const SOON: Duration = Duration::from_secs(10);
/// What an attack may take: the gateway has 30 to 40 MiB when it starts.
const MAY_GROW: usize = 64 << 20;
const FULL: u8 = END_STREAM | END_HEADERS;

/// A gateway, with somebody who uses it.
pub struct Served {
    pub gateway: Gateway,
    pub publisher: Publisher,
    alice: Client,
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
    Ok(Served { gateway, publisher, alice, _nats: nats })
}

impl Served {
    /// Connects and gets an event over and over while `attack` goes on, which answers when it is over; then
    /// looks at the memory.
    pub async fn during(&self, attack: impl Future<Output = Result<()>>) -> Result<()> {
        let before = proc::memory(self.gateway.id()?)?;
        let (mut attack, mut turn) = (std::pin::pin!(attack), Box::pin(self.turn()));
        let (mut peak, mut slowest, mut turns, mut over) = (before, Duration::ZERO, 0, false);
        loop {
            let took = tokio::select! {
                ended = attack.as_mut(), if !over => {
                    ended?;
                    over = true;
                    // What began under attack counts, too.
                    continue;
                }
                took = &mut turn => took?,
            };
            (slowest, turns) = (slowest.max(took), turns + 1);
            peak = peak.max(proc::memory(self.gateway.id()?)?);
            if over {
                break;
            }
            turn = Box::pin(self.turn());
        }
        println!("{turns} turns, slowest {slowest:.1?}, memory {} MiB, at most {}", before >> 20, peak >> 20);
        ensure!(slowest < SOON, "{turns} turns, slowest {slowest:?}");
        ensure!(peak < before + MAY_GROW, "memory grew from {before} to {peak}");
        Ok(())
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

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_tokens_keeps_nobody_out() -> Result<()> {
    let served = served(json!({})).await?;
    let address = served.gateway.address;
    served
        .during(async {
            let mut attackers = JoinSet::new();
            for _ in 0..200 {
                attackers.spawn(async move {
                    let begun = Instant::now();
                    let client = Client { gateway: address.into(), base: String::new(), jwt: String::new() };
                    let mut refused = 0;
                    while begun.elapsed() < FOR {
                        let path = format!("/api/v1/sse/stream?token={:032x}", rand::random::<u128>());
                        let status = client.request(hyper::Method::GET, &path, &[]).await?.status;
                        ensure!(status == 401, "{status}");
                        refused += 1;
                    }
                    Ok(refused)
                });
            }
            let mut refused = 0;
            while let Some(attacker) = attackers.join_next().await {
                refused += attacker??;
            }
            println!("{refused} bad tokens refused");
            Ok(())
        })
        .await
}

/// Sends bytes again and again until the other side has had enough, or it was long; whether it ended.
async fn pour(socket: &mut TcpStream, mut bytes: impl FnMut() -> Vec<u8>) -> bool {
    let ended = async { while socket.write_all(&bytes()).await.is_ok() {} };
    timeout(FOR, ended).await.is_ok()
}

/// Opens streams and has each of them reset by the frame that follows, until a connection ends; again and again.
async fn rapid_reset(follows: impl Fn(u32) -> Vec<u8> + Copy) -> Result<()> {
    let served = served(json!({})).await?;
    let address = served.gateway.address;
    let attack = || async move {
        let (begun, mut ended) = (Instant::now(), 0);
        while begun.elapsed() < FOR {
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
            ended += usize::from(pour(&mut socket, burst).await);
        }
        println!("{ended} connections ended");
        ensure!(ended > 0, "no connection was ended");
        Ok(())
    };
    served.during(async { futures::future::try_join_all((0..4).map(|_| attack())).await.map(drop) }).await
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
    let attack = |question: Vec<u8>| async move {
        let connection = || async {
            let mut socket = frames::connect(address, 65_535).await?;
            socket.write_all(&frame(HEADERS, END_HEADERS, 1, &frames::get("/nothing", &[]))).await?;
            // Ended or held up: either costs the gateway nothing more.
            pour(&mut socket, || question.repeat(1000)).await;
            anyhow::Ok(())
        };
        futures::future::try_join_all((0..20).map(|_| connection())).await.map(drop)
    };
    served.during(async { futures::future::try_join_all(questions.map(attack)).await.map(drop) }).await
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
    let attack = |bomb: Vec<u8>| async move {
        let begun = Instant::now();
        while begun.elapsed() < FOR {
            let mut socket = frames::connect(address, 65_535).await?;
            socket.write_all(&frame(HEADERS, END_STREAM, 1, &frames::get("/", &[]))).await?;
            ensure!(pour(&mut socket, || bomb.repeat(100)).await, "{} bytes each time", bomb.len());
        }
        Ok(())
    };
    served.during(async { futures::future::try_join_all(bombs.map(attack)).await.map(drop) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_cost_little_and_streams_among_them_end() -> Result<()> {
    let served = served(json!({"writeTimeoutSeconds": 2, "maxConnectionsPerUser": 100})).await?;
    let address = served.gateway.address;
    let jwt = served.alice.with_claims("acme", "mallory", json!({})).jwt;
    let attack = |path: &'static str, jwt: Option<String>| async move {
        let authorization = jwt.map(|jwt| format!("Bearer {jwt}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let block = frames::get(path, &headers);
        let connection = || async {
            // No byte of an answer is let through.
            let mut socket = frames::connect(address, 0).await?;
            for stream in (1..200).step_by(2) {
                socket.write_all(&frame(HEADERS, FULL, stream, &block)).await?;
            }
            let ended = timeout(FOR, frames::until_end(&mut socket)).await;
            ensure!(ended.is_err(), "a connection like any other was ended: {ended:?}");
            anyhow::Ok(())
        };
        futures::future::try_join_all((0..50).map(|_| connection())).await.map(drop)
    };
    served.during(attack("/nothing", None)).await?;
    served.during(attack("/api/v1/sse/stream", Some(jwt))).await?;
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
