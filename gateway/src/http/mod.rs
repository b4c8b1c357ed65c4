//! The public port: routes, and what all handlers share.

mod answer;
pub mod console;
pub mod cors;
pub mod credential;
pub mod events;
pub mod listener;
pub mod lobby;
mod outcome;
pub mod posted;
pub mod problem;
mod protocol;
mod socket;
pub mod stream;
pub mod tls;
mod token;
pub mod topics;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::auth::jwt::Verifier;
use crate::config::Config;
use crate::connection;
use crate::connection::limits::Limits;
use crate::token::Tokens;
use console::Console;
use events::Posts;
use problem::Problem;
use topics::Topics;

/// Tokens that may be minted or redeemed at NATS at one time: anybody can ask for that.
const TOKENS_AT_ONCE: usize = 512;
/// How long a request waits for its turn at that.
const TURN: Duration = Duration::from_secs(1);

/// What the handlers need.
pub struct Gateway {
    pub config: Arc<Config>,
    pub verifier: Arc<Verifier>,
    pub limits: Arc<Limits>,
    pub topics: Topics,
    pub posts: Posts,
    pub console: Console,
    pub context: Arc<connection::Context>,
    /// Owns the open streams.
    pub streams: TaskTracker,
    /// One for each token that is minted or redeemed at the moment.
    pub turns: Semaphore,
}

impl Gateway {
    /// Turns at tokens for a pod.
    #[must_use]
    pub const fn turns() -> Semaphore {
        Semaphore::const_new(TOKENS_AT_ONCE)
    }

    /// Where tokens are, and a turn at them where each is work for NATS.
    async fn tokens(&self) -> Result<(Tokens, Option<SemaphorePermit<'_>>), Problem> {
        let tokens = self.context.status.tokens();
        let tokens = tokens.ok_or_else(|| Problem::unavailable("NATS was not reached yet."))?;
        if let Tokens::Shared(_) = tokens {
            return Ok((tokens, None));
        }
        match timeout(TURN, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok((tokens, Some(turn))),
            _ => Err(Problem::unavailable("Too many tokens are on their way.")),
        }
    }

    /// Handshakes are refused while the pod drains, and while NATS is away.
    fn check_open(&self) -> Result<(), Problem> {
        if self.context.drain.is_cancelled() {
            return Err(Problem::unavailable("This pod is about to end."));
        }
        self.check_connected()
    }

    fn check_connected(&self) -> Result<(), Problem> {
        if !self.context.status.is_connected() {
            return Err(Problem::unavailable("NATS can not be reached at the moment."));
        }
        Ok(())
    }
}

/// The routes of the public port.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let base = gateway.config.spec.endpoints.base_path.clone();
    let stream = get(stream::open)
        .head(head)
        .fallback(async || not_allowed("GET"))
        .layer(from_fn_with_state(gateway.clone(), credential::by_cookie))
        .layer(from_fn_with_state(gateway.clone(), outcome::handshake));
    let mut router = Router::new();
    if gateway.config.spec.publish.enabled {
        let events = post(events::post).fallback(async || not_allowed("POST"));
        router = router.route(&format!("{base}/events"), events);
    }
    if gateway.config.spec.console.enabled {
        router = router.route("/", get(console::get).fallback(async || not_allowed("GET")));
    }
    router = router
        .route(&format!("{base}/token"), post(token::mint).fallback(async || not_allowed("POST")))
        .route(&format!("{base}/stream"), stream)
        .fallback(any(not_found));
    if !gateway.config.spec.cors.allowed_origins.is_empty() {
        router = router.layer(from_fn_with_state(gateway.clone(), cors::cross_origin));
    }
    router.with_state(gateway)
}

/// An answer in JSON that is nobody else's, nor good a second time.
fn fresh(answer: &Value) -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_TYPE, "application/json")];
    (headers, answer.to_string()).into_response()
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is nothing here.")
}

/// A HEAD request may not use up a token or open a stream.
async fn head() -> Response {
    not_allowed("GET")
}

fn not_allowed(allowed: &'static str) -> Response {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("Only {allowed} is allowed here."));
    ([(header::ALLOW, allowed)], problem).into_response()
}
