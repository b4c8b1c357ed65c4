//! A client as a browser is one: HTTP/1.1 on a socket of its own, and a parser by the letter of the
//! standard. Nothing here is shared with the gateway's code.

mod stream;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{Domain, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{authority, secrets};
use stream::Parser;

const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes, of a narrow socket.
const RECEIVE_BUFFER: usize = 2048;
const SEGMENT: u32 = 536;

/// How a gateway is reached.
#[derive(Clone)]
pub enum Door {
    Address(SocketAddr),
    /// By a socket that takes little ahead of its reader: one that stalls is felt at once.
    Narrow(SocketAddr),
    /// Within TLS.
    Tls(SocketAddr, Arc<ClientConfig>),
    /// One certain pod of a cluster, by port-forward: whatever the cluster, whatever its network.
    Pod(Box<Api<Pod>>, String),
    /// The same, within TLS.
    PodTls(Box<Api<Pod>>, String, Arc<ClientConfig>),
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

pub(crate) trait Transport: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

impl Door {
    pub(crate) async fn connect(&self) -> Result<Pin<Box<dyn Transport>>> {
        match self {
            Self::Address(address) => Ok(Box::pin(TcpStream::connect(address).await?)),
            Self::Tls(address, config) => within_tls(TcpStream::connect(address).await?, config).await,
            Self::Narrow(address) => {
                let socket = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                // Before the handshake: the other side sizes its buffer by what it is told there.
                socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
                socket.set_tcp_mss(SEGMENT)?;
                socket.set_nonblocking(true)?;
                let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
                Ok(Box::pin(socket.connect(*address).await?))
            }
            Self::Pod(pods, name) => {
                let mut forward = pods.portforward(name, &[8080]).await?;
                Ok(Box::pin(forward.take_stream(8080).context("a forwarded port")?))
            }
            Self::PodTls(pods, name, config) => {
                let mut forward = pods.portforward(name, &[8080]).await?;
                within_tls(forward.take_stream(8080).context("a forwarded port")?, config).await
            }
        }
    }
}

/// Whoever serves has a certificate of the authority for loopback, and chooses the protocol that is offered.
async fn within_tls(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    config: &Arc<ClientConfig>,
) -> Result<Pin<Box<dyn Transport>>> {
    let name = ServerName::try_from(authority::NAME)?;
    let stream = TlsConnector::from(config.clone()).connect(name, socket).await?;
    let chosen = stream.get_ref().1.alpn_protocol();
    ensure!(chosen == config.alpn_protocols.first().map(Vec::as_slice), "{chosen:?} was chosen");
    Ok(Box::pin(stream))
}

/// A user of a gateway.
#[derive(Clone)]
pub struct Client {
    pub gateway: Door,
    pub base: String,
    pub jwt: String,
}

/// An answer with its body read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// An event, as a browser would dispatch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
    pub id: String,
}

/// An open stream.
pub struct Stream {
    pub headers: HeaderMap,
    body: Incoming,
    connection: JoinHandle<()>,
    parser: Parser,
    /// Everything that came, as it came.
    pub raw: Vec<u8>,
    /// The cursor that the client would come back with.
    pub last_id: String,
    /// What `retry:` said last.
    pub retry: Option<u64>,
    /// How the stream ended: by its last chunk, or cut off.
    pub ended_cleanly: Option<bool>,
    /// The line is cut after so many bytes more, wherever in a frame that is.
    pub cut_after: Option<usize>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    #[must_use]
    pub fn new(gateway: impl Into<Door>, tenant: &str, user: &str) -> Self {
        Self { gateway: gateway.into(), base: "/api/v1/sse".into(), jwt: crate::jwt::jwt(tenant, user) }
    }

    /// The same user, with more claims in the credential.
    #[must_use]
    pub fn with_claims(&self, tenant: &str, user: &str, claims: serde_json::Value) -> Self {
        Self { jwt: crate::jwt::jwt_with(tenant, user, claims), ..self.clone() }
    }

    /// Any request, with its answer read to the end.
    ///
    /// # Errors
    ///
    /// When the gateway does not answer in time.
    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.request_with(method, path, headers, "").await
    }

    /// The same, with a body.
    ///
    /// # Errors
    ///
    /// When the gateway does not answer in time.
    pub async fn request_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let (response, connection) = send(&self.gateway, method, path, headers, body.into()).await?;
        let (head, body) = response.into_parts();
        let body = timeout(DEADLINE, body.collect()).await??.to_bytes();
        connection.abort();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Publishes to a subject below the tenant, over HTTP.
    ///
    /// # Errors
    ///
    /// When the gateway does not answer in time.
    pub async fn post(
        &self,
        subject: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let authorization = format!("Bearer {}", self.jwt);
        let mut all = vec![("authorization", authorization.as_str()), ("sse-subject", subject)];
        all.extend_from_slice(headers);
        self.request_with(Method::POST, &format!("{}/events", self.base), &all, body).await
    }

    /// The answer of the token endpoint.
    ///
    /// # Errors
    ///
    /// When the gateway does not answer in time.
    pub async fn ask_token(&self) -> Result<Answer> {
        let authorization = format!("Bearer {}", self.jwt);
        let path = format!("{}/token", self.base);
        let answer = self.request(Method::POST, &path, &[("authorization", &authorization)]).await?;
        let body = serde_json::from_str::<serde_json::Value>(&answer.body).unwrap_or_default();
        body["token"].as_str().map(secrets::credential);
        Ok(answer)
    }

    /// A fresh token.
    ///
    /// # Errors
    ///
    /// When the gateway does not mint one.
    pub async fn token(&self) -> Result<String> {
        let answer = self.ask_token().await?;
        ensure!(answer.status == 200, "token: {} {}", answer.status, answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body)?;
        Ok(body["token"].as_str().context("a token")?.to_owned())
    }

    /// Opens a stream as the shipped client would: a fresh token, and the cursor in the query.
    ///
    /// # Errors
    ///
    /// When the stream is not opened.
    pub async fn open(&self, cursor: &str) -> Result<Stream> {
        let token = self.token().await?;
        let path = format!("{}/stream?token={token}&lastEventId={cursor}", self.base);
        self.stream(&path, &[]).await
    }

    /// The same, with more in the query: `&topics=a,b`.
    ///
    /// # Errors
    ///
    /// When the stream is not opened.
    pub async fn open_with(&self, more: &str) -> Result<Stream> {
        let token = self.token().await?;
        let more = more.replace('>', "%3E");
        self.stream(&format!("{}/stream?token={token}{more}", self.base), &[]).await
    }

    /// Opens a stream at a path that holds its token.
    ///
    /// # Errors
    ///
    /// When the stream is not opened.
    pub async fn open_at(&self, path: &str) -> Result<Stream> {
        self.stream(path, &[]).await
    }

    /// Opens a stream with the JWT itself.
    ///
    /// # Errors
    ///
    /// When the stream is not opened.
    pub async fn open_bearer(&self, query: &str, headers: &[(&str, &str)]) -> Result<Stream> {
        let authorization = format!("Bearer {}", self.jwt);
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        self.stream(&format!("{}/stream{query}", self.base), &all).await
    }

    /// Opens a stream with cookies, as a native `EventSource` would.
    ///
    /// # Errors
    ///
    /// When the stream is not opened.
    pub async fn open_cookie(&self, query: &str, cookie: &str, headers: &[(&str, &str)]) -> Result<Stream> {
        let mut all = vec![("cookie", cookie)];
        all.extend_from_slice(headers);
        self.stream(&format!("{}/stream{query}", self.base), &all).await
    }

    /// Opens a stream by any request.
    ///
    /// # Errors
    ///
    /// When the stream is not opened.
    pub async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Result<Stream> {
        let (response, connection) = send(&self.gateway, Method::GET, path, headers, Bytes::new()).await?;
        let (head, body) = response.into_parts();
        if head.status != 200 {
            let body = timeout(DEADLINE, body.collect()).await??.to_bytes();
            bail!("stream: {} {}", head.status, String::from_utf8_lossy(&body));
        }
        let (parser, raw) = (Parser::default(), Vec::new());
        Ok(Stream {
            headers: head.headers,
            body,
            connection,
            parser,
            raw,
            last_id: String::new(),
            retry: None,
            ended_cleanly: None,
            cut_after: None,
        })
    }
}

/// Redeems one token by all of these clients at once; returns the statuses, sorted.
///
/// # Errors
///
/// When one of them is not answered in time.
pub async fn redeem_at_once(racers: Vec<Client>, token: &str) -> Result<Vec<u16>> {
    // The cursor of a completed stream: who redeems the token is answered with 204, at once.
    let path = format!("/api/v1/sse/stream?token={token}&lastEventId=00000000-1-end");
    let race = racers.iter().map(|racer| racer.request(Method::GET, &path, &[]));
    let answers = futures::future::try_join_all(race).await?;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    Ok(statuses)
}

async fn send(
    gateway: &Door,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<(Response<Incoming>, JoinHandle<()>)> {
    let exchange = async {
        let socket = gateway.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = tokio::spawn(async move {
            // A connection that the other side cuts is what some tests are about.
            let _ = connection.await;
        });
        let mut request = Request::builder().method(method).uri(path).header("host", "gateway");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        anyhow::Ok((response, connection))
    };
    timeout(DEADLINE, exchange).await.context("the gateway did not answer in time")?
}
