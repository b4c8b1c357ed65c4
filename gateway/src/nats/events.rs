//! What the client library tells of the connection, and why there is none: with the field of the
//! configuration that is to be looked at.
//!
//! The library's events tell only the kind of an error: "IO error". What it keeps of each server tells
//! more, and is handed out before each attempt.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{ClientError, Event, Server};
use sse_crds::SecretKeyRef;
use sse_crds::nats::Nats;
use tokio::sync::watch;
use tracing::{info, warn};

use super::link::LinkState;
use crate::seldom::Seldom;
use crate::telemetry::metrics::Metrics;

/// What a server says when a user may not publish or subscribe somewhere.
const DENIED: &str = "permissions violation";
/// Most of those that are told of one connection.
const MOST_DENIED: usize = 8;

/// Tells the state of the connection, as long as its client is the present one.
pub struct Teller {
    causes: Causes,
    /// `<prefix>`
    prefix: String,
    states: Arc<watch::Sender<LinkState>>,
    metrics: Arc<Metrics>,
    present: Arc<AtomicU64>,
    this: u64,
    /// Of what can happen with each message.
    overflows: Seldom,
    server_errors: Seldom,
    /// What was not permitted over the present connection, once each.
    denied: Mutex<BTreeSet<String>>,
}

impl Teller {
    #[must_use]
    pub fn new(
        nats: &Nats,
        states: Arc<watch::Sender<LinkState>>,
        metrics: Arc<Metrics>,
        present: Arc<AtomicU64>,
        this: u64,
    ) -> Self {
        let (overflows, server_errors) = (Seldom::default(), Seldom::default());
        let (causes, prefix, denied) = (Causes::new(nats), nats.subject_prefix.clone(), Mutex::default());
        Self { causes, prefix, states, metrics, present, this, overflows, server_errors, denied }
    }

    fn counts(&self) -> bool {
        self.present.load(Ordering::Relaxed) == self.this
    }

    /// Takes what happened.
    pub fn note(&self, event: &Event) {
        if self.counts() {
            self.tell(event);
        }
    }

    /// Takes why the last attempt failed: more than its event told, be it before or after this.
    pub fn note_attempts(&self, servers: &[Server]) {
        let cause = self.causes.of(servers).filter(|_| self.counts());
        if let Some(error) = cause.filter(|cause| self.states.borrow().error.as_ref() != Some(cause)) {
            warn!(error, "NATS is not reached.");
            self.states.send_modify(|state| state.error = Some(error));
        }
    }

    fn tell(&self, event: &Event) {
        let states = &self.states;
        match event {
            Event::Connected => {
                self.denied.lock().unwrap_or_else(PoisonError::into_inner).clear();
                states.send_modify(|state| {
                    if state.generation > 0 {
                        self.metrics.nats_reconnects.inc();
                    }
                    state.connected = true;
                    state.generation += 1;
                    (state.error, state.denied) = (None, None);
                });
                info!("Connected to NATS.");
            }
            Event::Disconnected | Event::Closed => {
                states.send_modify(|state| state.connected = false);
                warn!("Disconnected from NATS.");
            }
            Event::SlowConsumer(_) => {
                self.metrics.slow_consumer.inc();
                if let Some(others) = self.overflows.turn() {
                    warn!(others, "The live feed overflowed; what was dropped is read from the log.");
                }
            }
            Event::LameDuckMode => info!("The NATS server is about to stop."),
            Event::ServerError(error) => {
                let error = without_ids(&self.prefix, &error.to_string());
                if let Some(others) = self.server_errors.turn() {
                    warn!(error, others, "The NATS server reports an error.");
                }
                let denied = self.denied(&error);
                states.send_modify(|state| {
                    state.error = Some(error);
                    state.denied = denied.or_else(|| state.denied.take());
                });
            }
            Event::ClientError(error) => {
                let text = error.to_string();
                let news = states.send_if_modified(|state| {
                    let news =
                        !state.error.as_deref().is_some_and(|known| known == text || tells(known, error));
                    if news {
                        state.error = Some(text);
                    }
                    news
                });
                if news {
                    warn!(%error, "The NATS connection reports an error.");
                }
            }
            Event::Draining => {}
        }
    }

    /// All that was not permitted over this connection, if an error is of that kind: in the order of the alphabet, so
    /// that pods which lack the same say the same.
    fn denied(&self, error: &str) -> Option<String> {
        error.to_ascii_lowercase().contains(DENIED).then(|| {
            let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            if denied.len() < MOST_DENIED {
                denied.insert(error.trim_start_matches("nats: ").to_owned());
            }
            let all: Vec<&str> = denied.iter().map(String::as_str).collect();
            self.causes.explain(&all.join("; "))
        })
    }
}

/// What a server says, without what is last in a subject that it quotes where that is an id: of a user, below the tenant, or
/// of a token, below the bucket.
fn without_ids(prefix: &str, text: &str) -> String {
    for quoted in [format!("\"{prefix}."), "\"$KV.".to_owned()] {
        let Some((before, rest)) = text.split_once(&quoted) else { continue };
        let (subject, after) = rest.split_once('"').unwrap_or((rest, ""));
        match subject.split_once('.') {
            // The marks of the gateways are nobody's.
            Some((first, _)) if !first.starts_with('_') => {
                return format!("{before}{quoted}{first}.…\"{after}");
            }
            _ => {}
        }
    }
    text.to_owned()
}

/// Whether a cause is of the kind that the event tells, and so tells more.
fn tells(cause: &str, event: &ClientError) -> bool {
    matches!(event, ClientError::Other(kind) if cause.contains(kind.as_str()))
}

/// The part of an error, the field that it speaks of.
type Blame = (&'static str, String);

/// What is known of the attempts of one client.
struct Causes {
    blame: [Blame; 6],
    failures: AtomicUsize,
}

impl Causes {
    fn new(nats: &Nats) -> Self {
        let field = |name: &str, secret: Option<String>| {
            format!("nats.{name}: {}", secret.as_deref().unwrap_or("not set"))
        };
        let path = |secret: &SecretKeyRef| format!("{}/{}", secret.name, secret.key);
        let authority = field("tls.caSecretRef", nats.tls.ca_secret_ref.as_ref().map(path));
        let certificate = nats.tls.cert_secret_ref.as_ref().map(|secret| secret.name.clone());
        let credentials = field("credentialsSecretRef", nats.credentials_secret_ref.as_ref().map(path));
        let blame = [
            ("UnknownIssuer", authority.clone()),
            ("BadSignature", authority.clone()),
            ("could not load certs", authority),
            ("received fatal alert", field("tls.certSecretRef", certificate)),
            ("authorization violation", credentials.clone()),
            (DENIED, credentials),
        ];
        Self { blame, failures: AtomicUsize::new(0) }
    }

    /// The cause, if a server was tried in vain since this was asked.
    fn of(&self, servers: &[Server]) -> Option<String> {
        let failures = servers.iter().map(|server| server.failed_attempts).sum();
        // Else what is kept is old: a name that is not found is no server's error.
        let tried = self.failures.swap(failures, Ordering::Relaxed) != failures;
        // The least, so that the same outage gives the same text.
        let error = servers.iter().filter_map(|server| server.last_error.as_deref()).min()?;
        tried.then(|| self.explain(error))
    }

    fn explain(&self, error: &str) -> String {
        let lower = error.to_ascii_lowercase();
        let blamed = self.blame.iter().find(|(part, _)| lower.contains(&part.to_ascii_lowercase()));
        blamed.map_or_else(|| error.to_owned(), |(_, field)| format!("{field}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn causes(nats: serde_json::Value) -> Causes {
        Causes::new(&serde_json::from_value(nats).expect("a configuration"))
    }

    #[test]
    fn the_field_that_an_error_speaks_of_is_named() {
        let set = causes(json!({"url": "tls://nats",
            "credentialsSecretRef": {"name": "user", "key": "nats.creds"},
            "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}, "certSecretRef": {"name": "client"}}}));
        let unset = causes(json!({"url": "tls://nats"}));
        for (error, secret, field) in [
            ("IO error: invalid peer certificate: UnknownIssuer", "ca/ca.crt", "nats.tls.caSecretRef"),
            ("IO error: received fatal alert: CertificateRequired", "client", "nats.tls.certSecretRef"),
            ("authorization violation: nats: …", "user/nats.creds", "nats.credentialsSecretRef"),
        ] {
            assert_eq!(set.explain(error), format!("{field}: {secret}: {error}"));
            assert_eq!(unset.explain(error), format!("{field}: not set: {error}"));
        }
        assert_eq!(set.explain("IO error: Connection refused"), "IO error: Connection refused");
    }

    #[test]
    fn an_error_tells_no_user() {
        let violation = |subject| format!("permissions violation for publish to \"{subject}\" of x");
        let told = |subject| without_ids("sse", &violation(subject));
        assert_eq!(told("sse.acme.user.alice"), violation("sse.acme.…"));
        assert_eq!(told("$KV.SSE_tokens_a_b.0123"), violation("$KV.SSE_tokens_a_b.…"));
        for other in ["sse._sys.pod", "sse.acme", "$JS.API.INFO", "ssex.acme.user.alice"] {
            assert_eq!(told(other), violation(other));
        }
    }

    #[test]
    fn what_is_kept_of_an_earlier_attempt_is_not_told_again() {
        let causes = causes(json!({"url": "nats://nats"}));
        let server = |failed_attempts, error: Option<&str>| Server {
            addr: "nats://nats".parse().expect("an address"),
            failed_attempts,
            did_connect: false,
            is_discovered: false,
            last_error: error.map(str::to_owned),
        };
        assert_eq!(causes.of(&[server(0, None)]), None);
        assert_eq!(causes.of(&[server(1, Some("b")), server(1, Some("a"))]).as_deref(), Some("a"));
        assert_eq!(causes.of(&[server(1, Some("b")), server(1, Some("a"))]), None);
        assert_eq!(causes.of(&[server(2, Some("c")), server(1, Some("d"))]).as_deref(), Some("c"));
    }
}
