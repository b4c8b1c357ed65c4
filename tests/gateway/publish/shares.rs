//! One tenant's publishers keep nobody else's out.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::eventually;
use sse_tests::process::Nats;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{EVENTS, gateway, place, service};

/// As large as NATS takes events: 64 of them may be on their way, and one half of that for one tenant.
const LARGEST: u32 = 1024 * 1024;
const SHARE: usize = 32;

#[tokio::test]
async fn bodies_that_never_come_whole_hold_up_the_tenant_that_sends_them_and_no_other() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({"limits": {"maxPayloadBytes": LARGEST}})).await?;
    let (acme, other) = (service(&gateway, "acme", &json!("all")), service(&gateway, "other", &json!("all")));
    let head = format!(
        "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nSse-Subject: all\r\nContent-Length: 9\r\n\r\nx",
        acme.jwt
    );
    let drip = || async {
        let mut socket = TcpStream::connect(gateway.address).await?;
        socket.write_all(head.as_bytes()).await?;
        anyhow::Ok(socket)
    };
    let mut dripping = Vec::new();
    for _ in 0..SHARE {
        dripping.push(drip().await?);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = acme.post("all", &[], "one more").await?;
        if answer.status == 503 && answer.headers.contains_key("retry-after") {
            break;
        }
        ensure!(answer.status == 202 && Instant::now() < deadline, "there is room for more: {answer:?}");
        // It may have had the room of one that was refused for it.
        dripping.push(drip().await?);
    }
    place(&other.post("all", &[], "of another tenant").await?)?;
    // Who hung up holds nothing.
    drop(dripping);
    eventually("room again", Duration::from_secs(5), || async {
        place(&acme.post("all", &[], "room again").await?)
    })
    .await?;
    Ok(())
}
