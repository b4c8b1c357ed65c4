//! Streams through each proxy of `docs/proxies`, by its own file: what the gateway writes arrives as it is, at once, for as
//! long as heartbeats come, and ends as the gateway ends it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method};
use serde_json::json;
use sse_tests::authority::Authority;
use sse_tests::client::Client;
use sse_tests::h2::{self, Http2};
use sse_tests::in_front::{InFront, Product};
use sse_tests::process::{Gateway, Nats};
use sse_tests::{eventually, secrets};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

/// Far less than the first heartbeat, with which a proxy that holds bytes back would let them go.
const AT_ONCE: Duration = Duration::from_secs(5);
const FIRST_BYTE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(100);
/// More than Envoy's circuit breakers, nginx' connections and the files of a shell allow by themselves.
const CROWD: usize = 1100;
/// Streams on one connection: each product allows as many.
const AT_A_TIME: usize = 100;

/// A gateway behind a proxy, and a user of it.
struct Site {
    proxy: InFront,
    gateway: Gateway,
    nats: Nats,
    authority: Authority,
    user: String,
}

impl Site {
    async fn open(product: Product) -> Result<Self> {
        let (nats, authority) = (Nats::start().await?, Authority::new()?);
        let patch = json!({"publish": {"enabled": true}, "limits": {"maxConnectionsPerUser": 2 * CROWD}});
        let gateway = Gateway::start(&nats, patch).await?;
        let proxy = product.start(gateway.address, &authority).await?;
        Ok(Self { proxy, gateway, nats, authority, user: format!("behind-{product}") })
    }

    fn client(&self) -> Result<Client> {
        let door = self.proxy.door(self.authority.client("http/1.1")?);
        let rights = json!({"publish": [format!("user.{}", self.user)]});
        Ok(Client::new(door, "acme", &self.user).with_claims("acme", &self.user, rights))
    }

    async fn http2(&self) -> Result<Http2> {
        Http2::through(&self.proxy.door(self.authority.client("h2")?)).await
    }

    async fn connections(&self, expected: usize) -> Result<()> {
        eventually("the count of streams", AT_ONCE, || async {
            let open = &self.gateway.status().await?["connections"];
            ensure!(open == expected, "{open} instead of {expected}");
            Ok(())
        })
        .await
    }
}

/// The same with each product, all at once. Whatever fails is told of all of them.
async fn with_each<T>(what: impl AsyncFn(Product) -> Result<T>) -> Result<Vec<T>> {
    let all = join_all(Product::ALL.map(|product| what(product))).await;
    let (done, failed): (Vec<_>, Vec<_>) =
        Product::ALL.into_iter().zip(all).partition(|(_, done)| done.is_ok());
    let failed =
        failed.into_iter().filter_map(|(product, done)| Some(format!("{product}: {:#}", done.err()?)));
    let failed: Vec<_> = failed.collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(done.into_iter().filter_map(|(_, done)| done.ok()).collect())
}

/// Reads the body of a stream of HTTP/2 until this text has come.
async fn until(body: &mut Incoming, text: &str, within: Duration) -> Result<String> {
    let mut came = String::new();
    let read = async {
        while !came.contains(text) {
            let frame = body.frame().await.context("the stream ended")??;
            came.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[], |data| data)));
        }
        anyhow::Ok(())
    };
    let read = timeout(within, read).await;
    read.with_context(|| format!("{text:?} did not come within {within:?}"))??;
    Ok(came)
}

fn is_whole(head: &HeaderMap) -> Result<()> {
    ensure!(head["content-type"] == "text/event-stream", "{head:?}");
    ensure!(head["cache-control"].to_str()?.contains("no-transform"), "{head:?}");
    ensure!(!head.contains_key("content-length") && !head.contains_key("content-encoding"), "{head:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_gateway_writes_comes_through_each_proxy_at_once() -> Result<()> {
    with_each(async |product| {
        let site = Site::open(product).await?;
        let (client, publisher) = (site.client()?, site.nats.publisher().await?);
        // One that holds bytes back does so each time; a busy machine does not.
        let mut first = eventually("a first byte", PATIENCE, || async {
            let path = format!("/api/v1/sse/stream?token={}", client.token().await?);
            let asked = Instant::now();
            let mut stream = client.open_at(&path).await?;
            stream.until_raw(":connected\n\n", FIRST_BYTE).await?;
            ensure!(asked.elapsed() < FIRST_BYTE, "{:?}", asked.elapsed());
            Ok(stream)
        })
        .await?;
        is_whole(&first.headers)?;
        let mut http2 = site.http2().await?;
        let mut second = timeout(AT_ONCE, http2.open(&client.jwt)).await.context("a first byte")??;
        // Nothing follows that could push an event on.
        for number in 0..5 {
            let text = format!("event {number}");
            publisher.publish(&format!("sse.acme.user.{}", site.user), &text).await?;
            let came = timeout(AT_ONCE, first.event()).await.with_context(|| text.clone())??;
            ensure!(came.data == text, "{came:?}");
            until(&mut second, &format!("data: {text}\n\n"), AT_ONCE).await?;
        }
        let large = "x".repeat(16_384);
        let answer = client.post(&format!("user.{}", site.user), &[], large.clone()).await?;
        ensure!(answer.status == 202, "{answer:?}");
        ensure!(first.event().await?.data == large);
        until(&mut second, &format!("data: {large}\n\n"), AT_ONCE).await?;
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn who_leaves_a_proxy_leaves_the_gateway_at_once() -> Result<()> {
    with_each(async |product| {
        let site = Site::open(product).await?;
        let client = site.client()?;
        let first = client.open("").await?;
        let mut http2 = site.http2().await?;
        let second = http2.open(&client.jwt).await?;
        site.connections(2).await?;
        drop(first);
        site.connections(1).await?;
        // The connection stays, as a browser's does when a tab is closed.
        drop(second);
        site.connections(0).await?;
        drop(http2);
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn a_drain_passes_each_proxy_cleanly_and_no_log_has_a_token() -> Result<()> {
    with_each(async |product| {
        let mut site = Site::open(product).await?;
        let client = site.client()?;
        let late = format!("/api/v1/sse/stream?token={}", client.token().await?);
        let mut first = client.open("").await?;
        let mut http2 = site.http2().await?;
        let second = http2.open(&client.jwt).await?;
        site.gateway.terminate()?;
        first.to_end(PATIENCE).await?;
        ensure!(first.ended_cleanly == Some(true), "cut off after {:?}", String::from_utf8_lossy(&first.raw));
        ensure!(String::from_utf8_lossy(&first.raw).contains("\nretry: "), "no retry");
        let (clean, text) = timeout(PATIENCE, h2::to_end(second)).await.context("HTTP/2: it goes on")?;
        ensure!(clean && text.contains("retry: "), "clean: {clean}, {text:?}");
        ensure!(site.gateway.exit_code(PATIENCE).await? == 0);
        // A gateway that is away is what proxies tell most about.
        let away = client.request(Method::GET, &late, &[]).await?;
        ensure!([502, 503, 504].contains(&away.status.as_u16()), "{away:?}");
        eventually("its log", PATIENCE, || async {
            let log = site.proxy.log();
            ensure!(log.matches("/api/v1/sse/stream").count() >= 3, "{log}");
            Ok(())
        })
        .await?;
        secrets::search([("log", site.proxy.log().as_bytes())])
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn a_pod_that_dies_is_a_cut_and_no_end() -> Result<()> {
    with_each(async |product| {
        let mut site = Site::open(product).await?;
        let client = site.client()?;
        let mut first = client.open("").await?;
        let mut http2 = site.http2().await?;
        let second = http2.open(&client.jwt).await?;
        site.gateway.kill().await?;
        first.to_end(PATIENCE).await?;
        ensure!(first.ended_cleanly == Some(false), "HTTP/1.1: it looks like an end");
        let (clean, _) = timeout(PATIENCE, h2::to_end(second)).await.context("HTTP/2: it goes on")?;
        // HAProxy 2.6 ends streams of HTTP/2 as if they were whole; clients come back from either.
        ensure!(!clean || matches!(product, Product::HaProxy), "HTTP/2: it looks like an end");
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn more_streams_than_proxies_allow_by_themselves_are_open_at_once() -> Result<()> {
    with_each(async |product| {
        let site = Site::open(product).await?;
        let (client, mut open) = (site.client()?, Vec::new());
        while open.len() * AT_A_TIME < CROWD {
            let mut http2 = site.http2().await?;
            let mut streams = Vec::new();
            for number in 0..AT_A_TIME {
                let stream = http2.open(&client.jwt).await;
                streams.push(stream.with_context(|| format!("{} and {number}", open.len() * AT_A_TIME))?);
            }
            open.push((http2, streams));
        }
        site.connections(CROWD).await
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn silence_of_a_hundred_seconds_is_survived_by_heartbeats() -> Result<()> {
    let (nats, authority) = (Nats::start().await?, Authority::new()?);
    let gateway = Gateway::start(&nats, json!({})).await?;
    let publisher = nats.publisher().await?;
    let waited = with_each(async |product| {
        let proxy = product.start(gateway.address, &authority).await?;
        let client =
            Client::new(proxy.door(authority.client("http/1.1")?), "acme", &format!("quiet-{product}"));
        let mut first = client.open("").await?;
        let mut http2 = Http2::through(&proxy.door(authority.client("h2")?)).await?;
        let mut second = http2.open(&client.jwt).await?;
        // Both are read all the time, so that nothing waits anywhere.
        let (came, missed) = tokio::join!(first.next(SILENCE), until(&mut second, "data: ", SILENCE));
        ensure!(came.is_err() && first.ended_cleanly.is_none(), "{came:?}, ended: {:?}", first.ended_cleanly);
        let missed = missed.expect_err("nothing was published");
        // It was waited for in vain, and not cut off.
        ensure!(missed.is::<Elapsed>(), "{missed:#}");
        let beats = String::from_utf8_lossy(&first.raw).matches(":heartbeat\n\n").count();
        ensure!((5..=7).contains(&beats), "{beats} heartbeats");
        Ok((proxy, http2, first, second))
    })
    .await?;
    publisher.publish("sse.acme.all", "after the silence").await?;
    for (proxy, _http2, mut first, mut second) in waited {
        let arrived = async {
            ensure!(timeout(AT_ONCE, first.event()).await??.data == "after the silence");
            until(&mut second, "data: after the silence\n\n", AT_ONCE).await
        };
        arrived.await.with_context(|| proxy.product.to_string())?;
    }
    Ok(())
}
