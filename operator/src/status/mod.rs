//! `status` from observations: pure functions of what was seen.

mod conditions;
mod rollout;
mod url;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use sse_crds::{SseGateway, SseGatewayStatus};

use conditions::Verdict;
pub use conditions::{PROGRESSING, READY, RESTING, WAITING};
pub use rollout::Rollout;

use crate::plan;
use crate::probe::Report;

/// Bytes of a message that a condition or an event keeps.
pub const MAX_MESSAGE: usize = 1000;

/// Why the plan could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A CamelCase word.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A pod of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Whether it runs the present configuration.
    pub current: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether Kubernetes sends it clients.
    pub ready: bool,
    /// What it says of itself; none if it could not be read.
    pub report: Option<Report>,
}

/// What was seen of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    pub failure: Option<Failure>,
    /// The operator would have new pods, and waits until other gateways have theirs.
    pub waiting: bool,
    /// None: there is no Deployment, or it could not be read.
    pub rollout: Option<Rollout>,
    /// None: they could not be listed.
    pub pods: Option<Vec<Pod>>,
}

impl Observation {
    fn reports(&self) -> impl Iterator<Item = (&Pod, &Report)> {
        self.pods.iter().flatten().filter_map(|pod| Some((pod, pod.report.as_ref()?)))
    }
}

/// The status of `gateway`, whose last known one is `previous`.
#[must_use]
pub fn assess(
    gateway: &SseGateway,
    previous: Option<&SseGatewayStatus>,
    seen: &Observation,
    now: Timestamp,
) -> SseGatewayStatus {
    let meta = &gateway.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let verdicts = conditions::verdicts(gateway, seen);
    SseGatewayStatus {
        observed_generation: meta.generation,
        replicas: Some(seen.rollout.as_ref().map_or(0, |rollout| rollout.replicas)),
        ready_replicas: Some(seen.rollout.as_ref().map_or(0, |rollout| rollout.ready)),
        connections: connections(seen),
        url: Some(url::of(&gateway.spec, namespace, name)),
        selector: Some(plan::selector_string(name)),
        conditions: stamp(verdicts, previous, meta.generation, now),
    }
}

/// The status of a gateway whose spec can not be read: what was known stays, but it is not ready.
#[must_use]
pub fn refuse(
    previous: Option<&SseGatewayStatus>,
    generation: Option<i64>,
    failure: &Failure,
    now: Timestamp,
) -> SseGatewayStatus {
    let mut next = previous.cloned().unwrap_or_default();
    next.observed_generation = generation;
    let refused = stamp(conditions::refused(failure), previous, generation, now);
    next.conditions.retain(|kept| refused.iter().all(|new| new.type_ != kept.type_));
    next.conditions.extend(refused);
    next
}

/// Holds back a changed number of connections that is not worth a write: within 1 % of what is
/// written, or too soon after it.
#[must_use]
pub fn settle(
    previous: Option<&SseGatewayStatus>,
    mut next: SseGatewayStatus,
    may_count: bool,
) -> SseGatewayStatus {
    if let (Some(old), Some(new)) = (previous.and_then(|status| status.connections), next.connections) {
        let close = new.abs_diff(old).saturating_mul(100) <= old.unsigned_abs();
        if close || !may_count {
            next.connections = Some(old);
        }
    }
    next
}

impl Pod {
    /// Whether it has to be known for what is said of all: one that comes or goes is not waited for.
    const fn counts(&self) -> bool {
        !self.terminating && (self.ready || self.report.is_some())
    }
}

/// Open streams over all pods, those that drain included. The sum is not known while a pod that serves was not read.
fn connections(seen: &Observation) -> Option<i64> {
    let known = |pod: &Pod| pod.report.as_ref().is_some_and(|report| report.connections.is_some());
    if seen.pods.iter().flatten().any(|pod| pod.counts() && !known(pod)) {
        return None;
    }
    let counts: Vec<i64> = seen.reports().filter_map(|(_, report)| report.connections).collect();
    if !counts.is_empty() {
        return Some(counts.iter().sum());
    }
    let none_wanted = seen.rollout.as_ref().is_some_and(|rollout| rollout.desired == 0);
    let none_there = seen.pods.as_ref().is_some_and(Vec::is_empty);
    (none_wanted && none_there).then_some(0)
}

/// Conditions of the verdicts. A condition's time is when its status last changed, so that looking
/// again changes nothing.
fn stamp(
    verdicts: Vec<(&'static str, Verdict)>,
    previous: Option<&SseGatewayStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let stamp = |(type_, verdict): (&'static str, Verdict)| {
        let before = previous.and_then(|status| condition(status, type_));
        let since = before.filter(|old| old.status == verdict.status);
        Condition {
            type_: type_.into(),
            status: verdict.status.into(),
            last_transition_time: since.map_or(Time(now), |old| old.last_transition_time.clone()),
            reason: verdict.reason,
            message: clipped(verdict.message),
            observed_generation: generation,
        }
    };
    verdicts.into_iter().map(stamp).collect()
}

/// The condition of that type.
#[must_use]
pub fn condition<'a>(status: &'a SseGatewayStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// At most [`MAX_MESSAGE`] bytes of a text, cut between characters.
#[must_use]
pub fn clipped(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
