//! All gateways together, in numbers: what the watches know at the moment at which someone asks. Nothing
//! is kept, so a gateway that is gone is not counted, and neither is any by an operator that never led.

use std::time::Instant;

use sse_crds::SseGateway;

use crate::cache::Cache;
use crate::reconcile::Context;
use crate::rollouts::Rollouts;
use crate::status::{PROGRESSING, READY, WAITING, condition};

/// How many gateways there are, and of what kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Their condition `Ready` is true.
    pub ready: usize,
    /// All others: those that nobody has looked at yet among them, and those that can not be read.
    pub unready: usize,
    /// Those whose pods are replaced.
    pub rolling: usize,
    /// Those whose pods are to be replaced after those of others.
    pub waiting: usize,
}

impl Fleet {
    #[must_use]
    pub fn of(context: &Context) -> Self {
        Self::count(&context.cache, &context.rollouts)
    }

    fn count(cache: &Cache, rollouts: &Rollouts) -> Self {
        let mut fleet = Self { rolling: rollouts.taken(cache, Instant::now()), ..Self::default() };
        for watched in cache.gateways() {
            let gateway = watched.0.as_ref().ok();
            if gateway.is_some_and(is_ready) {
                fleet.ready += 1;
            } else {
                fleet.unready += 1;
            }
            fleet.waiting += usize::from(gateway.is_some_and(waits));
        }
        fleet
    }
}

fn is_ready(gateway: &SseGateway) -> bool {
    let ready = gateway.status.as_ref().and_then(|status| condition(status, READY));
    ready.is_some_and(|ready| ready.status == "True")
}

fn waits(gateway: &SseGateway) -> bool {
    let progress = gateway.status.as_ref().and_then(|status| condition(status, PROGRESSING));
    progress.is_some_and(|progress| progress.reason == WAITING)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::Watched;

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn gateway(name: &str, conditions: &[Value]) -> Watched {
        serde_json::from_value(json!({
            "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {"nats": {"url": "nats://n"}, "auth": {"issuers": []}},
            "status": {"conditions": conditions},
        }))
        .expect("a gateway")
    }

    #[test]
    fn gateways_count_by_what_their_status_says_and_not_at_all_when_they_are_gone() {
        let mut cache = Cache::default();
        let (mut one, mut two) = (cache.scope(), cache.scope());
        let rollouts = Rollouts::new(1);
        assert_eq!(Fleet::count(&cache, &rollouts), Fleet::default());
        let ready = condition(READY, "True", "Ready");
        let waiting = gateway("waits", &[ready.clone(), condition(PROGRESSING, "True", WAITING)]);
        let unreadable: Watched = serde_json::from_value(
            json!({"metadata": {"name": "odd", "namespace": "demo"}, "spec": {"nats": 1}}),
        )
        .expect("a guarded object");
        assert!(unreadable.0.is_err());
        for object in [
            gateway("ready", &[ready, condition(PROGRESSING, "True", "RolledOut")]),
            waiting.clone(),
            gateway("new", &[]),
            gateway("down", &[condition(READY, "False", "MissingSecret")]),
        ] {
            one.gateways.apply_watcher_event(&Event::Apply(object));
        }
        two.gateways.apply_watcher_event(&Event::Apply(unreadable));
        let fleet = Fleet { ready: 2, unready: 3, rolling: 0, waiting: 1 };
        assert_eq!(Fleet::count(&cache, &rollouts), fleet);
        one.gateways.apply_watcher_event(&Event::Delete(waiting));
        assert_eq!(Fleet::count(&cache, &rollouts), Fleet { ready: 1, waiting: 0, ..fleet });
    }
}
