//! An issuer that publishes its keys, over HTTP or HTTPS: it counts who fetches them, and can rotate,
//! stop, and answer in every wrong way.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::authority::Authority;
use crate::jwt::IssuerKey;

/// What an issuer answers with.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// Time until the answer begins.
    pub delay: Duration,
    /// The body is sent again and again.
    pub endless: bool,
}

impl Reply {
    /// A good answer with this body.
    #[must_use]
    pub fn body(body: impl Into<Bytes>) -> Self {
        let (headers, delay) = (Vec::new(), Duration::ZERO);
        Self { status: 200, headers, body: body.into(), delay, endless: false }
    }

    /// The key set of these keys.
    #[must_use]
    pub fn keys(keys: &[&IssuerKey]) -> Self {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        Self::body(json!({ "keys": keys }).to_string())
    }
}

struct Shared {
    reply: Mutex<Reply>,
    connections: AtomicUsize,
    fetches: AtomicUsize,
}

/// A running issuer. Ends when dropped.
pub struct Issuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    /// Authority (PEM) of its certificate; empty without TLS.
    pub authority: String,
    server: Option<AbortOnDropHandle<()>>,
}

impl Issuer {
    /// An issuer over HTTP.
    ///
    /// # Errors
    ///
    /// When it can not listen.
    pub async fn start(reply: Reply) -> Result<Self> {
        Self::on_a_free_port(reply, None, String::new()).await
    }

    /// An issuer over HTTPS, with an authority of its own.
    ///
    /// # Errors
    ///
    /// When it can not listen.
    pub async fn start_tls(reply: Reply) -> Result<Self> {
        let authority = Authority::new()?;
        let acceptor = TlsAcceptor::from(authority.pair()?.server()?);
        Self::on_a_free_port(reply, Some(acceptor), authority.pem()).await
    }

    async fn on_a_free_port(reply: Reply, tls: Option<TlsAcceptor>, authority: String) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let shared = Arc::new(Shared {
            reply: Mutex::new(reply),
            connections: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
        });
        let mut issuer = Self { address, shared, tls, authority, server: None };
        issuer.restart().await?;
        Ok(issuer)
    }

    /// Where the key set is.
    #[must_use]
    pub fn uri(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/jwks.json", self.address)
    }

    /// How often somebody connected, be it in vain.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How often the key set was asked for.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Answers in another way from now on.
    pub fn answer(&self, reply: Reply) {
        *self.shared.reply.lock().expect("no panic") = reply;
    }

    /// Ends the server and every connection to it.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    /// Starts the server again, on the same port.
    ///
    /// # Errors
    ///
    /// When it can not listen.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await;
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address).context("the issuer's port")?;
        let listener = socket.listen(128)?;
        self.address = listener.local_addr()?;
        let server = serve(listener, self.tls.clone(), self.shared.clone());
        self.server = Some(AbortOnDropHandle::new(tokio::spawn(server)));
        Ok(())
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared) = (tls.clone(), shared.clone());
        connections.spawn(async move {
            match tls {
                None => connection(socket, shared).await,
                // A client that does not trust the certificate is what some tests are about.
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        connection(socket, shared).await;
                    }
                }
            }
        });
    }
}

async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = service_fn(move |_: Request<_>| {
        let shared = shared.clone();
        async move {
            shared.fetches.fetch_add(1, Ordering::SeqCst);
            let reply = shared.reply.lock().expect("no panic").clone();
            tokio::time::sleep(reply.delay).await;
            Ok::<_, Infallible>(respond(reply))
        }
    });
    // A client that cuts a connection is what some tests are about.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

fn respond(reply: Reply) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = if reply.endless {
        let frames = stream::repeat(reply.body).map(|bytes| Ok(Frame::data(bytes)));
        BodyExt::boxed(StreamBody::new(frames))
    } else {
        Full::new(reply.body).boxed()
    };
    response.body(body).expect("a response")
}
