//! How many gateways get new pods at once when the operator is the cause: a new default image, or a new
//! way to render the same declaration. What a user changes is never held up.
//!
//! Told apart by an annotation of the Deployment: the gateway's generation, and the hash of the pod
//! template that was rendered from it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::memory::Key;

/// Annotation of the Deployment: generation of the gateway, and hash of the pod template.
const RENDERED: &str = "ssegateway.io/rendered";
/// How long a place is kept for a gateway whose Deployment the watch does not show.
const UNSEEN: Duration = Duration::from_mins(2);

/// Who wants the pods of a Deployment to be others than they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody: the same pods are rendered.
    Nobody,
    User,
    Operator,
}

/// Notes on a planned Deployment from what generation of the gateway it was rendered, and to what pod.
pub fn sign(planned: &mut Deployment, generation: i64) {
    let template = planned.spec.as_ref().and_then(|spec| serde_json::to_vec(&spec.template).ok());
    let hash = Sha256::digest(template.unwrap_or_default());
    let hash = hash.iter().take(8).fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    let annotations = planned.metadata.annotations.get_or_insert_default();
    annotations.insert(RENDERED.into(), format!("{generation} {hash}"));
}

/// Why a signed Deployment would replace the pods of the live one.
#[must_use]
pub fn cause(live: Option<&ObjectMeta>, planned: &Deployment) -> Cause {
    // Where there is nothing, nothing is disturbed.
    let Some(live) = live else { return Cause::User };
    match (signature(live), signature(&planned.metadata)) {
        (Some((_, had)), Some((_, wanted))) if had == wanted => Cause::Nobody,
        (Some((before, _)), Some((now, _))) if before != now => Cause::User,
        _ => Cause::Operator,
    }
}

fn signature(meta: &ObjectMeta) -> Option<(&str, &str)> {
    meta.annotations.as_ref()?.get(RENDERED)?.split_once(' ')
}

/// Places for rollouts.
#[derive(Debug)]
pub struct Rollouts {
    limit: usize,
    /// Gateways that were given a place, until the watch shows the Deployment that they got.
    admitted: Mutex<HashMap<Key, Admission>>,
}

#[derive(Debug)]
struct Admission {
    at: Instant,
    /// Generation of the Deployment, once it was changed.
    generation: Option<i64>,
}

impl Admission {
    /// Whether the watch has yet to show what came of it.
    fn counts(&self, key: &Key, cache: &Cache, now: Instant) -> bool {
        let shown = cache.deployment(key).and_then(|deployment| deployment.metadata.generation);
        let is_shown = self.generation.is_some_and(|generation| shown >= Some(generation));
        !is_shown && now.saturating_duration_since(self.at) < UNSEEN
    }
}

impl Rollouts {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, admitted: Mutex::default() }
    }

    /// Gives the gateway a place, if fewer than the limit are taken: by gateways whose pods are replaced,
    /// for whatever cause, and by those that were given one a moment ago.
    pub fn admit(&self, key: &Key, cache: &Cache, now: Instant) -> bool {
        if !cache.knows_deployments() {
            return false;
        }
        let mut admitted = self.lock();
        admitted.retain(|key, admission| admission.counts(key, cache, now));
        if admitted.contains_key(key) {
            return true;
        }
        let mut rolling = cache.rolling();
        rolling.extend(admitted.keys().cloned());
        // A rollout that is replaced by another takes no second place.
        rolling.remove(key);
        let admits = rolling.len() < self.limit;
        if admits {
            admitted.insert(key.clone(), Admission { at: now, generation: None });
        }
        admits
    }

    /// How many gateways take a place.
    #[must_use]
    pub fn taken(&self, cache: &Cache, now: Instant) -> usize {
        let mut rolling = cache.rolling();
        let admitted = self.lock();
        rolling.extend(
            admitted.iter().filter(|(key, it)| it.counts(key, cache, now)).map(|(key, _)| key.clone()),
        );
        rolling.len()
    }

    /// The Deployment was changed: the watch will show it.
    pub fn changed(&self, key: &Key, deployment: &Deployment) {
        if let Some(admission) = self.lock().get_mut(key) {
            admission.generation = deployment.metadata.generation.or(Some(0));
        }
    }

    /// The Deployment was not changed.
    pub fn withdraw(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Admission>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::plan;
    use crate::plan::fixtures::{gateway, settings};

    /// The signed Deployment of a gateway.
    fn planned(image: &str, generation: i64, patch: serde_json::Value) -> Deployment {
        let mut gateway = gateway(patch);
        gateway.metadata.generation = Some(generation);
        let settings = plan::Settings { image: image.into(), ..settings() };
        let mut children = plan::children(&gateway, &settings).expect("a plan");
        sign(&mut children.deployment, generation);
        children.deployment
    }

    #[test]
    fn the_same_pod_rendered_again_is_nobodys_rollout() {
        let live = planned("i:1", 3, json!({}));
        assert_eq!(cause(Some(&live.metadata), &planned("i:1", 3, json!({}))), Cause::Nobody);
        // Neither is a change of the declaration that the pods do not see.
        assert_eq!(cause(Some(&live.metadata), &planned("i:1", 4, json!({"replicas": 5}))), Cause::Nobody);
        let annotated = planned("i:1", 4, json!({"expose": {"service": {"annotations": {"a": "b"}}}}));
        assert_eq!(cause(Some(&live.metadata), &annotated), Cause::Nobody);
        // Nor a new default image where the user named one.
        let own = json!({"pod": {"image": "mine:1"}});
        let live = planned("i:1", 3, own.clone());
        assert_eq!(cause(Some(&live.metadata), &planned("i:2", 3, own)), Cause::Nobody);
    }

    #[test]
    fn a_new_image_is_the_operators_rollout_and_a_new_generation_the_users() {
        let live = planned("i:1", 3, json!({}));
        assert_eq!(cause(Some(&live.metadata), &planned("i:2", 3, json!({}))), Cause::Operator);
        let changed = json!({"stream": {"heartbeatIntervalSeconds": 7}});
        assert_eq!(cause(Some(&live.metadata), &planned("i:1", 4, changed.clone())), Cause::User);
        assert_eq!(cause(Some(&live.metadata), &planned("i:2", 4, changed)), Cause::User);
        assert_eq!(cause(None, &planned("i:2", 3, json!({}))), Cause::User);
        // One that nobody signed was made by another operator.
        assert_eq!(cause(Some(&ObjectMeta::default()), &planned("i:2", 3, json!({}))), Cause::Operator);
    }

    fn key(name: &str) -> Key {
        ("demo".into(), name.into())
    }

    fn deployment(name: &str, generation: i64, updated: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"namespace": "demo", "name": name, "generation": generation},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": generation, "replicas": 2, "updatedReplicas": updated, "readyReplicas": 2},
        }))
        .expect("a Deployment")
    }

    #[test]
    fn a_place_is_taken_until_the_rollout_is_complete() {
        let mut cache = Cache::default();
        let mut writers = cache.scope();
        let (rollouts, now) = (Rollouts::new(1), Instant::now());
        assert!(!rollouts.admit(&key("a"), &cache, now), "who rolls is not known yet");
        for name in ["a", "b"] {
            writers.deployments.apply_watcher_event(&Event::InitApply(deployment(name, 1, 2)));
        }
        writers.deployments.apply_watcher_event(&Event::InitDone);
        assert!(rollouts.admit(&key("a"), &cache, now));
        assert!(rollouts.admit(&key("a"), &cache, now), "it has its place");
        assert!(!rollouts.admit(&key("b"), &cache, now), "a is about to be changed");
        assert_eq!(rollouts.taken(&cache, now), 1);
        rollouts.changed(&key("a"), &deployment("a", 2, 0));
        assert!(!rollouts.admit(&key("b"), &cache, now), "the watch does not show it yet");
        writers.deployments.apply_watcher_event(&Event::Apply(deployment("a", 2, 1)));
        assert!(!rollouts.admit(&key("b"), &cache, now), "a rolls");
        assert_eq!(rollouts.taken(&cache, now), 1);
        writers.deployments.apply_watcher_event(&Event::Apply(deployment("a", 2, 2)));
        assert_eq!(rollouts.taken(&cache, now), 0);
        assert!(rollouts.admit(&key("b"), &cache, now), "a is complete");
    }

    #[test]
    fn a_place_that_is_not_used_is_given_back() {
        let (cache, rollouts, now) = (Cache::default(), Rollouts::new(2), Instant::now());
        assert!(rollouts.admit(&key("a"), &cache, now) && rollouts.admit(&key("b"), &cache, now));
        assert!(!rollouts.admit(&key("c"), &cache, now));
        rollouts.withdraw(&key("a"));
        assert!(rollouts.admit(&key("c"), &cache, now));
        assert!(!rollouts.admit(&key("d"), &cache, now));
        assert!(rollouts.admit(&key("d"), &cache, now + UNSEEN), "nothing was ever seen of b and c");
    }
}
