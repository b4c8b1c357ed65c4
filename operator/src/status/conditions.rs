//! The four conditions. `Ready` is the sum of the others, and its reason is the one thing to look at
//! first: what the user has to mend comes before what merely takes time.

use sse_crds::SseGateway;

use super::{Failure, Observation, Pod, Rollout};
use crate::probe::Report;

pub const READY: &str = "Ready";
pub const AVAILABLE: &str = "Available";
pub const PROGRESSING: &str = "Progressing";
pub const NATS_CONNECTED: &str = "NatsConnected";

/// Reason of `Progressing` while the operator holds back its own change.
pub const WAITING: &str = "WaitingForRollout";

/// Reasons of a gateway that is not ready though nothing is wrong.
pub const RESTING: [&str; 2] = ["RollingOut", "ScaledToZero"];

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: &'static str,
    pub reason: String,
    pub message: String,
}

impl Verdict {
    fn new(status: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into() }
    }

    fn yes(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new("True", reason, message)
    }

    fn no(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new("False", reason, message)
    }

    fn unknown(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new("Unknown", reason, message)
    }

    fn is(&self, status: &str) -> bool {
        self.status == status
    }
}

/// All conditions of a gateway.
pub fn verdicts(gateway: &SseGateway, seen: &Observation) -> Vec<(&'static str, Verdict)> {
    let available = available(seen);
    let progressing = progressing(seen);
    let nats = nats_connected(gateway, seen);
    let ready = ready(gateway, seen, &available, &progressing, &nats);
    vec![(READY, ready), (AVAILABLE, available), (PROGRESSING, progressing), (NATS_CONNECTED, nats)]
}

/// The conditions that a spec which can not even be read decides.
pub fn refused(failure: &Failure) -> Vec<(&'static str, Verdict)> {
    let no = Verdict::no(failure.reason, &failure.message);
    vec![(READY, no.clone()), (PROGRESSING, no)]
}

fn available(seen: &Observation) -> Verdict {
    match &seen.rollout {
        Some(Rollout { ready, desired, .. }) if *ready > 0 => {
            Verdict::yes("PodsReady", format!("{ready} of {desired} pods are ready"))
        }
        Some(Rollout { desired: 0, .. }) => Verdict::no("ScaledToZero", "no pod is wanted"),
        Some(Rollout { desired, .. }) => Verdict::no("NoReadyPods", format!("0 of {desired} pods are ready")),
        None => Verdict::no("NoReadyPods", "there is no Deployment"),
    }
}

fn progressing(seen: &Observation) -> Verdict {
    if let Some(failure) = &seen.failure {
        return Verdict::no(failure.reason, &failure.message);
    }
    match &seen.rollout {
        Some(rollout) if seen.waiting && (rollout.complete() || rollout.was_complete()) => Verdict::yes(
            WAITING,
            "the operator has new pods for this gateway, and replaces them when those of other gateways are; the present ones serve",
        ),
        Some(rollout) if rollout.complete() => {
            Verdict::no("RolledOut", format!("all {} pods are of this generation", rollout.desired))
        }
        Some(rollout) if rollout.was_complete() => Verdict::no("RolledOut", counts(rollout)),
        Some(rollout) if rollout.is_stuck() => Verdict::no(
            "ProgressDeadlineExceeded",
            format!("{}; see the events and logs of the pods", counts(rollout)),
        ),
        Some(rollout) => Verdict::yes("RollingOut", counts(rollout)),
        None => Verdict::yes("RollingOut", "the Deployment is being made"),
    }
}

fn counts(rollout: &Rollout) -> String {
    let Rollout { desired, updated, ready, .. } = rollout;
    format!("{updated} of {desired} pods are of this generation, {ready} ready")
}

fn nats_connected(gateway: &SseGateway, seen: &Observation) -> Verdict {
    let staying = seen.pods.iter().flatten().filter(|pod| !pod.terminating).count();
    let counting: Vec<&Pod> = seen.pods.iter().flatten().filter(|pod| pod.counts()).collect();
    let states: Vec<(bool, &Report)> = counting
        .iter()
        .filter_map(|pod| {
            let report = pod.report.as_ref()?;
            Some((report.nats.connected?, report))
        })
        .collect();
    let connected = states.iter().filter(|(connected, _)| *connected).count();
    let (all, read) = (counting.len(), states.len());
    if staying == 0 {
        return Verdict::unknown("NoPods", "there is no pod to ask");
    }
    if read == 0 {
        return Verdict::unknown(
            "PodsUnreadable",
            format!("the admin port (9090) of none of {staying} pods could be read"),
        );
    }
    let mut message = format!("{connected} of {all} pods are connected to {}", gateway.spec.nats.url);
    if read < all {
        message = format!("{message}; {} could not be read", all - read);
    }
    if connected < read {
        // The least text, so that the same outage gives the same message in whatever order pods answer.
        let error = states.iter().filter_map(|(_, report)| report.nats.last_error.as_deref()).min();
        message = format!("{message}: {}", error.unwrap_or("no error was reported"));
    } else if !gateway.spec.replay.enabled {
        message = format!("{message}; spec.replay.enabled is false: events are delivered at most once");
    }
    match connected {
        0 => Verdict::no("Disconnected", message),
        _ if connected < read => Verdict::no("Partial", message),
        // Nobody says no, and nobody knows of all.
        _ if read < all => Verdict::unknown("Partial", message),
        _ => Verdict::yes("Connected", message),
    }
}

fn ready(
    gateway: &SseGateway,
    seen: &Observation,
    available: &Verdict,
    progressing: &Verdict,
    nats: &Verdict,
) -> Verdict {
    if let Some(failure) = &seen.failure {
        return Verdict::no(failure.reason, &failure.message);
    }
    let scaled_to_zero = seen.rollout.as_ref().is_some_and(|rollout| rollout.desired == 0);
    if scaled_to_zero {
        return Verdict::no("ScaledToZero", "spec.replicas is 0: raise it to serve clients");
    }
    if let Some(problem) = problem(gateway, seen) {
        return problem;
    }
    let disconnected = || Verdict::no("NatsDisconnected", format!("spec.nats.url: {}", nats.message));
    let told_why = seen.reports().any(|(pod, report)| {
        !pod.terminating && report.nats.connected == Some(false) && report.nats.last_error.is_some()
    });
    // A pod that never reached NATS is not ready, so this is what holds the rollout.
    if nats.is("False") && told_why {
        return disconnected();
    }
    // Those that wait for new pods have pods of this generation.
    if progressing.reason != WAITING && (progressing.is("True") || progressing.reason != "RolledOut") {
        return Verdict::no(&progressing.reason, &progressing.message);
    }
    if !available.is("True") {
        return Verdict::no(&available.reason, format!("{}; see their events and logs", available.message));
    }
    // Rolled out once, and since then pods went away or became unready.
    if let Some(rollout) = seen.rollout.as_ref().filter(|rollout| !rollout.complete()) {
        return Verdict::no("PodsNotReady", format!("{}; see the pods' events and logs", counts(rollout)));
    }
    match nats.status {
        "True" => Verdict::yes("Ready", format!("{}, {}", available.message, nats.message)),
        "False" => disconnected(),
        _ => Verdict::unknown(
            &nats.reason,
            format!("{}: a network policy may keep the operator from the pods", nats.message),
        ),
    }
}

/// What the pods themselves complain of: those with the present configuration first.
fn problem(gateway: &SseGateway, seen: &Observation) -> Option<Verdict> {
    let mut reports: Vec<(&Pod, &Report)> = seen.reports().filter(|(pod, _)| !pod.terminating).collect();
    reports.sort_by_key(|(pod, _)| !pod.current);
    let complaining = reports.into_iter().map(|(_, report)| report);
    complaining.into_iter().find_map(|report| {
        if !report.missing_secrets.is_empty() {
            let secrets: Vec<_> = report.missing_secrets.iter().map(|secret| in_spec(secret)).collect();
            let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
            return Some(Verdict::no(
                "MissingSecret",
                format!(
                    "{}: create the Secret in namespace {namespace}, or the key in it; pods find it within two minutes",
                    secrets.join("; ")
                ),
            ));
        }
        let problem = report.problems.first()?;
        Some(Verdict::no(reason(&problem.reason), in_spec(&problem.message)))
    })
}

/// A message that begins with a field of the gateway's file, as the user's own path.
fn in_spec(message: &str) -> String {
    let field = message.split(':').next().unwrap_or_default();
    let is_path = message.len() > field.len()
        && field.starts_with(|c: char| c.is_ascii_lowercase())
        && !field.contains(char::is_whitespace);
    if is_path && !field.starts_with("spec.") { format!("spec.{message}") } else { message.to_owned() }
}

/// A reason that the API server takes, whatever a pod said.
fn reason(word: &str) -> &str {
    let camel = word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.len() <= 128
        && word.bytes().all(|b| b.is_ascii_alphanumeric());
    if camel { word } else { "GatewayProblem" }
}
