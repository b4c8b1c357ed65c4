//! The crate `eventsource-client`, over hyper: the JWT as Bearer; the crate itself comes back with its last id.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use eventsource_client::{Client as _, ClientBuilder, ReconnectOptions, SSE};
use futures::StreamExt as _;
use http_body_util::{BodyDataStream, Full};
use hyper::Request;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use launchdarkly_sdk_transport::{ByteStream, HttpTransport, ResponseFuture, TransportError};
use sse_tests::clients::{Seen, Watcher};

#[derive(Clone)]
struct Transport(Client<HttpConnector, Full<Bytes>>);

impl HttpTransport for Transport {
    fn request(&self, request: Request<Option<Bytes>>) -> ResponseFuture {
        let response = self.0.request(request.map(Option::unwrap_or_default).map(Full::new));
        Box::pin(async move {
            let response = response.await.map_err(TransportError::new)?;
            Ok(response.map(|body| -> ByteStream {
                Box::pin(BodyDataStream::new(body).map(|bytes| bytes.map_err(TransportError::new)))
            }))
        })
    }
}

/// A client that asks over HTTP/1.1, or over HTTP/2 without TLS.
pub fn watcher(base: &str, jwt: &str, http2: bool) -> Result<Watcher> {
    let transport = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
    let patience = ReconnectOptions::reconnect(true).retry_initial(true).delay(Duration::from_millis(100));
    let builder = ClientBuilder::for_url(&format!("{base}/stream"))?
        .header("Authorization", &format!("Bearer {jwt}"))?
        .reconnect(patience.delay_max(Duration::from_secs(1)).build());
    let events = builder.build_with_transport(Transport(transport)).stream();
    Ok(Watcher::within(events.filter_map(async |event| match event {
        // Its errors are the cuts: it comes back by itself.
        Err(_) | Ok(SSE::Connected(_) | SSE::Comment(_)) => None,
        Ok(SSE::Event(event)) => {
            Some(Seen { kind: event.event_type, id: event.id.unwrap_or_default(), data: event.data })
        }
    })))
}
