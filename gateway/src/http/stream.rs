//! `GET {base}/stream`: checks the credential, takes a slot, registers, and answers with the head.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use serde::Deserialize;
use sse_crds::delivery::HeartbeatMode;
use tokio::time::Instant;
use tracing::info;

use super::Gateway;
use super::listener::Socket;
use super::outcome;
use super::problem::Problem;
use crate::auth::Identity;
use crate::connection::outbox::Outbox;
use crate::connection::sink::sink;
use crate::connection::{Connection, End};
use crate::cursor::Cursor;
use crate::hub::{Membership, Standing, Start};
use crate::nats::now;
use crate::subject::ConnectionId;
use crate::telemetry::{Counts, Opened};
use crate::wire::{self, Block, Field};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    token: Option<String>,
    topics: Option<String>,
    last_event_id: Option<String>,
    heartbeat: Option<String>,
}

type Params = Result<Query<Parameters>, axum::extract::rejection::QueryRejection>;

pub async fn open(
    State(gateway): State<Arc<Gateway>>,
    Extension(socket): Extension<Socket>,
    version: Version,
    headers: HeaderMap,
    parameters: Params,
) -> Result<Response, Problem> {
    // The text of a rejection could hold a token.
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(parameters) = parameters.map_err(|_| bad("The query can not be read."))?;
    let heartbeat_mode = match parameters.heartbeat.as_deref() {
        None => gateway.config.spec.stream.heartbeat_mode,
        Some("event") => HeartbeatMode::Event,
        Some("comment") => HeartbeatMode::Comment,
        Some(_) => return Err(bad("heartbeat: must be 'event' or 'comment'.")),
    };
    let start = start(&headers, parameters.last_event_id.as_deref(), gateway.config.spec.replay.enabled);
    // Before the token is used up: a client that corrects itself can still redeem it.
    let wanted = gateway.topics.wanted(parameters.topics.as_deref())?;
    gateway.check_open()?;
    let identity = gateway.identify(&headers, parameters.token.as_deref()).await?;
    let topics = gateway.topics.admit(wanted, &identity)?;
    if let Start::After(Cursor { end: true, .. }) = start {
        // The stream was completed; 204 is what makes an EventSource stay away.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let slot = gateway.limits.take(&identity)?;
    let limits = &gateway.config.spec.limits;
    let capacity = usize::try_from(limits.connection_buffer_size).unwrap_or(usize::MAX);
    let dropped = gateway.context.telemetry.metrics.overflow();
    let outbox = Outbox::new(capacity, gateway.config.overflow_policy(), dropped);
    let id = ConnectionId::random();
    let membership = Membership {
        connection: id,
        tenant: identity.tenant.clone(),
        user: identity.user.clone(),
        topics,
        tags: identity.tags.clone(),
        opened: now(),
    };
    let (registration, standing) = gateway
        .context
        .hub
        .register(membership, outbox, start)
        .ok_or_else(|| Problem::unavailable("NATS was not reached yet."))?;
    let resumed = matches!(start, Start::After(_));
    let tenant = identity.tenant.decode().unwrap_or_default();
    let opened = Opened { tenant, connection: id.to_string(), resumed, version: outcome::version(version) };
    let observer = gateway.context.telemetry.observe(&opened);
    let deadline = Duration::from_secs(limits.write_timeout_seconds.into());
    let (sink, body) = sink(deadline, socket.carrier, observer.clone());
    let connection = Connection {
        context: gateway.context.clone(),
        registration,
        sink,
        position: standing.position,
        heartbeat_mode,
        ends_at: ends_at(&gateway, &identity),
    };
    let first = first_bytes(&gateway, &id.to_string(), standing);
    gateway.streams.spawn(async move {
        let tenant = identity.tenant;
        let trace_id = observer.trace_id();
        info!(connection = %id, %tenant, resumed, trace_id, "A stream opened.");
        let end = match connection.sink.write(first.freeze()).await {
            Ok(()) => connection.run().await,
            Err(_) => End::Client,
        };
        drop(slot);
        let Counts { delivered, replayed } = observer.ended(end);
        let reason = end.as_str();
        info!(connection = %id, %tenant, reason, delivered, replayed, trace_id, "A stream ended.");
    });
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((head, Body::new(body)).into_response())
}

/// The header wins over the query; blank is none.
fn start(headers: &HeaderMap, query: Option<&str>, replay: bool) -> Start {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let text = header.filter(|text| !text.trim().is_empty()).or(query).map_or("", str::trim);
    if text.is_empty() {
        return Start::Now;
    }
    // Without a log no place was ever given out.
    text.parse().ok().filter(|_| replay).map_or(Start::Invalid, Start::After)
}

/// The longest life of the stream, with jitter, or the credential's end, whichever comes first.
fn ends_at(gateway: &Gateway, identity: &Identity) -> Option<Instant> {
    let stream = &gateway.config.spec.stream;
    let lifetime = (stream.max_lifetime_seconds > 0).then(|| {
        let longest = f64::from(stream.max_lifetime_seconds);
        Duration::from_secs_f64(longest * (1.0 - 0.1 * rand::random::<f64>()))
    });
    let credential = stream.end_at_credential_expiry.then(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(identity.expires).saturating_sub(since)
    });
    let shortest = [lifetime, credential].into_iter().flatten().min()?;
    // A credential of the far future does not end a stream.
    Instant::now().checked_add(shortest)
}

/// `:connected`, the gap if there is one, the position, `retry:` and the welcome events: at once.
fn first_bytes(gateway: &Gateway, id: &str, standing: Standing) -> BytesMut {
    let mut bytes = BytesMut::from(wire::connected().as_bytes());
    let mut add = |frame: wire::Frame| bytes.extend_from_slice(frame.as_bytes());
    if let Some(reason) = standing.reset {
        gateway.context.telemetry.metrics.resets.inc(reason.as_str());
        add(wire::reset(reason));
    }
    if gateway.context.ids {
        add(wire::position(standing.position));
    }
    let stream = &gateway.config.spec.stream;
    if let Some(ms) = stream.retry_ms {
        add(wire::retry(ms));
    }
    for welcome in &stream.welcome_events {
        let time = format!("{:.3}", jiff::Timestamp::now());
        let data = welcome.data.replace("{connectionId}", id).replace("{time}", &time);
        add(Block { id: None, event: Field::new(&welcome.event), retry: None, data: &data }.encode());
    }
    bytes
}
