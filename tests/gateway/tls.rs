//! TLS on the public port, by a certificate of an authority that is made for the test.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use sse_tests::authority::{Authority, Pair};
use sse_tests::client::{Client, Door};
use sse_tests::h2::Http2;
use sse_tests::process::{Gateway, Nats, merge};
use sse_tests::{eventually, proc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

fn unready(nats: &Nats, patch: Value) -> Result<Gateway> {
    let mut spec = json!({"tls": {"secretName": "cert"}});
    merge(&mut spec, patch);
    Gateway::start_unready(nats, "tests/gateway", spec)
}

async fn ready(nats: &Nats, authority: &Authority, patch: Value) -> Result<Gateway> {
    let gateway = unready(nats, patch)?;
    put(&gateway, &authority.pair()?)?;
    gateway.ready().await?;
    Ok(gateway)
}

fn put(gateway: &Gateway, pair: &Pair) -> Result<()> {
    gateway.write_secret("cert", "tls.crt", &pair.certificate)?;
    gateway.write_secret("cert", "tls.key", &pair.key)
}

/// A way in for those who trust the authority.
fn door(gateway: &Gateway, authority: &Authority, protocol: &str) -> Result<Door> {
    Ok(Door::Tls(gateway.address, authority.client(protocol)?))
}

fn alice(gateway: &Gateway, authority: &Authority) -> Result<Client> {
    Ok(Client { gateway: door(gateway, authority, "http/1.1")?, ..gateway.client("acme", "alice") })
}

async fn connections(gateway: &Gateway, expected: u64) -> Result<()> {
    eventually("the count of streams", PATIENCE, || async {
        let open = &gateway.status().await?["connections"];
        ensure!(open == expected, "{open}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn streams_come_over_tls_by_either_protocol_and_plain_http_is_not_served() -> Result<()> {
    let (nats, authority) = (Nats::start().await?, Authority::new()?);
    let gateway = ready(&nats, &authority, json!({})).await?;
    let publisher = nats.publisher().await?;
    let alice = alice(&gateway, &authority)?;
    let mut first = alice.open("").await?;
    for absent in ["connection", "content-length", "content-encoding"] {
        assert!(!first.headers.contains_key(absent), "{absent}");
    }
    let mut http2 = Http2::through(&door(&gateway, &authority, "h2")?).await?;
    let second = http2.open(&alice.jwt).await?;
    publisher.publish("sse.acme.user.alice", "one").await?;
    assert_eq!(first.event().await?.data, "one");
    assert!(first.raw.starts_with(b":connected\n\n"));
    // The events that it missed come within TLS, too.
    let cursor = first.last_id.clone();
    drop(first);
    publisher.publish("sse.acme.user.alice", "two").await?;
    let mut again = alice.open(&cursor).await?;
    assert_eq!(again.until("two").await?, ["two"]);
    // A client that leaves is noticed by its leave.
    connections(&gateway, 2).await?;
    drop((second, http2));
    connections(&gateway, 1).await?;

    let plain = gateway.client("acme", "alice");
    assert!(plain.ask_token().await.is_err());
    assert!(Http2::connect(gateway.address).await?.open(&alice.jwt).await.is_err());
    let stranger = Client { gateway: door(&gateway, &Authority::new()?, "http/1.1")?, ..alice.clone() };
    assert!(stranger.ask_token().await.is_err(), "another authority is trusted");
    let missing = alice.request(Method::GET, "/nothing", &[]).await?;
    assert_eq!(missing.status, 404);
    assert!(gateway.log().contains("The certificate of the public port was read."));
    Ok(())
}

#[tokio::test]
async fn a_rotated_certificate_needs_no_restart_and_ends_no_stream() -> Result<()> {
    let (nats, old, new) = (Nats::start().await?, Authority::new()?, Authority::new()?);
    let gateway = ready(&nats, &old, json!({})).await?;
    let publisher = nats.publisher().await?;
    let mut stream = alice(&gateway, &old)?.open("").await?;
    put(&gateway, &new.pair()?)?;
    let (before, after) = (alice(&gateway, &old)?, alice(&gateway, &new)?);
    let mut other = eventually("the new certificate", PATIENCE, || async { after.open("").await }).await?;
    ensure!(before.ask_token().await.is_err(), "the old certificate still serves");
    publisher.publish("sse.acme.user.alice", "event").await?;
    assert_eq!((stream.event().await?.data, other.event().await?.data), ("event".into(), "event".into()));
    Ok(())
}

#[tokio::test]
async fn a_missing_or_wrong_pair_is_named_and_heals_and_the_last_good_one_serves_on() -> Result<()> {
    let (nats, authority) = (Nats::start().await?, Authority::new()?);
    let gateway = unready(&nats, json!({}))?;
    let told = |list: &'static str, what: &'static str| {
        let gateway = &gateway;
        eventually("what is wrong to be told", PATIENCE, move || async move {
            let status = gateway.status().await?;
            ensure!(status[list].to_string().contains(what), "{what}: {status}");
            Ok(status["ready"] == true)
        })
    };
    let (good, other) = (authority.pair()?, authority.pair()?);
    assert!(!told("missingSecrets", "tls.secretName: cert/tls.crt").await?);
    assert!(!told("missingSecrets", "tls.secretName: cert/tls.key").await?);
    let alice = alice(&gateway, &authority)?;
    assert!(alice.ask_token().await.is_err());
    assert!(gateway.client("acme", "alice").ask_token().await.is_err(), "plain HTTP instead");
    put(&gateway, &Pair { certificate: good.certificate.clone(), key: other.key.clone() })?;
    assert!(!told("problems", "tls.secretName: cert: tls.key is not the key of tls.crt").await?);
    assert!(alice.ask_token().await.is_err());
    put(&gateway, &Pair { certificate: "garbage in the file".into(), key: good.key.clone() })?;
    assert!(!told("problems", "tls.secretName: cert: tls.crt holds no certificate (PEM)").await?);
    put(&gateway, &good)?;
    gateway.ready().await?;
    assert_eq!(gateway.status().await?["problems"], json!([]));
    alice.token().await?;

    gateway.write_secret("cert", "tls.key", "nothing of a key")?;
    assert!(told("warnings", "tls.secretName: cert: tls.key holds no private key (PEM)").await?);
    alice.token().await?;
    put(&gateway, &other)?;
    assert!(told("warnings", "[]").await?);
    alice.token().await?;
    Ok(())
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut() -> Result<()> {
    let (nats, authority) = (Nats::start().await?, Authority::new()?);
    let gateway = ready(&nats, &authority, json!({})).await?;
    // Nothing; the head of a record that does not come; a record whose handshake is not whole.
    let begun = [&b""[..], &[22, 3, 1, 2, 0], &[22, 3, 1, 0, 4, 1, 0, 1, 0]];
    let cut = begun.map(|bytes| async move {
        let mut socket = TcpStream::connect(gateway.address).await?;
        let begun = Instant::now();
        socket.write_all(bytes).await?;
        let ended = async { while matches!(socket.read(&mut [0; 512]).await, Ok(1..)) {} };
        timeout(PATIENCE, ended).await.with_context(|| format!("{bytes:?}"))?;
        let lived = begun.elapsed();
        ensure!(lived > Duration::from_secs(8) && lived < Duration::from_secs(16), "{bytes:?}: {lived:?}");
        Ok(())
    });
    futures::future::try_join_all(cut).await.map(drop)
}

#[tokio::test]
async fn who_takes_nothing_over_tls_is_cut_as_anybody() -> Result<()> {
    let (nats, authority) = (Nats::start().await?, Authority::new()?);
    let gateway = ready(&nats, &authority, json!({"limits": {"writeTimeoutSeconds": 2}})).await?;
    let mut stalled = alice(&gateway, &authority)?.open_bearer("", &[]).await?;
    let opened = proc::sockets(gateway.id()?)?;
    let publisher = nats.publisher().await?;
    let event = "x".repeat(16_000);
    for _ in 0..1000 {
        publisher.publish("sse.acme.user.alice", &event).await?;
    }
    connections(&gateway, 0).await?;
    let metrics = gateway.get("/metrics").await?.1;
    let ended = r#"sse_server_connection_duration_seconds_count{reason="write_timeout"} 1"#;
    ensure!(metrics.contains(ended), "{metrics}");
    eventually("its socket to be closed", PATIENCE, || async {
        let open = proc::sockets(gateway.id()?)?;
        ensure!(open < opened, "{open} sockets");
        Ok(())
    })
    .await?;
    // Not even the end of the body: the connection is gone.
    while let Ok(Some(_)) = stalled.next(PATIENCE).await {}
    assert_eq!(stalled.ended_cleanly, Some(false));
    Ok(())
}
