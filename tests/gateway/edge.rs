//! Clients that hold a connection and ask for nothing: how long they may, how many of them, and that nobody else
//! is kept out.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::frames::{self, HEADERS};
use sse_tests::h2::Http2;
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};
use sse_tests::raw::{Raw, Shape};
use sse_tests::{eventually, proc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
const NOTHING: &[u8] = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";

/// When the other side ends a connection that it is owed nothing on.
async fn ended(socket: &mut TcpStream) -> Result<Instant> {
    timeout(PATIENCE, async { while matches!(socket.read(&mut [0; 4096]).await, Ok(1..)) {} }).await?;
    Ok(Instant::now())
}

/// Sends bytes one by one, until they are sent or the other side has had enough.
async fn drip(socket: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        let gone = timeout(Duration::from_millis(100), socket.peek(&mut [0])).await;
        if matches!(gone, Ok(Ok(0) | Err(_))) || socket.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection_and_streams_stay() -> Result<()> {
    let nats = Nats::start().await?;
    let arguments = ["--head-timeout", "2", "--idle-timeout", "2"];
    let gateway = Gateway::start_with(&nats, json!({}), &arguments).await?;
    let alice = gateway.client("acme", "alice");
    let mut first = alice.open("").await?;
    let mut second = Http2::connect(gateway.address).await?;
    let body = second.open(&alice.jwt).await?;
    let headers = frames::frame(HEADERS, 0, 1, &frames::get("/nothing", &[]));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let slow = b"GET /api/v1/sse/stream HTTP/1.1\r\nHost: x\r\nX-Slow: 0123456789012345678901234567890123456789\r\n\r\n";
    let opening = [&preface[..], &frames::frame(frames::SETTINGS, 0, 0, &[])].concat();
    let unfinished = [&opening[..], &headers].concat();
    let cases = [
        ("nothing", &b""[..], &b""[..]),
        ("a beginning", &slow[..40], b""),
        ("byte by byte", b"", slow),
        ("half a preface", &preface[..12], b""),
        ("the preface byte by byte", b"", preface),
        ("HTTP/2 and no request", &opening, b""),
        ("HTTP/2 and half a request", &unfinished, b""),
        ("no HTTP", b"", &[b'\n'; 60]),
    ];
    let connections = cases.map(|(what, at_once, slowly)| async move {
        let mut socket = TcpStream::connect(gateway.address).await?;
        let begun = Instant::now();
        socket.write_all(at_once).await?;
        drip(&mut socket, slowly).await;
        let lived = ended(&mut socket).await.with_context(|| what.to_owned())? - begun;
        ensure!(lived > Duration::from_secs(1) && lived < Duration::from_secs(8), "{what}: {lived:?}");
        Ok(())
    });
    futures::future::try_join_all(connections).await?;
    // Older than any of them.
    nats.publisher().await?.publish("sse.acme.user.alice", "event").await?;
    assert_eq!(first.event().await?.data, "event");
    drop((second, body));
    Ok(())
}

#[tokio::test]
async fn a_connection_may_wait_longer_for_its_next_request_than_a_head_may_take() -> Result<()> {
    let nats = Nats::start().await?;
    let arguments = ["--head-timeout", "1", "--idle-timeout", "4"];
    let gateway = Gateway::start_with(&nats, json!({}), &arguments).await?;
    let asked = || async {
        let mut socket = TcpStream::connect(gateway.address).await?;
        socket.write_all(NOTHING).await?;
        let answer = socket.read(&mut [0; 4096]).await?;
        ensure!(answer > 0, "no answer");
        anyhow::Ok((socket, Instant::now()))
    };
    let silent = async {
        let (mut socket, answered) = asked().await?;
        let lived = ended(&mut socket).await? - answered;
        ensure!(lived > Duration::from_secs(3) && lived < Duration::from_secs(8), "silent: {lived:?}");
        anyhow::Ok(())
    };
    let used = async {
        let (mut socket, answered) = asked().await?;
        let mut now_and_then = interval(Duration::from_secs(2));
        now_and_then.tick().await;
        for _ in 0..3 {
            now_and_then.tick().await;
            socket.write_all(NOTHING).await?;
            ensure!(socket.read(&mut [0; 4096]).await? > 0, "a connection that is used was cut");
        }
        socket.write_all(&NOTHING[..10]).await?;
        let (begun, lived) = (Instant::now(), answered.elapsed());
        ensure!(lived > Duration::from_secs(5), "{lived:?}");
        let head = ended(&mut socket).await? - begun;
        ensure!(head < Duration::from_secs(3), "half a second head: {head:?}");
        anyhow::Ok(())
    };
    let http2 = async {
        let mut socket = frames::connect(gateway.address, 65_535).await?;
        let end = frames::END_STREAM | frames::END_HEADERS;
        socket.write_all(&frames::frame(HEADERS, end, 1, &frames::get("/nothing", &[]))).await?;
        let begun = Instant::now();
        let goaway = timeout(PATIENCE, frames::until_end(&mut socket)).await?.context("no goodbye")?;
        let lived = begun.elapsed();
        ensure!(goaway.payload[4..8] == [0; 4], "it is no error: {goaway:?}");
        ensure!(lived > Duration::from_secs(3) && lived < Duration::from_secs(8), "HTTP/2: {lived:?}");
        Ok(())
    };
    tokio::try_join!(silent, used, http2)?;
    Ok(())
}

#[tokio::test]
async fn idle_connections_beyond_the_open_files_go_and_nobody_is_kept_out() -> Result<()> {
    let nats = Nats::start().await?;
    // 200 are kept for other things.
    let gateway = Gateway::start_bounded(&nats, json!({}), Some(300), &[]).await?;
    let alice = gateway.client("acme", "alice");
    let mut before = alice.open("").await?;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(TcpStream::connect(gateway.address).await?);
    }
    eventually("the oldest to be cut", PATIENCE, || async {
        let open = proc::sockets(gateway.id()?)?;
        ensure!(open < 150, "{open} sockets");
        Ok(())
    })
    .await?;
    ensure!(ended(&mut idle[0]).await.is_ok(), "the oldest");
    let mut after = alice.open("").await?;
    nats.publisher().await?.publish("sse.acme.user.alice", "event").await?;
    assert_eq!((before.event().await?.data, after.event().await?.data), ("event".into(), "event".into()));
    // Who holds all streams that there is room for keeps nobody from being told.
    let mut streams = Vec::new();
    for user in 0..80 {
        let client = gateway.client("acme", &format!("user-{user}"));
        let Ok(stream) = client.open_bearer("", &[]).await else { break };
        streams.push(stream);
    }
    assert_eq!(streams.len(), 78, "80 of the 100 that are not kept, and alice has two");
    let refused = alice.open_bearer("", &[]).await.err().context("no room")?.to_string();
    assert!(refused.contains("503"), "{refused}");
    assert!(gateway.log().contains("Too many connections have no stream"));
    Ok(())
}

#[tokio::test]
async fn out_of_files_the_gateway_goes_on_accepting() -> Result<()> {
    let nats = Nats::start().await?;
    // Fewer than it counts on: what it has open by itself leaves a handful.
    let gateway = Gateway::start_bounded(&nats, json!({}), Some(48), &[]).await?;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(gateway.address).await?);
    }
    let mut stream = eventually("a stream among idle connections", PATIENCE, || async {
        let mut raw = Raw::open(gateway.address, &jwt("acme", "alice"), "", Shape::default()).await?;
        raw.opened().await?;
        Ok(raw)
    })
    .await?;
    nats.publisher().await?.publish("sse.acme.user.alice", "event").await?;
    assert_eq!(stream.next(PATIENCE).await?.context("an event")?.data, "event");
    Ok(())
}
