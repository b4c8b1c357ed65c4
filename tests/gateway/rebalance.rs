//! `scaling.rebalance`: what pods that are added change for the clients of those that were there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use sse_tests::balancer::Balancer;
use sse_tests::eventually;
use sse_tests::follower::{Followed, LAST, follow, most_within};
use sse_tests::frames::{self, ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, SETTINGS};
use sse_tests::jwt::jwt;
use sse_tests::process::{Gateway, Nats};
use sse_tests::raw::{Raw, Shape};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

const CLIENTS: usize = 300;
const PACE: Duration = Duration::from_millis(250);
/// Streams younger than 20 s stay, and 200 of 300 go by at most three in a hundred a second.
const EVEN: Duration = Duration::from_mins(3);

async fn streams(gateway: &Gateway) -> Result<u64> {
    gateway.status().await?["connections"].as_u64().context("a number of streams")
}

async fn open(balancer: &Balancer, jwt: &str, cursor: &str) -> Result<Raw> {
    let mut raw = Raw::open(balancer.address, jwt, cursor, Shape::default()).await?;
    raw.opened().await?;
    Ok(raw)
}

/// A gateway of one pod, found through a balancer.
async fn first_pod(nats: &Nats, name: &str, spec: &Value) -> Result<(Gateway, Balancer)> {
    let gateway = Gateway::start_unready(nats, name, spec.clone())?;
    gateway.ready().await?;
    let balancer = Balancer::start(vec![gateway.address]).await?;
    Ok((gateway, balancer))
}

/// Ends with an event that says so, once the pods are even; returns how many streams each has.
async fn publish_until_even(nats: &Nats, pods: &[&Gateway]) -> Result<(u64, Vec<u64>)> {
    let publisher = nats.publisher().await?;
    let even = eventually("pods within 20 %", EVEN, || async {
        let streams = try_join_all(pods.iter().map(|pod| streams(pod))).await?;
        let (most, fewest) = (streams.iter().max().context("a pod")?, streams.iter().min().context("a pod")?);
        let all = streams.iter().sum::<u64>() == CLIENTS as u64;
        ensure!(all && (most - fewest) * 5 <= *most, "{streams:?}");
        Ok(streams)
    });
    let mut even = std::pin::pin!(even);
    let (mut pace, mut number) = (interval(PACE), 0_u64);
    loop {
        tokio::select! {
            even = &mut even => {
                publisher.publish("sse.acme.all", LAST).await?;
                return Ok((number, even?));
            }
            _ = pace.tick() => {
                publisher.publish("sse.acme.all", &number.to_string()).await?;
                number += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_join_get_their_share_gently_and_no_event_is_lost_or_comes_twice() -> Result<()> {
    let nats = Nats::start().await?;
    // One alone tells of each stream that opens and ends.
    let on = json!({"scaling": {"rebalance": true}, "logging": {"level": "info"}});
    let off = json!({"nats": {"subjectPrefix": "off"}});
    let (first, balancer) = first_pod(&nats, "tests/on", &on).await?;
    let (fixed, to_fixed) = first_pod(&nats, "tests/off", &off).await?;
    let mut clients = JoinSet::new();
    let balancer = std::sync::Arc::new(balancer);
    for client in 0..CLIENTS {
        let (balancer, jwt) = (balancer.clone(), jwt("acme", &format!("user-{client}")));
        let raw = open(&balancer, &jwt, "").await?;
        let open = async move |cursor: &str| open(&balancer, &jwt, cursor).await;
        clients.spawn(follow(raw, open, CancellationToken::new()));
    }
    let mut others = Vec::new();
    for client in 0..CLIENTS / 10 {
        others.push(open(&to_fixed, &jwt("acme", &format!("user-{client}")), "").await?);
    }
    ensure!(streams(&first).await? == CLIENTS as u64);

    let (mut second, mut third) = (
        Gateway::start_unready(&nats, "tests/on", on.clone())?,
        Gateway::start_unready(&nats, "tests/on", on)?,
    );
    let beside_fixed = Gateway::start_unready(&nats, "tests/off", off)?;
    for (pod, balancer) in [(&second, &*balancer), (&third, &balancer), (&beside_fixed, &to_fixed)] {
        pod.ready().await?;
        balancer.add(pod.address);
    }
    let (published, even) = publish_until_even(&nats, &[&first, &second, &third]).await?;
    let mut all = Vec::<Followed>::new();
    while let Some(followed) = clients.join_next().await {
        all.push(followed??);
    }
    ensure!(all.iter().all(|client| client.seen == published), "somebody saw fewer than {published} events");
    let times: Vec<_> = all.iter().flat_map(|client| client.sent_away.clone()).collect();
    let (total, quickest) = (times.len(), most_within(times, Duration::from_secs(10)));
    let often = all.iter().map(|client| client.sent_away.len()).max().unwrap_or_default();
    println!(
        "{CLIENTS} clients became {even:?}: sent away {total} times, {often} of one at most, {quickest} in ten seconds"
    );
    // Three in a hundred a second; and some seconds more, in which this process may have been held up.
    ensure!(quickest <= CLIENTS * 3 / 100 * 13, "{quickest} were sent away in ten seconds");
    ensure!(total <= CLIENTS * 3 / 2, "{total} times somebody was sent away");

    // In all this time nobody was sent away where that was not chosen.
    ensure!(streams(&fixed).await? == CLIENTS as u64 / 10 && streams(&beside_fixed).await? == 0);
    let metrics = fixed.get("/metrics").await?.1;
    ensure!(metrics.contains("connection_duration_seconds_count{reason=\"rebalance\"} 0"), "{metrics}");
    // A pod that drains says so.
    drop(others);
    second.terminate()?;
    third.terminate()?;
    ensure!(
        second.exit_code(Duration::from_secs(20)).await? == 0
            && third.exit_code(Duration::from_secs(20)).await? == 0
    );
    Ok(())
}

#[tokio::test]
async fn a_connection_of_http2_is_told_to_go_with_the_first_of_its_streams() -> Result<()> {
    const STREAMS: u32 = 30;
    let nats = Nats::start().await?;
    let spec = json!({"scaling": {"rebalance": true}, "limits": {"maxConnectionsPerUser": STREAMS},
        "stream": {"heartbeatIntervalSeconds": 5}});
    let hot = Gateway::start(&nats, spec.clone()).await?;
    let authorization = format!("Bearer {}", hot.client("acme", "alice").jwt);
    let block = frames::get("/api/v1/sse/stream", &[("authorization", &authorization)]);
    let mut socket = frames::connect(hot.address, 65_535).await?;
    for stream in 0..STREAMS {
        let request = frames::frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &block);
        socket.write_all(&request).await?;
    }
    let _cold = Gateway::start(&nats, spec).await?;
    let (mut goodbye, mut ended, mut alive) = (false, Vec::new(), 0);
    let told = async {
        // It is told before it comes back, and the others' streams go on until it is their turn.
        while !goodbye || ended.is_empty() || alive == 0 {
            let came = frames::read(&mut socket).await?;
            match came.kind {
                GOAWAY => goodbye = true,
                PING | SETTINGS if came.flags == 0 => {
                    socket
                        .write_all(&frames::frame(
                            came.kind,
                            ACK,
                            0,
                            if came.kind == PING { &came.payload } else { &[] },
                        ))
                        .await?;
                }
                DATA if came.flags & END_STREAM != 0 => ended.push(came.stream),
                DATA if String::from_utf8_lossy(&came.payload).contains(":heartbeat") && goodbye => {
                    alive += usize::from(!ended.contains(&came.stream));
                }
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_mins(1), told).await.context("not told to go")??;
    eventually("a pod that is about even", Duration::from_mins(1), || async {
        let left = streams(&hot).await?;
        ensure!((u64::from(STREAMS) / 2..=u64::from(STREAMS) / 2 + 10).contains(&left), "{left}");
        Ok(())
    })
    .await
}
