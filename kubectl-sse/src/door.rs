//! A way to a gateway's HTTP: a port of one certain pod through a port-forward, or a public URL.
//!
//! A port-forward goes through the API server, which vouches for the pod: the pod's own certificate, made for a public
//! name, is not asked for its name there. At a URL certificates are verified, and HTTP/2 is offered as browsers do.

mod tls;

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

pub use tls::Trust;

use crate::arguments::DoorArguments;

/// To connect, TLS and port-forward included.
const CONNECT: Duration = Duration::from_secs(10);
/// To the head of an answer, and again to the end of a short one.
const ANSWER: Duration = Duration::from_secs(10);
/// An answer that is no stream is not longer.
const MAX_BODY: usize = 4 * 1024 * 1024;
const H2: &[u8] = b"h2";

/// Where HTTP is spoken.
#[derive(Clone)]
pub enum Door {
    Pod { pods: Box<Api<Pod>>, pod: String, port: u16, tls: bool },
    Url { url: Url, trust: Trust },
}

/// A public URL, as far as it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// As a request names it: without the port that is usual.
    pub authority: String,
    /// Without a slash at its end; empty: none was given.
    pub path: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("{0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("port-forward to pod {0}: {1}")]
    Forward(String, String),
    #[error("HTTP: {0}")]
    Http(String),
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("the request can not be made: {0}")]
    Request(#[from] hyper::http::Error),
}

impl From<hyper::Error> for DoorError {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Http(format!("{error}{cause}"))
    }
}

impl Url {
    /// # Errors
    ///
    /// When it is none of `http` or `https`, or holds credentials.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is no URL")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("must be http://… or https://…");
        };
        if authority.as_str().contains('@') {
            return Err("must not hold credentials");
        }
        let (tls, usual) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err("must be http://… or https://…"),
        };
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(usual),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

trait Transport: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}
type Socket = Pin<Box<dyn Transport>>;

impl Door {
    /// The door of `--url`, if it is given.
    ///
    /// # Errors
    ///
    /// When it can not be used.
    pub fn at_url(arguments: &DoorArguments) -> anyhow::Result<Option<Self>> {
        let Some(text) = &arguments.url else { return Ok(None) };
        let url = Url::parse(text).map_err(|why| anyhow::anyhow!("--url {why}"))?;
        Ok(Some(Self::Url { url, trust: Trust::of_machine(arguments.ca_file.as_deref())? }))
    }

    pub fn of_pod(pods: Api<Pod>, pod: &str, port: u16, tls: bool) -> Self {
        Self::Pod { pods: Box::new(pods), pod: pod.to_owned(), port, tls }
    }

    /// A connection, within its deadline.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn open(&self) -> Result<Line, DoorError> {
        timeout(CONNECT, self.connect()).await.map_err(|_| DoorError::Deadline(CONNECT))?
    }

    async fn connect(&self) -> Result<Line, DoorError> {
        match self {
            Self::Pod { pods, pod, port, tls } => {
                let failed = |error: kube::Error| DoorError::Forward(pod.clone(), error.to_string());
                let mut forward = pods.portforward(pod, &[*port]).await.map_err(failed)?;
                let stream = forward.take_stream(*port);
                let none = || DoorError::Forward(pod.clone(), format!("no port {port}"));
                let socket: Socket = Box::pin(stream.ok_or_else(none)?);
                if !*tls {
                    return Line::begin(socket, false, "http", "gateway").await;
                }
                let config = tls::any_pod().map_err(DoorError::Tls)?;
                let (socket, _) = within(socket, "gateway", config).await?;
                Line::begin(socket, false, "http", "gateway").await
            }
            Self::Url { url, trust } => {
                let socket = TcpStream::connect((url.host.as_str(), url.port)).await;
                let socket: Socket = Box::pin(socket.map_err(DoorError::Connect)?);
                if !url.tls {
                    return Line::begin(socket, false, "http", &url.authority).await;
                }
                let (socket, h2) = within(socket, &url.host, trust.config()).await?;
                Line::begin(socket, h2, "https", &url.authority).await
            }
        }
    }
}

/// TLS within a socket, and whether HTTP/2 was agreed on.
async fn within(socket: Socket, name: &str, config: Arc<ClientConfig>) -> Result<(Socket, bool), DoorError> {
    let no_name = |error| DoorError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error));
    let name = ServerName::try_from(name.to_owned()).map_err(no_name)?;
    let socket = TlsConnector::from(config).connect(name, socket).await.map_err(DoorError::Tls)?;
    let h2 = socket.get_ref().1.alpn_protocol() == Some(H2);
    Ok((Box::pin(socket), h2))
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// A connection. Ends when dropped, and what it streams with it.
pub struct Line {
    sender: Sender,
    scheme: &'static str,
    authority: String,
    _driver: AbortOnDropHandle<()>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Line {
    async fn begin(
        socket: Socket,
        h2: bool,
        scheme: &'static str,
        authority: &str,
    ) -> Result<Self, DoorError> {
        let (sender, driver) = if h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
            (Sender::Two(sender), tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
            (Sender::One(sender), tokio::spawn(async move { drop(connection.await) }))
        };
        let driver = AbortOnDropHandle::new(driver);
        Ok(Self { sender, scheme, authority: authority.to_owned(), _driver: driver })
    }

    /// Whether it is HTTP/2.
    pub const fn is_h2(&self) -> bool {
        matches!(self.sender, Sender::Two(_))
    }

    /// The head of an answer; its body may be a stream.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, DoorError> {
        let mut request = Request::builder().method(method);
        // HTTP/2 has the host in its target, HTTP/1.1 beside it.
        request = match self.sender {
            Sender::One(_) => request.uri(path).header("host", &self.authority),
            Sender::Two(_) => request.uri(format!("{}://{}{path}", self.scheme, self.authority)),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("user-agent", AGENT).body(Full::new(body.into()))?;
        let asked = async {
            match &mut self.sender {
                Sender::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Two(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        Ok(timeout(ANSWER, asked).await.map_err(|_| DoorError::Deadline(ANSWER))??)
    }

    /// An answer, read to its end.
    ///
    /// # Errors
    ///
    /// When it does not come in time, or is too long.
    pub async fn read(&mut self, path: &str) -> Result<Answer, DoorError> {
        Answer::of(self.ask(Method::GET, path, &[], "").await?).await
    }
}

const AGENT: &str = concat!("kubectl-sse/", env!("CARGO_PKG_VERSION"));

impl Answer {
    /// # Errors
    ///
    /// When the rest does not come in time, or is too long.
    pub async fn of(response: Response<Incoming>) -> Result<Self, DoorError> {
        let (head, body) = response.into_parts();
        let body = timeout(ANSWER, Limited::new(body, MAX_BODY).collect()).await;
        let body = body.map_err(|_| DoorError::Deadline(ANSWER))?;
        let body = body.map_err(|error| DoorError::Http(error.to_string()))?.to_bytes();
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What the gateway says of an error (RFC 9457); none of somebody else's error.
    pub fn detail(&self) -> Option<String> {
        if !self.header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json")) {
            return None;
        }
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        body["detail"].as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("https://live.example.com/api/v1/sse/").expect("a URL");
        let expected = ("live.example.com", 443, "live.example.com", "/api/v1/sse");
        assert_eq!((&*url.host, url.port, &*url.authority, &*url.path), expected);
        let url = Url::parse("http://[::1]:8080").expect("a URL");
        assert_eq!((&*url.host, url.port, &*url.authority, &*url.path), ("::1", 8080, "[::1]:8080", ""));
        assert!(!url.tls);
    }

    #[test]
    fn what_is_no_public_url_is_refused() {
        for wrong in ["live.example.com", "ftp://live", "/api", "https://me:secret@live", "https://"] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }
}
