//! The gateways, their Deployments and their pods as the watches brought them: no more of them than is
//! asked for, so that a quiet gateway costs the API server nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};

use crate::controller::Watched;
use crate::memory::Key;
use crate::status::Rollout;

/// Selects the pods of all gateways.
pub const PODS: &str = "app.kubernetes.io/component=gateway,app.kubernetes.io/name=sse-gateway";

/// What the watches brought, by watched scope.
#[derive(Debug, Default)]
pub struct Cache {
    gateways: Vec<Store<Watched>>,
    deployments: Vec<Store<Deployment>>,
    pods: Vec<Store<Pod>>,
}

/// Where the watches of one scope bring it.
#[derive(Debug)]
pub struct Writers {
    pub gateways: reflector::store::Writer<Watched>,
    pub deployments: reflector::store::Writer<Deployment>,
    pub pods: reflector::store::Writer<Pod>,
}

impl Cache {
    /// Adds a scope.
    pub fn scope(&mut self) -> Writers {
        let (gateways, deployments, pods) = (reflector::store(), reflector::store(), reflector::store());
        self.gateways.push(gateways.0);
        self.deployments.push(deployments.0);
        self.pods.push(pods.0);
        Writers { gateways: gateways.1, deployments: deployments.1, pods: pods.1 }
    }

    /// The gateways that are known.
    pub fn gateways(&self) -> impl Iterator<Item = Arc<Watched>> {
        self.gateways.iter().flat_map(Store::state)
    }

    /// Whether every Deployment of a gateway is known.
    #[must_use]
    pub fn knows_deployments(&self) -> bool {
        self.deployments.iter().all(is_listed)
    }

    /// The Deployment of that gateway, if it is known.
    #[must_use]
    pub fn deployment(&self, (namespace, name): &Key) -> Option<Arc<Deployment>> {
        let object = ObjectRef::new(name).within(namespace);
        self.deployments.iter().find_map(|store| store.get(&object))
    }

    /// The gateways whose pods are about to be replaced. One that made no progress for long is not among
    /// them: nobody can tell when it will go on, and its old pods serve meanwhile.
    #[must_use]
    pub fn rolling(&self) -> HashSet<Key> {
        let all = self.deployments.iter().flat_map(Store::state);
        all.filter(|deployment| is_rolling(deployment)).map(|deployment| key(&deployment)).collect()
    }

    /// The pods with these labels; none if they are not known.
    #[must_use]
    pub fn pods(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<Vec<Pod>> {
        if self.pods.is_empty() || !self.pods.iter().all(is_listed) {
            return None;
        }
        let selected = |pod: &Pod| {
            pod.metadata.namespace.as_deref() == Some(namespace)
                && pod
                    .metadata
                    .labels
                    .as_ref()
                    .is_some_and(|has| labels.iter().all(|(k, v)| has.get(k) == Some(v)))
        };
        let found = self.pods.iter().flat_map(|store| store.state_filter(selected));
        Some(found.map(|pod| (*pod).clone()).collect())
    }
}

fn is_listed<K: Lookup<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> bool {
    store.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok())
}

fn is_rolling(deployment: &Deployment) -> bool {
    let paused = deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
    !paused && deployment.metadata.deletion_timestamp.is_none() && Rollout::from(deployment).is_under_way()
}

fn key(deployment: &Deployment) -> Key {
    let meta = deployment.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Drops what nobody asks a known Deployment for.
pub fn trim_deployment(deployment: &mut Deployment) {
    deployment.metadata.managed_fields = None;
    if let Some(spec) = &mut deployment.spec {
        spec.template.spec = None;
    }
}

/// Drops what nobody asks a known pod for.
pub fn trim_pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.spec = None;
    if let Some(status) = &mut pod.status {
        status.conditions = None;
        status.container_statuses = None;
        status.init_container_statuses = None;
    }
}

/// Drops from the metadata of a known child who told its status last, and when.
pub fn trim_child(meta: &mut ObjectMeta) {
    if let Some(fields) = &mut meta.managed_fields {
        fields.retain(|entry| entry.subresource.as_deref() != Some("status"));
    }
}

/// Whether two states of a child, trimmed, differ in nothing but its status, which others tell at any
/// time: who changes anything else is named among the managers, with the time.
#[must_use]
pub fn differ_in_version_alone(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let fixed = |meta: &ObjectMeta| ObjectMeta { resource_version: None, ..meta.clone() };
    fixed(a) == fixed(b)
}

/// Whether two states of a Deployment differ in nothing but how far it is.
#[must_use]
pub fn differ_in_status_alone(a: &Deployment, b: &Deployment) -> bool {
    let fixed = |deployment: &Deployment| {
        let mut meta = deployment.metadata.clone();
        meta.resource_version = None;
        meta.managed_fields = None;
        // The Deployment controller's own count, of a rollout that the generation tells already.
        if let Some(annotations) = &mut meta.annotations {
            annotations.remove("deployment.kubernetes.io/revision");
        }
        meta
    };
    fixed(a) == fixed(b)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(name: &str, patch: &Value) -> Deployment {
        let mut object = json!({
            "metadata": {"namespace": "demo", "name": name, "generation": 2, "resourceVersion": "5"},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2},
        });
        for (key, value) in patch.as_object().expect("an object") {
            for (field, value) in value.as_object().expect("an object") {
                object[key][field] = value.clone();
            }
        }
        serde_json::from_value(object).expect("a Deployment")
    }

    #[test]
    fn only_pods_that_are_about_to_be_replaced_are_rolling() {
        let mut cache = Cache::default();
        let mut writers = cache.scope();
        assert!(!cache.knows_deployments());
        let stuck = json!({"updatedReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        let unready = json!({"readyReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]});
        for (name, patch) in [
            ("complete", json!({})),
            ("new", json!({"status": {"updatedReplicas": 1}})),
            ("unseen", json!({"status": {"observedGeneration": 1}})),
            ("stuck", json!({"status": stuck})),
            ("unready", json!({"status": unready})),
            ("paused", json!({"spec": {"paused": true}, "status": {"updatedReplicas": 1}})),
            ("zero", json!({"spec": {"replicas": 0}, "status": {"replicas": 1}})),
        ] {
            writers.deployments.apply_watcher_event(&Event::InitApply(deployment(name, &patch)));
        }
        writers.deployments.apply_watcher_event(&Event::InitDone);
        assert!(cache.knows_deployments());
        let mut rolling: Vec<_> = cache.rolling().into_iter().map(|(_, name)| name).collect();
        rolling.sort();
        assert_eq!(rolling, ["new", "unseen"]);
    }

    #[test]
    fn pods_are_known_once_all_were_listed() {
        let pod = |namespace: &str, instance: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": namespace,
                "labels": {"app.kubernetes.io/instance": instance, "a": "b"}}}))
            .expect("a pod")
        };
        let labels = [("app.kubernetes.io/instance".to_owned(), "live".to_owned())].into();
        let mut cache = Cache::default();
        assert_eq!(cache.pods("demo", &labels), None);
        let (mut one, mut two) = (cache.scope(), cache.scope());
        one.pods.apply_watcher_event(&Event::InitDone);
        assert_eq!(cache.pods("demo", &labels), None);
        two.pods.apply_watcher_event(&Event::InitDone);
        for other in [pod("other", "live"), pod("demo", "live"), pod("else", "others")] {
            two.pods.apply_watcher_event(&Event::Apply(other));
        }
        let pods = cache.pods("demo", &labels).expect("known");
        assert_eq!(pods, [pod("demo", "live")]);
    }

    #[test]
    fn the_status_of_a_child_is_no_change_and_a_spec_is() {
        let child = |version: &str, status_at: &str, spec_at: &str| {
            let entry = |subresource: &str, second: &str| json!({"manager": "m", "subresource": subresource, "time": format!("2026-01-01T00:00:{second}Z")});
            let entries = [entry("status", status_at), entry("", spec_at)];
            let mut meta: ObjectMeta = serde_json::from_value(
                json!({"name": "live", "resourceVersion": version, "managedFields": entries}),
            )
            .expect("metadata");
            trim_child(&mut meta);
            meta
        };
        let before = child("1", "01", "01");
        assert!(differ_in_version_alone(&before, &child("2", "02", "01")));
        assert!(!differ_in_version_alone(&before, &child("2", "01", "02")));
    }

    #[test]
    fn a_rollouts_progress_is_no_change_and_a_label_is() {
        let before = deployment("live", &json!({}));
        let progress = json!({"metadata": {"resourceVersion": "6"}, "status": {"readyReplicas": 1}});
        assert!(differ_in_status_alone(&before, &deployment("live", &progress)));
        for change in [
            json!({"generation": 3}),
            json!({"labels": {"a": "b"}}),
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        ] {
            assert!(!differ_in_status_alone(&before, &deployment("live", &json!({"metadata": change}))));
        }
    }
}
