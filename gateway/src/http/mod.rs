//! The public port: routes, and what all handlers share.

pub mod listener;
pub mod problem;
mod stream;
mod token;
pub mod topics;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use sse_crds::auth::Mode;
use tokio_util::task::TaskTracker;

use crate::auth::jwt::Verifier;
use crate::auth::{Identity, Unauthorized};
use crate::config::Config;
use crate::connection;
use crate::connection::limits::Limits;
use crate::token::Tokens;
use problem::Problem;
use topics::Topics;

/// What the handlers need.
pub struct Gateway {
    pub config: Arc<Config>,
    pub verifier: Arc<Verifier>,
    pub limits: Arc<Limits>,
    pub topics: Topics,
    pub context: Arc<connection::Context>,
    /// Owns the open streams.
    pub streams: TaskTracker,
}

impl Gateway {
    /// Verifies the JWT in `Authorization`, and that a tenant header, if there is one, agrees.
    async fn bearer(&self, headers: &HeaderMap) -> Result<Identity, Problem> {
        let value = headers.get(header::AUTHORIZATION).ok_or(Unauthorized::NoCredential)?;
        let (scheme, jwt) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(Unauthorized::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Unauthorized::NoCredential.into());
        }
        let identity = self.verifier.verify(jwt.trim()).await?;
        check_tenant(&identity, headers)?;
        Ok(identity)
    }

    fn accepts(&self, mode: Mode) -> bool {
        self.config.spec.auth.modes.contains(&mode)
    }

    fn tokens(&self) -> Result<Tokens, Problem> {
        self.context.status.tokens().ok_or_else(|| Problem::unavailable("NATS was not reached yet."))
    }

    /// Handshakes are refused while the pod drains, and while NATS is away.
    fn check_open(&self) -> Result<(), Problem> {
        if self.context.drain.is_cancelled() {
            return Err(Problem::unavailable("This pod is about to end."));
        }
        if !self.context.status.is_connected() {
            return Err(Problem::unavailable("NATS can not be reached at the moment."));
        }
        Ok(())
    }
}

/// A tenant header is never a source of identity, but a client that sends one means it.
fn check_tenant(identity: &Identity, headers: &HeaderMap) -> Result<(), Problem> {
    let named = headers.get("tenant").map(|value| value.to_str().unwrap_or_default().to_owned());
    if named.is_some() && named != identity.tenant.decode() {
        return Err(Problem::new(StatusCode::FORBIDDEN, "The tenant header differs from the credential."));
    }
    Ok(())
}

/// The routes of the public port.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let base = gateway.config.spec.endpoints.base_path.clone();
    Router::new()
        .route(&format!("{base}/token"), post(token::mint).fallback(async || not_allowed("POST")))
        .route(&format!("{base}/stream"), get(stream::open).head(head).fallback(async || not_allowed("GET")))
        .fallback(any(not_found))
        .with_state(gateway)
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
