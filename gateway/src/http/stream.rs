//! `GET {base}/stream`: checks the credential, takes a slot, registers, and answers with the head.
//!
//! The answer brings an [`Admitted`] stream along, which whoever serves the connection gives its line.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sse_crds::delivery::HeartbeatMode;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::Gateway;
use super::outcome;
use super::problem::Problem;
use crate::auth::{Identity, Unauthorized};
use crate::connection::body::StreamBody;
use crate::connection::limits::Slot;
use crate::connection::line::{self, Line};
use crate::connection::outbox::Outbox;
use crate::connection::{self, Connection, is_askable};
use crate::cursor::Cursor;
use crate::hub::{Asks, Membership, Standing, Start};
use crate::nats::now;
use crate::subject::ConnectionId;
use crate::telemetry::{Counts, Opened};
use crate::wire::{self, Block, Field, Frame};

/// The query of a stream request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    pub token: Option<String>,
    pub topics: Option<String>,
    pub last_event_id: Option<String>,
    pub heartbeat: Option<String>,
}

type Params = Result<Query<Parameters>, axum::extract::rejection::QueryRejection>;

pub(super) async fn open(
    State(gateway): State<Arc<Gateway>>,
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
    let brought = brought(&headers, parameters.last_event_id.as_deref());
    let start = start(&brought, gateway.config.spec.replay.enabled);
    // Before the token is used up: a client that corrects itself can still redeem it.
    let wanted = gateway.topics.wanted(parameters.topics.as_deref())?;
    gateway.check_open()?;
    // Neither NATS nor the client's token is to be used up for a stream that there is no room for.
    gateway.limits.check_room()?;
    let identity = gateway.identify(&headers, parameters.token.as_deref()).await?;
    let ends_at = ends_at(&gateway, &identity)?;
    let topics = gateway.topics.admit(wanted, &identity)?;
    if let Start::After(Cursor { end: true, .. }) = start {
        // The stream was completed; 204 is what makes an EventSource stay away.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let slot = gateway.limits.take(&identity)?;
    let context = &gateway.context;
    let id = ConnectionId::random();
    let resumed = matches!(start, Start::After(_));
    let tenant = identity.tenant.decode().unwrap_or_default();
    let (tags, version) = (identity.tags.clone(), outcome::version(version));
    let opened = Opened { tenant, connection: id.to_string(), tags, resumed, version };
    let observer = context.telemetry.observe(&opened);
    let capacity = usize::try_from(gateway.config.spec.limits.connection_buffer_size).unwrap_or(usize::MAX);
    let outbox = Outbox::new(capacity, gateway.config.overflow_policy(), observer);
    let membership = Membership {
        connection: id,
        tenant: identity.tenant,
        user: identity.user,
        topics,
        tags: identity.tags,
        opened: now(),
    };
    let body = Body::new(StreamBody(outbox.clone()));
    let (registration, standing) = context
        .hub
        .register(membership, outbox, start, asks(context, &brought))
        .ok_or_else(|| Problem::unavailable("NATS was not reached yet."))?;
    let mut connection = Connection::new(context.clone(), registration, heartbeat_mode, ends_at);
    if standing.history {
        connection.begin_with_history(&brought, standing.position, standing.reset);
    }
    let admitted = Admitted {
        first: first_bytes(&gateway, &id.to_string(), standing, heartbeat_mode),
        connection,
        position: standing.position,
        slot,
        resumed,
        streams: gateway.streams.clone(),
    };
    let head = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((head, Extension(Handover::new(admitted)), body).into_response())
}

/// A stream whose head is about to be written. Dropped, it leaves nothing behind.
pub struct Admitted {
    connection: Connection,
    /// The first bytes of the body.
    first: Frame,
    position: Cursor,
    slot: Slot,
    resumed: bool,
    streams: TaskTracker,
}

/// Brings a stream from its handler to whoever serves the connection.
#[derive(Clone)]
pub struct Handover(Arc<Mutex<Option<Box<Admitted>>>>);

impl Handover {
    fn new(admitted: Admitted) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(admitted)))))
    }

    /// The stream, once.
    #[must_use]
    pub fn take(&self) -> Option<Box<Admitted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Admitted {
    /// Begins in the body of the response, which somebody else's protocol carries until it is `cut`. After `goodbye`
    /// no other stream begins there.
    pub fn in_body(self: Box<Self>, cut: CancellationToken, goodbye: CancellationToken) {
        let line = Line::Slot(line::Slot::new(cut, goodbye, &self.first));
        self.begin(line);
    }

    /// Begins on a socket of its own, to which the head of the response is still to be written.
    pub fn on_socket(self: Box<Self>, stream: TcpStream, chunked: bool, head: &[u8]) {
        let line = Line::Socket(line::Socket::new(stream, chunked, head, &self.first));
        self.begin(line);
    }

    fn begin(self: Box<Self>, line: Line) {
        let Self { connection, position, slot, resumed, streams, .. } = *self;
        connection.registration.outbox.open(line, position);
        streams.spawn(run(connection, slot, resumed));
    }
}

/// The stream's task. What is held while it waits is what each idle client costs.
async fn run(mut connection: Connection, slot: Slot, resumed: bool) {
    let outbox = connection.registration.outbox.clone();
    let id = connection.registration.connection;
    let about = || outbox.writer(|writer| (writer.observer().is_calm(), writer.observer().trace_id()));
    let tenant = slot.tenant();
    match about() {
        (true, trace_id) => info!(connection = %id, %tenant, resumed, trace_id, "A stream opened."),
        // Under load the lines would cost more than the streams.
        (false, trace_id) => debug!(connection = %id, %tenant, resumed, trace_id, "A stream opened."),
    }
    let end = connection.run().await;
    let deadline = connection.deadline();
    let Counts { delivered, replayed } = {
        let tags = connection.registration.membership().map(|member| member.tags.clone()).unwrap_or_default();
        drop(connection);
        outbox.writer(|writer| writer.observer().ended(end, &tags))
    };
    let (tenant, reason) = (slot.tenant(), end.as_str());
    match about() {
        (true, trace_id) => {
            info!(connection = %id, %tenant, reason, delivered, replayed, trace_id, "A stream ended.");
        }
        (false, trace_id) => {
            debug!(connection = %id, %tenant, reason, delivered, replayed, trace_id, "A stream ended.");
        }
    }
    drop(slot);
    Connection::finish(&outbox, end, deadline).await;
}

/// The id that the client brought. The header wins over the query; blank is none.
fn brought(headers: &HeaderMap, query: Option<&str>) -> String {
    let header = headers.get("last-event-id").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let header = header.as_deref().filter(|text| !text.trim().is_empty());
    header.or(query).map_or("", str::trim).to_owned()
}

/// Whether history is asked before anything else.
fn asks(context: &connection::Context, brought: &str) -> Asks {
    let history = context.history.as_ref().filter(|_| is_askable(brought));
    Asks { strangers: history.is_some(), first: history.is_some_and(|history| history.on_first_connect) }
}

fn start(text: &str, replay: bool) -> Start {
    if text.is_empty() {
        return Start::Now;
    }
    // Without a log no place was ever given out.
    text.parse().ok().filter(|_| replay).map_or(Start::Invalid, Start::After)
}

/// The longest life of the stream, with jitter, or the credential's end, whichever comes first. A credential whose
/// end has come, if only by a clock that differs, would open streams that end at once, one after another.
fn ends_at(gateway: &Gateway, identity: &Identity) -> Result<Option<Instant>, Unauthorized> {
    let stream = &gateway.config.spec.stream;
    let lifetime = (stream.max_lifetime_seconds > 0).then(|| {
        let longest = f64::from(stream.max_lifetime_seconds);
        Duration::from_secs_f64(longest * (1.0 - 0.1 * rand::random::<f64>()))
    });
    let credential = stream.end_at_credential_expiry.then(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(identity.expires).saturating_sub(since)
    });
    if credential.is_some_and(|left| left.is_zero()) {
        return Err(Unauthorized::Expired);
    }
    let shortest = [lifetime, credential].into_iter().flatten().min();
    // A credential of the far future does not end a stream.
    Ok(shortest.and_then(|left| Instant::now().checked_add(left)))
}

/// `:connected`, the gap if there is one, the position, `retry:` and the welcome events. Where heartbeats are events,
/// one of them at the end: a page does not see a block that has nothing but a position, and what was published before
/// its first event would be lost to it if the stream broke off.
fn first_bytes(gateway: &Gateway, id: &str, standing: Standing, heartbeats: HeartbeatMode) -> Frame {
    let mut frames = vec![wire::connected()];
    if let Some(reason) = standing.reset.filter(|_| !standing.history) {
        gateway.context.telemetry.metrics.resets.inc(reason.as_str());
        frames.push(wire::reset(reason));
    }
    if gateway.context.ids && !standing.history {
        frames.push(wire::position(standing.position));
    }
    let stream = &gateway.config.spec.stream;
    frames.extend(stream.retry_ms.map(wire::retry));
    for welcome in &stream.welcome_events {
        let time = format!("{:.3}", jiff::Timestamp::now());
        let data = welcome.data.replace("{connectionId}", id).replace("{time}", &time);
        frames.push(Block { id: None, event: Field::new(&welcome.event), retry: None, data: &data }.encode());
    }
    if heartbeats == HeartbeatMode::Event && gateway.context.ids && !standing.history {
        frames.push(connection::heartbeat_event(Some(standing.position)));
    }
    Frame::join(&frames)
}
