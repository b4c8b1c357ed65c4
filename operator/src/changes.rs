//! Whether anything happened to a gateway's children since a certain moment. While nothing did, and
//! nothing else is planned for them, they are as they were applied, and need not be asked for.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::watcher::{self, Event};
use sse_crds::SseGateway;

use crate::memory::Key;

/// What the watches of the children told.
#[derive(Debug, Default)]
pub struct Changes {
    /// Counts every event.
    clock: AtomicU64,
    /// Watches that have not listed their objects yet.
    blind: AtomicUsize,
    /// When a watch began anew: what was deleted while it was broken was not told.
    relisted: AtomicU64,
    /// When the children of a gateway changed last.
    touched: Mutex<HashMap<Key, u64>>,
}

/// A moment in what the watches told of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Changes {
    /// Counts on a watch from now on; what it returns has to hear all its events. Those that `means_nothing`
    /// speaks of are passed over.
    pub fn of<K: Resource, F: Fn(&K) -> bool>(
        self: &Arc<Self>,
        means_nothing: F,
    ) -> impl FnMut(&watcher::Result<Event<K>>) + use<K, F> {
        self.blind.fetch_add(1, SeqCst);
        let (changes, mut listed) = (self.clone(), false);
        move |event| match event {
            Ok(Event::Apply(object)) if means_nothing(object) => {}
            Ok(Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) => {
                changes.touch(object.meta());
            }
            Ok(Event::Init) => changes.relisted.store(changes.tick(), SeqCst),
            Ok(Event::InitDone) if !listed => {
                listed = true;
                changes.blind.fetch_sub(1, SeqCst);
            }
            Ok(Event::InitDone) | Err(_) => {}
        }
    }

    /// The same for a watch that nothing waits for, since what it is of may not be there.
    pub fn of_optional<K: Resource, F: Fn(&K) -> bool>(
        self: &Arc<Self>,
        means_nothing: F,
    ) -> impl FnMut(&watcher::Result<Event<K>>) + use<K, F> {
        let changes = self.clone();
        move |event| match event {
            Ok(Event::Apply(object)) if means_nothing(object) => {}
            Ok(Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) => {
                changes.touch(object.meta());
            }
            // What came before was not told: that there is the API now, to begin with.
            Ok(Event::InitDone) => changes.relisted.store(changes.tick(), SeqCst),
            Ok(Event::Init) | Err(_) => {}
        }
    }

    /// The moment of the last change that concerns the gateway; none while a watch is blind.
    pub fn mark(&self, key: &Key) -> Option<Mark> {
        if self.blind.load(SeqCst) > 0 {
            return None;
        }
        let touched = self.lock().get(key).copied().unwrap_or(0);
        Some(Mark(touched.max(self.relisted.load(SeqCst))))
    }

    /// Forgets a gateway that is gone.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn touch(&self, child: &ObjectMeta) {
        let owners = child.owner_references.iter().flatten();
        let kind = SseGateway::kind(&());
        for owner in owners.filter(|owner| owner.controller == Some(true) && owner.kind == kind) {
            let key = (child.namespace.clone().unwrap_or_default(), owner.name.clone());
            let now = self.tick();
            self.lock().insert(key, now);
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst) + 1
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    fn service(owner: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "demo", "name": "s", "ownerReferences": [{
            "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway", "name": owner, "uid": "u",
            "controller": true}]}}))
        .expect("a Service")
    }

    fn mark(changes: &Changes, name: &str) -> Option<Mark> {
        changes.mark(&("demo".into(), name.into()))
    }

    #[test]
    fn nothing_is_known_before_every_watch_has_listed() {
        let changes = Arc::<Changes>::default();
        let mut services = changes.of(|_: &Service| false);
        let mut others = changes.of(|_: &Service| false);
        services(&Ok(Event::Init));
        services(&Ok(Event::InitDone));
        assert_eq!(mark(&changes, "live"), None);
        others(&Ok(Event::InitDone));
        assert!(mark(&changes, "live").is_some());
        // Begun anew it is not blind: it knows what it knew.
        others(&Ok(Event::Init));
        others(&Ok(Event::InitDone));
        assert!(mark(&changes, "live").is_some());
    }

    #[test]
    fn a_watch_that_may_never_list_is_not_waited_for_and_concerns_all_once_it_does() {
        let changes = Arc::<Changes>::default();
        let mut watch = changes.of_optional(|_: &Service| false);
        let before = mark(&changes, "live");
        watch(&Ok(Event::Init));
        assert!(before.is_some() && mark(&changes, "live") == before);
        watch(&Ok(Event::InitDone));
        let listed = mark(&changes, "live");
        assert_ne!(listed, before);
        watch(&Ok(Event::Delete(service("live"))));
        assert_ne!(mark(&changes, "live"), listed);
        assert_eq!(mark(&changes, "other"), listed);
    }

    #[test]
    fn a_changed_child_concerns_its_gateway_alone_and_a_broken_watch_all() {
        let changes = Arc::<Changes>::default();
        let mut watch = changes.of(|service: &Service| service.metadata.generation == Some(1));
        watch(&Ok(Event::InitDone));
        let (live, other) = (mark(&changes, "live"), mark(&changes, "other"));
        watch(&Ok(Event::Delete(service("live"))));
        assert_ne!(mark(&changes, "live"), live);
        assert_eq!(mark(&changes, "other"), other);
        let live = mark(&changes, "live");
        let mut same = service("live");
        same.metadata.generation = Some(1);
        watch(&Ok(Event::Apply(same)));
        assert_eq!(mark(&changes, "live"), live);
        watch(&Ok(Event::Init));
        assert_ne!(mark(&changes, "live"), live);
        assert_ne!(mark(&changes, "other"), other);
    }
}
