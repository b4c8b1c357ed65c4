//! The end of a pod: unready, then every stream is told when to come back and ends between frames.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::frames::{self, ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, SETTINGS};
use sse_tests::process::{Gateway, Nats};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

#[tokio::test]
async fn sigterm_ends_every_stream_cleanly_within_the_window() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({"drain": {"windowSeconds": 3}})).await?;
    let mut streams = Vec::new();
    for user in 0..20 {
        streams.push(gateway.client("acme", &format!("user-{user}")).open("").await?);
    }
    gateway.terminate()?;
    eventually("unready", Duration::from_secs(2), || async {
        ensure!(gateway.get("/readyz").await?.0 == 503);
        Ok(())
    })
    .await?;
    // Endpoints still lead here for a moment: such a client is served, as EventSource gives up at a 503.
    streams.push(gateway.client("acme", "latecomer").open("").await?);
    eventually("handshakes refused", Duration::from_secs(5), || async {
        let answer = gateway.client("acme", "uninvited").ask_token().await?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(())
    })
    .await?;
    // A stream that is not ended yet still delivers.
    nats.publisher().await?.publish("sse.acme.all", "still here").await?;
    let mut delivered = 0;
    for stream in &mut streams {
        while let Some(event) = stream.next(Duration::from_secs(10)).await? {
            delivered += usize::from(event.data == "still here");
        }
        ensure!(stream.ended_cleanly == Some(true), "cut off");
        ensure!(stream.retry.is_some_and(|ms| (500..=1500).contains(&ms)), "{:?}", stream.retry);
    }
    ensure!(delivered > 0, "nothing was delivered while draining");
    ensure!(gateway.exit_code(Duration::from_secs(10)).await? == 0);
    Ok(())
}

#[tokio::test]
async fn a_connection_of_http2_is_told_to_go_before_its_streams_end() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({"drain": {"windowSeconds": 4}})).await?;
    let alice = gateway.client("acme", "alice");
    let authorization = format!("Bearer {}", alice.jwt);
    let block = frames::get("/api/v1/sse/stream", &[("authorization", &authorization)]);
    let mut socket = frames::connect(gateway.address, 65_535).await?;
    let mut expect = async |kind: u8, within: u64| {
        timeout(Duration::from_secs(within), async {
            loop {
                let came = frames::read(&mut socket).await?;
                match came.kind {
                    found if found == kind => return anyhow::Ok(came),
                    // Its answer is how the server learns that the goodbye has come.
                    PING if came.flags == 0 => {
                        socket.write_all(&frames::frame(PING, ACK, 0, &came.payload)).await?;
                    }
                    DATA => ensure!(came.flags & END_STREAM == 0, "the stream has ended before {kind}"),
                    SETTINGS if came.flags == 0 => {
                        let request = frames::frame(HEADERS, END_STREAM | END_HEADERS, 1, &block);
                        socket.write_all(&request).await?;
                    }
                    _ => {}
                }
            }
        })
        .await
        .with_context(|| format!("no frame of kind {kind}"))?
    };
    expect(HEADERS, 5).await?;
    gateway.terminate()?;
    assert_eq!(expect(GOAWAY, 10).await?.payload[4..8], [0; 4], "it is no error");
    ensure!(gateway.status().await?["connections"] == 1, "the stream ended with it");
    assert_eq!(expect(DATA, 10).await?.stream, 1, "until its turn");
    ensure!(gateway.exit_code(Duration::from_secs(15)).await? == 0);
    Ok(())
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() -> Result<()> {
    let nats = Nats::start().await?;
    let mut gateway = Gateway::start(&nats, json!({"drain": {"windowSeconds": 600}})).await?;
    let mut stream = gateway.client("acme", "alice").open("").await?;
    gateway.terminate()?;
    eventually("draining", Duration::from_secs(2), || async {
        ensure!(gateway.get("/readyz").await?.0 == 503);
        Ok(())
    })
    .await?;
    gateway.terminate()?;
    ensure!(gateway.exit_code(Duration::from_secs(10)).await? == 0);
    stream.to_end(Duration::from_secs(1)).await
}
