//! `POST {base}/events`: an event in, its place in the log out, once the log has it.
//!
//! What the feed would refuse is refused here, by the same rules: who publishes over HTTP is told at
//! once what others find among the dead letters.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::posted::{self, SUBJECT};
use super::problem::Problem;
use super::{Gateway, bad_request, fresh};
use crate::cursor::Cursor;
use crate::event::{Message, Refusal, Source};
use crate::nats::publish::Publisher;
use crate::subject::Token;

/// A publisher has this long for its body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of all bodies that may be on their way at once.
const ON_THEIR_WAY: usize = 64 * 1024 * 1024;
/// Bytes of a subject: NATS ends the connection of a pod that sends a longer line than 4 KB.
const MAX_SUBJECT: usize = 3072;
/// Events that may be on their way at once.
const MOST: usize = 1024;

/// What posted events go through.
pub struct Posts {
    publisher: Arc<Publisher>,
    /// One for each event on its way.
    room: Semaphore,
    /// Events on their way of each tenant that has some.
    tenants: Mutex<HashMap<Token, usize>>,
    /// Of one tenant: whoever lets its bodies drip keeps the others' out no more than this.
    share: usize,
    /// In bytes, of one event.
    most: usize,
}

/// The place of an event that is on its way.
struct Room<'a> {
    posts: &'a Posts,
    tenant: Token,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.posts.tenants().entry(self.tenant.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Posts {
    /// `most`: bytes of a payload.
    #[must_use]
    pub fn new(publisher: Arc<Publisher>, most: usize) -> Self {
        let room = (ON_THEIR_WAY / most.max(1)).clamp(1, MOST);
        let (tenants, share) = (Mutex::default(), room.div_ceil(2));
        Self { publisher, room: Semaphore::new(room), tenants, share, most }
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<Token, usize>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, tenant: &Token) -> Result<Room<'_>, Problem> {
        let full = || Problem::unavailable("Too many events are on their way.");
        let permit = self.room.try_acquire().map_err(|_| full())?;
        let mut tenants = self.tenants();
        let count = tenants.entry(tenant.clone()).or_default();
        if *count >= self.share {
            return Err(full());
        }
        *count += 1;
        Ok(Room { posts: self, tenant: tenant.clone(), _permit: permit })
    }

    async fn read(&self, body: Body) -> Result<Bytes, Problem> {
        let most = u64::try_from(self.most).unwrap_or(u64::MAX);
        if body.size_hint().lower() > most {
            return Err(Refusal::TooLarge.into());
        }
        let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "The body did not come in time.");
        let read = timeout(BODY_DEADLINE, to_bytes(body, self.most)).await.map_err(|_| late())?;
        let payload = read.map_err(|error| {
            if error.into_inner().is::<LengthLimitError>() {
                Refusal::TooLarge.into()
            } else {
                bad_request("The body can not be read.")
            }
        })?;
        if payload.is_empty() { Err(bad_request("The event is empty.")) } else { Ok(payload) }
    }
}

/// An event that is in the log.
struct Stored {
    id: Cursor,
    duplicate: bool,
}

pub(super) async fn post(State(gateway): State<Arc<Gateway>>, request: Request) -> Result<Response, Problem> {
    let stored = publish(&gateway, request).await;
    gateway.context.telemetry.metrics.publishes.inc(match &stored {
        Ok(Stored { duplicate: false, .. }) => "accepted",
        Ok(Stored { duplicate: true, .. }) => "duplicate",
        Err(problem) => match problem.status() {
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "refused",
        },
    });
    Ok((StatusCode::ACCEPTED, fresh(&json!({ "id": stored?.id.to_string() }))).into_response())
}

async fn publish(gateway: &Gateway, request: Request) -> Result<Stored, Problem> {
    let (head, body) = request.into_parts();
    let identity = gateway.publisher(&head).await?;
    let named = named(&head)?;
    if !identity.publish.iter().any(|grant| grant.covers(&named)) {
        let claim = &gateway.config.spec.auth.publish_claim;
        let detail = format!("The claim '{claim}' of the credential grants no event to {named}.");
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    posted::check_media(&head.headers)?;
    let headers = posted::headers(&head.headers, &identity.tenant)?;
    gateway.check_connected()?;
    let _room = gateway.posts.room(&identity.tenant)?;
    let payload = gateway.posts.read(body).await?;
    let subject = format!("{}.{}.{named}", gateway.config.spec.nats.subject_prefix, identity.tenant);
    if subject.len() > MAX_SUBJECT {
        return Err(bad_request(format!("The subject is longer than {MAX_SUBJECT} bytes.")));
    }
    // It has no place yet.
    let message = Message::new(0, subject.into(), &headers, payload, Source::Stored);
    let hub = &gateway.context.hub;
    let end = hub.rules().check(&message)?.completes();
    let taken = hub.taken();
    let ack = gateway.posts.publisher.publish(message.subject, headers, message.payload).await?;
    // A log that counts from the beginning again was made anew, and the hub does not know its epoch yet.
    let epoch = hub.epoch().filter(|_| ack.duplicate || ack.sequence > taken);
    let epoch = epoch.ok_or_else(|| Problem::unavailable("The log was just made anew."))?;
    Ok(Stored { id: Cursor { epoch, sequence: ack.sequence, end }, duplicate: ack.duplicate })
}

/// The subject below the tenant that a request names: by a header, or in the query, for senders that can
/// be given no more than an address.
///
/// # Errors
///
/// When it names none, or more than one.
pub fn named(head: &Parts) -> Result<String, Problem> {
    #[derive(Deserialize)]
    struct Named {
        subject: Option<String>,
    }
    let query = Query::<Named>::try_from_uri(&head.uri);
    let Query(Named { subject }) = query.map_err(|_| bad_request("The query can not be read."))?;
    let mut named = posted::texts(&head.headers, SUBJECT).chain(subject.map(Ok));
    match (named.next(), named.next()) {
        (Some(subject), None) => subject,
        (None, _) => Err(bad_request("No subject is named: Sse-Subject, such as user.alice.")),
        (Some(_), Some(_)) => Err(bad_request("The subject is named more than once.")),
    }
}
