//! The load: first one that knows every number, then one that is worth looking at.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use hyper::Method;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, PostParams};
use rand::random_range;
use serde_json::json;
use sse_crds::SseGateway;
use sse_tests::client::{Client, Stream};
use sse_tests::cluster::{Namespace, SYSTEM, apply, kubectl, manifest, prefix};
use sse_tests::dashboards::asked::Expected;
use sse_tests::eventually;
use sse_tests::jwt::jwt;
use sse_tests::outside::{Outside, outside};
use sse_tests::raw::{Raw, Shape};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::crowd::address;

/// Streams of one pod, and of one user, at most.
pub const ROOM: u32 = 60;
pub const OF_A_USER: u32 = 3;

/// What the load did.
#[derive(Default)]
pub struct Known {
    pub open: f64,
    pub delivered: f64,
    replayed: f64,
    minted: f64,
    opened: f64,
    forbidden: f64,
    refused: f64,
    left: f64,
}

impl Known {
    /// What the panels show of it.
    pub fn expected(&self) -> Vec<Expected<'static>> {
        let result = |value| Some(("result", value));
        vec![
            ("Open streams", None, self.open),
            ("Room", None, f64::from(2 * ROOM) - self.open),
            ("Pods", None, 2.0),
            ("Pods that can serve", None, 2.0),
            ("Pods without NATS", None, 0.0),
            ("Draining pods", None, 0.0),
            ("Versions", None, 2.0),
            ("Connects by result", result("ok"), self.opened),
            ("Connects by result", result("forbidden"), self.forbidden),
            ("Connects by result", result("unauthorized"), self.refused),
            ("Connects by result", result("unavailable"), 0.0),
            ("Tokens by result", result("minted"), self.minted),
            ("Tokens by result", result("refused"), self.refused),
            ("Streams that end", Some(("reason", "client")), self.left),
            ("Events delivered", None, self.delivered),
            ("Events replayed", None, self.replayed),
            ("Share of replays", None, self.replayed / self.delivered),
        ]
    }
}

fn user(door: SocketAddr, number: u32) -> Client {
    Client::new(door, "acme", &format!("user-{number}"))
}

/// Streams that open through the Service, get events, come back, and are refused; eight stay.
pub async fn known(namespace: &Namespace) -> Result<(Known, Vec<Stream>)> {
    let (door, outside, prefix) =
        (address(namespace, "live").await?, outside().await?, prefix(&namespace.name));
    let mut known = Known::default();
    let clients: Vec<Client> = (0..8).map(|number| user(door, number)).collect();
    let mut streams = try_join_all(clients.iter().map(|client| client.open(""))).await?;
    for number in 0..20 {
        outside.publisher.publish(&format!("{prefix}.acme.all"), &number.to_string()).await?;
    }
    for stream in &mut streams {
        stream.until("19").await?;
    }
    let gone = streams.remove(0);
    let cursor = gone.last_id.clone();
    drop(gone);
    eventually("the place of the one that went", Duration::from_secs(10), || async {
        let mut open = 0;
        for pod in namespace.ready_pods("live").await? {
            let path = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/status", namespace.name);
            let status: serde_json::Value = serde_json::from_str(&kubectl(&["get", "--raw", &path]).await?)?;
            open += status["connections"].as_u64().context("a number of streams")?;
        }
        ensure!(open == 7, "{open}");
        Ok(())
    })
    .await?;
    for number in 0..4 {
        outside.publisher.publish(&format!("{prefix}.acme.user.user-0"), &number.to_string()).await?;
    }
    let mut back = clients[0].open(&cursor).await?;
    back.until("3").await?;
    streams.push(back);
    let token = format!("/api/v1/sse/stream?topics=secret&token={}", clients[1].token().await?);
    for (path, status) in
        [("/api/v1/sse/stream?token=no", 401), ("/api/v1/sse/stream?token=never", 401), (token.as_str(), 403)]
    {
        let answer = clients[1].request(Method::GET, path, &[]).await?;
        ensure!(answer.status == status, "{} {}", answer.status, answer.body);
    }
    known.open = 8.0;
    (known.opened, known.minted, known.left) = (9.0, 10.0, 1.0);
    (known.refused, known.forbidden) = (2.0, 1.0);
    (known.delivered, known.replayed) = (164.0, 4.0);
    Ok((known, streams))
}

/// How long the load goes on, and how it is shown.
pub struct Scene {
    pub pictures: PathBuf,
    /// What a rate looks back, at the least.
    pub rate: &'static str,
    length: Duration,
    clients: u32,
    /// Whether there is time for more than a rollout.
    long: bool,
}

impl Scene {
    /// A short one, unless pictures are wanted.
    pub fn new(pictures: Option<PathBuf>) -> Self {
        let long = pictures.is_some();
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/dashboards");
        let (rate, length, clients) = if long { ("20s", 420, 80) } else { ("10s", 10, 16) };
        let length = Duration::from_secs(length);
        Self { pictures: pictures.unwrap_or_else(|| target.into()), rate, length, clients, long }
    }

    /// Waits for a part of the whole.
    async fn until(&self, began: Instant, part: f64) {
        tokio::time::sleep_until((began + self.length.mul_f64(part)).into()).await;
    }
}

/// One browser: it comes, stays for a while, goes, and comes back with its cursor.
async fn browser(client: Client, scene_length: Duration, over: CancellationToken) {
    let mut cursor = String::new();
    let mut backoff = scene_length.mul_f64(random_range(0.0..0.2));
    while timeout(backoff, over.cancelled()).await.is_err() {
        backoff = Duration::from_millis(random_range(300..3_000));
        // A pod that goes, or NATS away: it tries again.
        let Ok(mut stream) = client.open(&cursor).await else { continue };
        let stay = scene_length.mul_f64(random_range(0.05..0.6));
        let read = async { while let Ok(Some(_)) = stream.next(Duration::from_secs(30)).await {} };
        let _ = timeout(stay, over.run_until_cancelled(read)).await;
        cursor.clone_from(&stream.last_id);
    }
}

/// Those that have no good token, or too many streams.
async fn strangers(door: SocketAddr, over: CancellationToken) {
    let mut pace = interval(Duration::from_millis(900));
    let greedy = Client::new(door, "acme", "greedy");
    let mut held = Vec::new();
    while over.run_until_cancelled(pace.tick()).await.is_some() {
        let _ = greedy.request(Method::GET, "/api/v1/sse/stream?token=no", &[]).await;
        if let Ok(stream) = greedy.open("").await {
            held.push(stream);
        }
        if held.len() > 8 {
            held.clear();
        }
    }
}

/// To users, to all, and now and then to nobody; through restarts of NATS.
async fn publish(prefixes: [String; 2], clients: u32, over: CancellationToken) -> Result<()> {
    let mut outside: Outside = outside().await?;
    let mut pace = interval(Duration::from_millis(25));
    let mut number = 0_u32;
    while over.run_until_cancelled(pace.tick()).await.is_some() {
        number += 1;
        let prefix = &prefixes[usize::from(number.is_multiple_of(4))];
        let to = match number % 40 {
            0 | 13 => "all".to_owned(),
            // A dead letter, once in a while.
            7 if number % 400 == 7 => "nowhere".to_owned(),
            _ => format!("user.user-{}", random_range(0..clients)),
        };
        if outside.publisher.publish(&format!("{prefix}.acme.{to}"), "something").await.is_err() {
            outside = sse_tests::outside::outside().await?;
        }
    }
    Ok(())
}

/// A client that reads nothing, and gets more than its buffers hold.
async fn stalled(door: SocketAddr, prefix: &str) -> Result<()> {
    let shape = Shape { receive_buffer: Some(2048) };
    let mut slow = Raw::open(door, &jwt("acme", "slow"), "", shape).await?;
    slow.opened().await?;
    let outside = outside().await?;
    let large = "x".repeat(15_000);
    let mut pace = interval(Duration::from_millis(20));
    for _ in 0..1_000 {
        pace.tick().await;
        outside.publisher.publish(&format!("{prefix}.acme.user.slow"), &large).await?;
    }
    Ok(())
}

/// A gateway whose Service is someone else's, and one without its key.
async fn troubles(namespace: &Namespace) -> Result<()> {
    let service = json!({"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 80}]}});
    namespace.api::<Service>().create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    apply(&manifest(&namespace.name, "taken", json!({"replicas": 1}))).await?;
    let issuer = json!([{"issuer": "https://late.test", "algorithms": ["HS256"], "keySecretRef": {"name": "late", "key": "key"}}]);
    let late = json!({"replicas": 1, "auth": {"issuers": issuer}});
    apply(&manifest(&namespace.name, "late", late)).await.map(drop)
}

/// What happens while the clients come and go.
async fn happenings(namespace: &Namespace, scene: &Scene, began: Instant) -> Result<()> {
    let (door, prefix) = (address(namespace, "live").await?, prefix(&namespace.name));
    if scene.long {
        scene.until(began, 0.1).await;
        troubles(namespace).await?;
    }
    scene.until(began, 0.3).await;
    let generation = namespace.patch("live", json!({"stream": {"heartbeatIntervalSeconds": 7}})).await?;
    namespace.rolled_out("live", generation).await?;
    if scene.long {
        scene.until(began, 0.45).await;
        for name in ["taken", "late"] {
            namespace.api::<SseGateway>().delete(name, &DeleteParams::default()).await?;
        }
        scene.until(began, 0.55).await;
        stalled(door, &prefix).await?;
        scene.until(began, 0.75).await;
        kubectl(&["-n", SYSTEM, "delete", "pod", "sse-gateway-nats-0", "--grace-period=5"]).await?;
        let ready = ["-n", SYSTEM, "rollout", "status", "statefulset/sse-gateway-nats", "--timeout=90s"];
        kubectl(&ready).await?;
    }
    scene.until(began, 1.0).await;
    Ok(())
}

/// Plays it: clients come and go, pods are replaced, and more if there is time.
pub async fn play(namespace: &Namespace, scene: &Scene) -> Result<()> {
    let (over, began, prefix) = (CancellationToken::new(), Instant::now(), prefix(&namespace.name));
    let (live, news) = (address(namespace, "live").await?, address(namespace, "news").await?);
    let mut browsers = JoinSet::new();
    for number in 0..scene.clients {
        browsers.spawn(browser(user(live, number), scene.length, over.clone()));
        if number.is_multiple_of(4) {
            browsers.spawn(browser(user(news, number), scene.length, over.clone()));
        }
    }
    browsers.spawn(strangers(live, over.clone()));
    let publisher = publish([prefix.clone(), format!("{prefix}_news")], scene.clients, over.clone());
    let happen = async {
        let happened = happenings(namespace, scene, began).await;
        over.cancel();
        happened
    };
    let (published, happened) = tokio::join!(publisher, happen);
    browsers.shutdown().await;
    happened.and(published)
}
