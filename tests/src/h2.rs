//! A client of HTTP/2: many streams on one connection, read only when asked to.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::task::AbortOnDropHandle;

use crate::client::Door;

/// Bytes that are let through of a stream that is not read.
const WINDOW: u32 = 65_535;

/// A connection; its streams end with it.
pub struct Http2 {
    sender: SendRequest<Empty<Bytes>>,
    _connection: AbortOnDropHandle<hyper::Result<()>>,
}

impl Http2 {
    /// # Errors
    ///
    /// When the gateway can not be reached.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        Self::through(&address.into()).await
    }

    /// The same, through any door.
    ///
    /// # Errors
    ///
    /// When the gateway can not be reached.
    pub async fn through(door: &Door) -> Result<Self> {
        let socket = TokioIo::new(door.connect().await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // So that a stream that is not read stalls alone, and not the connection.
        builder.initial_stream_window_size(WINDOW).initial_connection_window_size(1000 * WINDOW);
        let (sender, connection) = builder.handshake(socket).await?;
        Ok(Self { sender, _connection: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }

    /// Opens a stream, and reads its first bytes.
    ///
    /// # Errors
    ///
    /// When the gateway refuses it.
    pub async fn open(&mut self, jwt: &str) -> Result<Incoming> {
        let authorization = format!("Bearer {jwt}");
        let headers = [("authorization", authorization.as_str())];
        let response = self.ask(Method::GET, "/api/v1/sse/stream", &headers).await?;
        ensure!(response.status() == 200, "{}", response.status());
        let mut body = response.into_body();
        body.frame().await.context("a first frame")??;
        Ok(body)
    }

    /// The status of any request whose answer ends, which is read to its end.
    ///
    /// # Errors
    ///
    /// When the connection ends first.
    pub async fn status(&mut self, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<u16> {
        let response = self.ask(method, path, headers).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        Ok(status)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("http://gateway{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(self.sender.send_request(request.body(Empty::new())?).await?)
    }
}

/// Reads to the end of a stream: whether it was a clean one, and the text.
pub async fn to_end(mut body: Incoming) -> (bool, String) {
    let mut text = String::new();
    loop {
        match body.frame().await {
            None => return (true, text),
            Some(Err(_)) => return (false, text),
            Some(Ok(frame)) => {
                text.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[], |data| data)));
            }
        }
    }
}
