//! Two thousand clients of one gateway, who come to it through its Service from outside the cluster, and
//! come back when they are told to.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use sse_tests::cluster::Namespace;
use sse_tests::jwt::jwt;
use sse_tests::raw::Raw;
use sse_tests::secrets;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub const USERS: usize = 200;
/// As many as the default limit lets a user have: a place that is not given back is a refusal.
const CLIENTS_OF_A_USER: usize = 10;
pub const CLIENTS: usize = USERS * CLIENTS_OF_A_USER;
pub const TEAMS: usize = 20;
/// The event with which all of them leave.
pub const LAST: &str = "last";
/// Clients that come at once, in the beginning.
const ABREAST: usize = 64;
/// Something comes every second.
const PATIENCE: Duration = Duration::from_secs(20);
const READ: usize = 16 * 1024;
/// Clients take local ports from here on.
const FIRST_PORT: u16 = 33_000;

/// What one client was through.
pub struct Followed {
    pub client: usize,
    /// Sequence and data of each event.
    pub seen: Vec<(u64, String)>,
    pub came_back: Vec<Instant>,
}

pub const fn user(client: usize) -> usize {
    client % USERS
}

/// The address of a node.
pub async fn node(namespace: &Namespace) -> Result<IpAddr> {
    let nodes = Api::<Node>::all(namespace.client.clone()).list(&ListParams::default()).await?;
    let addresses = nodes.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let address = internal.filter_map(|address| address.address.parse().ok()).find(IpAddr::is_ipv4);
    address.context("an address of a node")
}

pub const fn team(client: usize) -> usize {
    user(client) % TEAMS
}

/// The port of a node that leads to a gateway's Service.
pub async fn address(namespace: &Namespace, gateway: &str) -> Result<SocketAddr> {
    let service = namespace.api::<Service>().get(gateway).await?.spec.context("a spec")?;
    let port = service.ports.iter().flatten().find_map(|port| port.node_port).context("a node's port")?;
    Ok((node(namespace).await?, u16::try_from(port)?).into())
}

/// What clients from outside the cluster find the gateway by: a port of the node, as a load balancer would.
pub struct Door {
    address: SocketAddr,
    /// Each connection has a port of its own, as those of two thousand machines have. A node keeps the way
    /// of a closed one for minutes, and would lead one from the same port to the same pod, though it is gone.
    next_port: AtomicU16,
}

impl Door {
    pub async fn of(namespace: &Namespace) -> Result<Self> {
        let address = address(namespace, "live").await?;
        Ok(Self { address, next_port: AtomicU16::new(FIRST_PORT) })
    }

    async fn connect(&self) -> Result<TcpStream> {
        loop {
            let port = self.next_port.fetch_add(1, Relaxed);
            ensure!(port >= FIRST_PORT, "every port was used");
            let socket = TcpSocket::new_v4()?;
            match socket.bind((Ipv4Addr::UNSPECIFIED, port).into()) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                bound => {
                    bound?;
                    return Ok(timeout(PATIENCE, socket.connect(self.address)).await??);
                }
            }
        }
    }

    async fn token(&self, jwt: &str) -> Result<String> {
        let mut socket = self.connect().await?;
        let request = format!(
            "POST /api/v1/sse/token HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {jwt}\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut answer)).await??;
        let body = answer.strip_prefix("HTTP/1.1 200").and_then(|rest| rest.split_once("\r\n\r\n"));
        let body: Value = serde_json::from_str(body.with_context(|| answer.clone())?.1)?;
        let token = body["token"].as_str().context("a token")?;
        secrets::credential(token);
        Ok(token.to_owned())
    }

    /// As the shipped client does it: a fresh token each time, and the cursor in the query.
    pub async fn open(&self, client: usize, jwt: &str, cursor: &str) -> Result<Raw> {
        let (token, team) = (self.token(jwt).await?, team(client));
        let request = format!(
            "GET /api/v1/sse/stream?token={token}&topics=team.{team}&lastEventId={cursor} HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let mut raw = Raw::send_on(self.connect().await?, &request).await?;
        raw.opened().await?;
        Ok(raw)
    }
}

/// Everybody at once, each with a stream.
pub struct Crowd {
    clients: JoinSet<Result<Followed>>,
}

impl Crowd {
    /// Opens all streams, and goes on with each of them.
    pub async fn enter(door: &Arc<Door>) -> Result<Self> {
        let enter = async |client: usize| {
            let jwt = jwt("acme", &format!("user-{}", user(client)));
            let raw = door.open(client, &jwt, "").await?;
            anyhow::Ok((client, jwt, raw))
        };
        let entered: Vec<_> =
            stream::iter(0..CLIENTS).map(enter).buffer_unordered(ABREAST).try_collect().await?;
        let mut clients = JoinSet::new();
        for (client, jwt, raw) in entered {
            let followed = follow(door.clone(), client, jwt, raw);
            clients.spawn(async move { followed.await.with_context(|| format!("client {client}")) });
        }
        Ok(Self { clients })
    }

    /// What they were through, once all have left.
    pub async fn followed(mut self) -> Result<Vec<Followed>> {
        let mut all = Vec::with_capacity(CLIENTS);
        while let Some(followed) = self.clients.join_next().await {
            all.push(followed??);
        }
        Ok(all)
    }
}

/// One client, from its first stream to the last event. A refusal, a cut, a `reset` are errors.
async fn follow(door: Arc<Door>, client: usize, jwt: String, mut raw: Raw) -> Result<Followed> {
    let mut followed = Followed { client, seen: Vec::new(), came_back: Vec::new() };
    loop {
        for event in raw.events() {
            ensure!(event.name == "message", "{event:?}");
            let sequence = event.id.split('-').nth(1).context("a cursor")?.parse()?;
            followed.seen.push((sequence, event.data));
        }
        if followed.seen.last().is_some_and(|(_, data)| data == LAST) {
            return Ok(followed);
        }
        if !raw.is_over() {
            let count = timeout(PATIENCE, raw.read(READ)).await.context("nothing came")??;
            ensure!(count > 0, "cut off");
            continue;
        }
        let retry = raw.retry.context("told to go, but not when to come back")?;
        sleep(Duration::from_millis(retry)).await;
        followed.came_back.push(Instant::now());
        raw = door.open(client, &jwt, &raw.id).await?;
    }
}
