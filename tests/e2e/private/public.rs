//! The gateway's own certificate, from a Secret that is made when the gateway is there already, and renewed under it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::authority::Authority;
use sse_tests::client::{Client, Door};
use sse_tests::cluster::Namespace;
use sse_tests::eventually;
use sse_tests::h2::Http2;
use sse_tests::outside::Forward;
use tokio::time::timeout;

use super::server::{Nats, look_again, secret};
use super::{GATEWAY, Streams, starts};

/// The kubelet is told to look at once; by itself it does about once a minute.
const RENEWED: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(10);

/// Gives the gateway a new certificate of this authority.
pub async fn certify(namespace: &Namespace, authority: &Authority) -> Result<()> {
    let pair = authority.pair()?;
    secret(namespace, "live-tls", json!({"tls.crt": pair.certificate, "tls.key": pair.key})).await
}

/// A client of one pod, which trusts this authority.
pub fn client(namespace: &Namespace, pod: &str, jwt: &str, authority: &Authority) -> Result<Client> {
    let door = Door::PodTls(Box::new(namespace.api::<Pod>()), pod.to_owned(), authority.client("http/1.1")?);
    Ok(Client { jwt: jwt.to_owned(), ..Client::new(door, "", "") })
}

/// A stream of HTTP/2, which TLS has chosen, through the gateway's Service.
pub async fn is_served_through_the_service(
    namespace: &Namespace,
    nats: &Nats<'_>,
    streams: &Streams,
    authority: &Authority,
) -> Result<()> {
    let gateway = namespace.api::<SseGateway>().get("live").await?;
    let url = gateway.status.and_then(|status| status.url).context("a url")?;
    ensure!(url == format!("https://live.{}.svc:8080/api/v1/sse", namespace.name), "{url}");
    let forward = Forward::start(&namespace.name, "service/live", 8080).await?;
    let door = Door::Tls(forward.address.parse()?, authority.client("h2")?);
    let mut http2 = Http2::through(&door).await?;
    let mut stream = http2.open(&streams.jwt).await?;
    nats.connect("publisher").await?.publish(&streams.subject, "over HTTP/2").await?;
    timeout(SOON, until(&mut stream, "data: over HTTP/2\n\n")).await.context("no event over HTTP/2")?
}

/// Reads on until this came.
async fn until(stream: &mut Incoming, wanted: &str) -> Result<()> {
    let mut text = String::new();
    while let Some(frame) = stream.frame().await {
        text.push_str(&String::from_utf8_lossy(frame?.data_ref().map_or(&[], |data| data)));
        if text.contains(wanted) {
            return Ok(());
        }
    }
    bail!("the stream ended: {text}")
}

/// Another authority takes over: whoever comes is shown its certificate, no pod is replaced or started again, and the
/// streams of before go on.
pub async fn rotates(
    namespace: &Namespace,
    nats: &Nats<'_>,
    streams: &mut Streams,
    old: &Authority,
) -> Result<()> {
    let (before, new) = (starts(namespace).await?, Authority::new()?);
    certify(namespace, &new).await?;
    look_again(namespace, GATEWAY).await?;
    for pod in namespace.ready_pods("live").await? {
        let renewed = client(namespace, &pod, &streams.jwt, &new)?;
        let opened = eventually("the new certificate", RENEWED, || async { renewed.open("").await });
        drop(opened.await.with_context(|| pod.clone())?);
        let former = client(namespace, &pod, &streams.jwt, old)?.ask_token().await;
        ensure!(former.is_err(), "{pod} serves the old certificate");
    }
    nats.connect("publisher").await?.publish(&streams.subject, "renewed").await?;
    for stream in &mut streams.open {
        let seen = stream.until("renewed").await?;
        ensure!(seen == ["over HTTP/2", "renewed"], "{seen:?}");
    }
    let after = starts(namespace).await?;
    ensure!(before == after, "{before:?} {after:?}");
    Ok(())
}
