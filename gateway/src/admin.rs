//! The admin port: `/livez`, `/readyz`, `/status`, `/metrics`. Nothing can be changed here. Who is connected is told
//! to loopback alone (a port-forward ends there), in pages: it names users.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::auth::jwt::Verifier;
use crate::config::Config;
use crate::connection::Context;
use crate::connection::limits::Limits;
use crate::http::listener::Socket;
use crate::http::tls::Certificate;
use crate::hub::Membership;
use crate::nats::Taking;
use crate::nats::dead::DeadLetters;
use crate::nats::status::Problem;
use crate::secret::SecretFile;
use crate::subject::ConnectionId;
use crate::telemetry::metrics::Present;

/// Connections in one page.
const PAGE: usize = 500;

/// What the admin port knows.
pub struct Admin {
    pub config: Arc<Config>,
    pub context: Arc<Context>,
    pub limits: Arc<Limits>,
    pub dead: Arc<DeadLetters>,
    pub verifier: Arc<Verifier>,
    /// Of the public port, where it has one.
    certificate: Option<Arc<Certificate>>,
    /// Cancelled when the pod is about to go: it still serves, but wants no more.
    unready: CancellationToken,
    secrets: Vec<SecretFile>,
    /// Whether the pod was ready once.
    was_ready: AtomicBool,
}

impl Admin {
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        context: Arc<Context>,
        limits: Arc<Limits>,
        dead: Arc<DeadLetters>,
        verifier: Arc<Verifier>,
        certificate: Option<Arc<Certificate>>,
        unready: CancellationToken,
    ) -> Arc<Self> {
        let dir: &Path = &config.secrets_dir;
        let secrets = config.spec.secret_refs();
        let secrets =
            secrets.into_iter().map(|(field, secret)| SecretFile::new(dir, field, secret)).collect();
        let was_ready = AtomicBool::new(false);
        Arc::new(Self { config, context, limits, dead, verifier, certificate, unready, secrets, was_ready })
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.secrets
            .iter()
            .filter_map(|file| file.is_there().err())
            .map(|missing| missing.to_string())
            .collect()
    }

    /// What metrics show of the moment; `limit`: streams that the pod may have.
    #[must_use]
    pub fn present(&self, limit: u32) -> Present {
        let status = &self.context.status;
        Present {
            connections: self.limits.total(),
            limit,
            nats_connected: status.is_connected(),
            nats_lag: status.last_sequence().saturating_sub(self.context.hub.head()),
            draining: self.unready.is_cancelled(),
        }
    }

    /// What keeps the gateway from serving, as far as it knows.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.context.status.problems();
        problems.extend(self.certificate.as_ref().and_then(|certificate| certificate.problem()));
        problems
    }

    /// What does not keep the gateway from serving, but will.
    fn warnings(&self) -> Vec<Problem> {
        let mut warnings = self.verifier.warnings();
        warnings.extend(self.certificate.as_ref().and_then(|certificate| certificate.warning()));
        let denied = self.context.status.server().denied;
        warnings.extend(denied.map(|denied| Problem::new("NatsPermission", denied)));
        warnings
    }

    /// Ready: nothing is missing, the keys of some issuer are there, NATS was reached, and the pod does not drain.
    ///
    /// Only the drain ends it again. What goes away later (NATS, its stream, a Secret) goes away for every pod at once, and
    /// a service without pods cuts off more than what is missing: it shows in `/status`, and whoever can not be served is
    /// told so by the gateway.
    fn why_not_ready(&self) -> Option<String> {
        if self.unready.is_cancelled() {
            return Some("draining".into());
        }
        if self.was_ready.load(Ordering::Relaxed) {
            return None;
        }
        let why = self.why_not_yet();
        self.was_ready.store(why.is_none(), Ordering::Relaxed);
        why
    }

    /// What a pod that was never ready waits for.
    fn why_not_yet(&self) -> Option<String> {
        if let Some(missing) = self.missing_secrets().first() {
            return Some(format!("missing secret: {missing}"));
        }
        if let Some(problem) = self.problems().first() {
            return Some(format!("{}: {}", problem.reason, problem.message));
        }
        if !self.verifier.has_keys() {
            let cause = self.verifier.problems().into_iter().next();
            let cause = cause.map_or_else(|| "not fetched yet".into(), |problem| problem.message);
            return Some(format!("no issuer's keys: {cause}"));
        }
        (!self.context.status.was_reached()).then(|| "NATS was not reached yet".into())
    }

    /// What tells how many streams there are, while the pod is ready for more.
    #[must_use]
    pub fn taking(self: &Arc<Self>) -> Taking {
        let admin = self.clone();
        Arc::new(move || {
            let ready = admin.context.status.is_connected() && admin.why_not_ready().is_none();
            ready.then(|| admin.limits.total())
        })
    }

    /// A page of the connections, in the order of their ids.
    fn connections(&self, after: Option<ConnectionId>) -> Value {
        let page = self.context.hub.page(after, PAGE);
        let next = (page.len() == PAGE).then(|| page.last().map(|member| member.connection.to_string()));
        let item = |member: &Arc<Membership>| {
            json!({
                "id": member.connection.to_string(),
                "tenant": member.tenant.decode(),
                "user": member.user.decode(),
                "topics": member.topics,
                "tags": member.tags,
                "openedAt": opened_at(member),
            })
        };
        json!({"items": page.iter().map(item).collect::<Vec<_>>(), "next": next.flatten()})
    }

    /// What the operator is told: an issuer that was never reached shuts its users out, even when
    /// others keep the pod ready; and NATS may not take what is promised.
    fn all_problems(&self) -> Vec<Problem> {
        let mut problems = self.problems();
        problems.extend(self.verifier.problems());
        let unfit = self.context.status.server().unfit;
        problems.extend(unfit.map(|unfit| Problem::new("NatsUnsuitable", unfit)));
        problems
    }

    fn status(&self) -> Value {
        let status = &self.context.status;
        let head = self.context.hub.head();
        let last = status.last_sequence();
        json!({
            "name": self.config.name.to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.why_not_ready().is_none(),
            "draining": self.unready.is_cancelled(),
            "connections": self.limits.total(),
            "members": self.context.hub.members(),
            "refusedEvents": self.dead.refused(),
            "nats": {"connected": status.is_connected(), "lastError": status.last_error()},
            "replay": self.context.ids,
            "stream": self.context.ids.then(|| json!({
                "name": self.config.stream_name(),
                "epoch": self.context.hub.epoch().map(|epoch| epoch.to_string()),
                "lastSequence": last,
                "head": head,
                "lag": last.saturating_sub(head),
            })),
            "missingSecrets": self.missing_secrets(),
            "problems": self.all_problems(),
            "warnings": self.warnings(),
        })
    }
}

fn opened_at(member: &Membership) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(member.opened).ok()?).ok()?;
    Some(time.to_string())
}

/// The routes of the admin port.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    match admin.why_not_ready() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.context.telemetry.metrics.text()).into_response()
}

#[derive(Deserialize)]
struct StatusQuery {
    /// Lists the connections instead.
    connections: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
}

async fn status(
    State(admin): State<Arc<Admin>>,
    Extension(socket): Extension<Socket>,
    Query(query): Query<StatusQuery>,
) -> Response {
    let body = match query.connections {
        None => admin.status(),
        Some(_) if !socket.peer.ip().to_canonical().is_loopback() => {
            return (StatusCode::FORBIDDEN, "The connections are listed to loopback alone.\n")
                .into_response();
        }
        Some(_) => match query.after.map(|id| id.parse()).transpose() {
            Ok(after) => admin.connections(after),
            Err(_) => return (StatusCode::BAD_REQUEST, "after: must be a connection id.\n").into_response(),
        },
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
