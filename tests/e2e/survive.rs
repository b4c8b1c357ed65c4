//! What is killed or changed under connected clients: pods, the spec; [`crate::alone`] has what all use. A client
//! that comes back with its cursor has every acknowledged event, once and in order.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join;
use serde_json::json;
use sse_tests::cluster::{Namespace, in_namespace, kubectl, prefix};
use sse_tests::outside::outside;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use End::StreamEnds;

/// Pace of the publisher: the disturbance must find it at work, from its first event to its last.
const PACE: Duration = Duration::from_millis(5);
/// The event after the disturbance, and after everything else.
const LAST: &str = "last";

/// What the disturbance does to the client's stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    StreamEnds,
    StreamMayStay,
}

/// Publishes for as long as `disturb` goes on, and follows one user through it.
pub async fn nothing_is_lost<F>(namespace: &Namespace, end: End, disturb: F) -> Result<()>
where
    F: AsyncFnOnce(&str) -> Result<()>,
{
    let pods = namespace.ready_pods("live").await?;
    let cursor = namespace.client_of(&pods[0], "acme", "alice").open("").await?.position().await?;
    let subject = format!("{}.acme.user.alice", prefix(&namespace.name));
    let over = AtomicBool::new(false);
    let run: u64 = rand::random();
    let publish = async {
        let (mut outside, mut published, mut pace) = (outside().await?, Vec::new(), interval(PACE));
        loop {
            pace.tick().await;
            let data = if over.load(Relaxed) { LAST.to_owned() } else { published.len().to_string() };
            let id = format!("acme:{run:x}:{data}");
            let sent = outside.publisher.publish_with(&subject, &[("Nats-Msg-Id", &id)], &data).await;
            match sent {
                Ok(_) if data == LAST => return Ok(published),
                Ok(_) => published.push(data),
                // The way to NATS was cut: take it anew. The message id makes it one event.
                Err(_) => outside = self::outside().await?,
            }
        }
    };
    let served = watch::Sender::new(0);
    let disturb = async {
        // The client hangs on the pod, and is being served.
        served.subscribe().wait_for(|served| *served >= 1).await?;
        disturb(&pods[0]).await?;
        if end == StreamEnds {
            let again = async { served.subscribe().wait_for(|served| *served >= 2).await.map(drop) };
            timeout(Duration::from_mins(1), again).await.context("the client's stream was not ended")??;
        }
        over.store(true, Relaxed);
        Ok(())
    };
    let follow = namespace.follow("live", "alice", cursor, LAST, &served);
    let (mut published, (seen, ())) = try_join(publish, try_join(follow, disturb)).await?;
    published.push(LAST.into());
    let first_wrong = seen.iter().zip(&published).find(|(seen, published)| seen != published);
    ensure!(seen == published, "{first_wrong:?} of {}", published.len());
    println!("{}: {} events over {} streams", namespace.name, published.len(), *served.borrow());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_under_a_client_loses_nothing() -> Result<()> {
    in_namespace("pod", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        for how in [&["--wait=false"][..], &["--grace-period=0", "--force", "--wait=false"]] {
            nothing_is_lost(namespace, StreamEnds, async |pod: &str| {
                let delete = ["-n", &namespace.name, "delete", "pod", pod];
                kubectl(&[&delete[..], how].concat()).await?;
                namespace.gone(pod).await?;
                namespace.wait_ready("live").await
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_spec_rolls_every_pod_and_loses_nothing() -> Result<()> {
    in_namespace("rollout", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let before = namespace.ready_pods("live").await?;
        nothing_is_lost(namespace, StreamEnds, async |_: &str| {
            let generation =
                namespace.patch("live", json!({"stream": {"heartbeatIntervalSeconds": 7}})).await?;
            namespace.rolled_out("live", generation).await
        })
        .await?;
        let after = namespace.ready_pods("live").await?;
        ensure!(after.len() == 2 && after.iter().all(|pod| !before.contains(pod)), "{before:?} {after:?}");
        // A value that equals the default changes nothing that runs.
        let generation = namespace.patch("live", json!({"token": {"ttlSeconds": 30}})).await?;
        namespace.rolled_out("live", generation).await?;
        let same = namespace.ready_pods("live").await?;
        ensure!(same.iter().all(|pod| after.contains(pod)), "{after:?} {same:?}");
        Ok(())
    })
    .await
}
