//! Kubernetes events, for `kubectl describe` and for those who watch a namespace: one when a gateway
//! becomes ready, one when the reason that it is not changes. Retries tell nothing new.

use kube::runtime::events::{Event, EventType};
use sse_crds::SseGatewayStatus;

use crate::status::{READY, RESTING, clipped, condition};

/// The event that the step from `previous` to `next` deserves.
///
/// `failure` is the whole chain of what went wrong in the operator itself.
#[must_use]
pub fn of(
    previous: Option<&SseGatewayStatus>,
    next: &SseGatewayStatus,
    failure: Option<String>,
) -> Option<Event> {
    let ready = condition(next, READY)?;
    let before = previous.and_then(|status| condition(status, READY));
    let same = before.is_some_and(|before| before.status == ready.status && before.reason == ready.reason);
    let reworded = failure.is_some() && before.is_some_and(|before| before.message != ready.message);
    if (same && !reworded) || RESTING.contains(&ready.reason.as_str()) {
        return None;
    }
    let type_ = if ready.status == "True" { EventType::Normal } else { EventType::Warning };
    Some(Event {
        type_,
        reason: ready.reason.clone(),
        note: Some(clipped(failure.unwrap_or_else(|| ready.message.clone()))),
        action: "Reconcile".into(),
        secondary: None,
    })
}

/// An error and all its causes, each once.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // What the API server said, and not kube's print of its whole answer, is the end of the chain.
        let api = error.downcast_ref().and_then(|error| match error {
            kube::Error::Api(status) => Some(status.message.clone()),
            _ => None,
        });
        next = if api.is_some() { None } else { error.source() };
        let words = api.unwrap_or_else(|| error.to_string());
        if text.is_empty() {
            text = words;
        } else if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn status(ready: &str, reason: &str, message: &str) -> SseGatewayStatus {
        let condition = Condition {
            type_: READY.into(),
            status: ready.into(),
            reason: reason.into(),
            message: message.into(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        SseGatewayStatus { conditions: vec![condition], ..SseGatewayStatus::default() }
    }

    #[test]
    fn a_gateway_that_becomes_ready_is_told_once() {
        let ready = status("True", "Ready", "2 of 2");
        let event = of(Some(&status("False", "RollingOut", "")), &ready, None).expect("an event");
        assert_eq!((event.type_, event.reason.as_str()), (EventType::Normal, "Ready"));
        assert!(of(Some(&ready), &status("True", "Ready", "3 of 3"), None).is_none());
    }

    #[test]
    fn a_failure_is_told_when_it_changes_and_not_at_each_retry() {
        let failed = status("False", "ApplyFailed", "denied");
        let event = of(None, &failed, Some("apply: denied: quota".into())).expect("an event");
        assert_eq!(event.type_, EventType::Warning);
        assert_eq!(event.note.as_deref(), Some("apply: denied: quota"));
        assert!(of(Some(&failed), &failed, Some("apply: denied: quota".into())).is_none());
        let reworded = status("False", "ApplyFailed", "invalid");
        assert!(of(Some(&failed), &reworded, Some("apply: invalid".into())).is_some());
    }

    #[test]
    fn a_rollout_is_no_news_and_neither_is_a_reworded_outage() {
        let ready = status("True", "Ready", "");
        assert!(of(Some(&ready), &status("False", "RollingOut", ""), None).is_none());
        let out = status("False", "NatsDisconnected", "a");
        assert!(of(Some(&ready), &out, None).is_some());
        assert!(of(Some(&out), &status("False", "NatsDisconnected", "b"), None).is_none());
    }

    #[test]
    fn a_chain_has_each_cause_once_in_the_api_servers_words() {
        let api = kube::Error::Api(kube::core::Status::failure("quota exceeded", "Forbidden").boxed());
        let error = crate::apply::Error::Api {
            kind: "Service".into(),
            namespace: "demo".into(),
            name: "live".into(),
            action: "applied",
            source: api,
        };
        assert_eq!(chain(&error), "Service demo/live was not applied: quota exceeded");
    }
}
