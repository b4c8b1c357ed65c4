//! What an `SseGateway` should be made of: a pure function of the resource and the operator's
//! settings, one file per child.
//!
//! The same input gives the same children, so applying them again changes nothing, and a child that
//! was changed by hand is put back.

mod autoscaler;
mod config;
mod config_map;
mod deployment;
mod disruption_budget;
mod http_route;
mod ingress;
mod network_policy;
mod optional;
mod pod;
mod pod_monitor;
mod secrets;
mod service;
mod service_account;

pub use deployment::{generation_of, set_generation};
pub use optional::Optional;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::DynamicObject;
use sse_crds::SseGateway;
use sse_crds::pod::ImagePullPolicy;

/// `app.kubernetes.io/managed-by` of every child, by which the operator watches them.
pub const MANAGED_BY: &str = "sse-operator";
/// Annotation of the pods: the hash of the configuration that they were started with.
pub const CONFIG_HASH: &str = "ssegateway.io/config-hash";
/// The public port of pods and Service.
pub const HTTP_PORT: i32 = 8080;
/// The pods' port for probes, metrics and `/status`.
pub const ADMIN_PORT: i32 = 9090;

/// What the operator was installed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of the gateway where `spec.pod.image` names none.
    pub image: String,
    /// When it is pulled, where `spec.pod.imagePullPolicy` says nothing.
    pub image_pull_policy: ImagePullPolicy,
    /// The operator itself, as a network policy selects it; none where it is not known.
    pub operator: Option<OperatorPods>,
    /// Labels of every child and pod, beneath those that have a meaning here.
    pub common_labels: BTreeMap<String, String>,
}

/// Where pods of the operator are, and what they are labelled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPods {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

/// All children of one gateway; those that are none are not wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    pub service_account: ServiceAccount,
    pub config_map: ConfigMap,
    pub service: Service,
    pub headless: Service,
    pub network_policy: Option<NetworkPolicy>,
    pub disruption_budget: Option<PodDisruptionBudget>,
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    pub ingress: Option<Ingress>,
    pub http_route: Option<DynamicObject>,
    pub pod_monitor: Option<DynamicObject>,
    /// Without `replicas` while the gateway is autoscaled: the autoscaler owns them.
    pub deployment: Deployment,
    /// Replicas that an autoscaled Deployment is created with.
    pub first_replicas: Option<i32>,
    /// Hash of the configuration: part of the `ConfigMap`'s name.
    pub config_hash: String,
    /// Generation of the gateway.
    pub generation: i64,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object did not come from an API server.
    #[error("the SseGateway has no {0}")]
    NoMetadata(&'static str),
    #[error("the spec can not be written as a configuration file")]
    Config(#[from] config::Error),
}

/// The children that `gateway` should have.
///
/// # Errors
///
/// When the object lacks a name, namespace or uid, or its spec can not be rendered.
pub fn children(gateway: &SseGateway, settings: &Settings) -> Result<Children, Error> {
    let owner = Owner::of(gateway, settings)?;
    let config = config::render(&gateway.spec)?;
    let spec = &gateway.spec;
    Ok(Children {
        service_account: service_account::plan(&owner, &spec.pod),
        config_map: config_map::plan(&owner, &config),
        service: service::plan(&owner, spec),
        headless: service::headless(&owner, spec),
        network_policy: network_policy::plan(&owner, &spec.network_policy, settings),
        disruption_budget: disruption_budget::plan(&owner, spec),
        autoscaler: autoscaler::plan(&owner, spec),
        ingress: ingress::plan(&owner, spec),
        http_route: http_route::plan(&owner, spec),
        pod_monitor: pod_monitor::plan(&owner, &spec.telemetry.pod_monitor),
        deployment: deployment::plan(&owner, spec, &config.hash, settings),
        first_replicas: spec.autoscaling.as_ref().map(|a| count(a.min_replicas)),
        config_hash: config.hash,
        generation: gateway.metadata.generation.unwrap_or_default(),
    })
}

/// Name of the `ConfigMap` that holds the configuration with this hash.
#[must_use]
pub fn config_map_name(gateway: &str, hash: &str) -> String {
    format!("{gateway}-{hash}")
}

/// Labels that select the pods of a gateway, and nothing else. They can never change: a Deployment's
/// selector is immutable.
#[must_use]
pub fn selector(gateway: &str) -> BTreeMap<String, String> {
    to_map([
        ("app.kubernetes.io/instance", gateway),
        ("app.kubernetes.io/name", "sse-gateway"),
        ("app.kubernetes.io/component", "gateway"),
    ])
}

/// The same labels as one string, for list calls and autoscalers.
#[must_use]
pub fn selector_string(gateway: &str) -> String {
    let labels = selector(gateway);
    // The instance first: it is what a reader looks for.
    let mut terms: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    terms.sort_by_key(|term| !term.contains("/instance="));
    terms.join(",")
}

/// The gateway that the children belong to.
struct Owner {
    name: String,
    namespace: String,
    reference: OwnerReference,
    common_labels: BTreeMap<String, String>,
}

impl Owner {
    fn of(gateway: &SseGateway, settings: &Settings) -> Result<Self, Error> {
        let meta = &gateway.metadata;
        let mut reference = gateway.controller_owner_ref(&()).ok_or(Error::NoMetadata("uid"))?;
        reference.block_owner_deletion = Some(true);
        Ok(Self {
            name: meta.name.clone().ok_or(Error::NoMetadata("name"))?,
            namespace: meta.namespace.clone().ok_or(Error::NoMetadata("namespace"))?,
            reference,
            common_labels: settings.common_labels.clone(),
        })
    }

    /// Labels of a child: those of its own, which give way to the operator's, as the common ones do to them.
    fn labels(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = self.common_labels.clone();
        labels.extend(own.clone());
        labels.extend(selector(&self.name));
        labels.insert("app.kubernetes.io/managed-by".into(), MANAGED_BY.into());
        labels
    }

    /// Metadata of a child.
    fn child(&self, name: String, annotations: &BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(&BTreeMap::new())),
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }
}

/// A count of the spec as the API has it. The schema bounds it far below the type's end.
fn count(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn to_map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

#[cfg(test)]
pub mod fixtures {
    //! Gateways and settings for tests.

    use serde_json::{Value, json};
    use sse_crds::SseGateway;
    use sse_crds::pod::ImagePullPolicy;

    use super::{OperatorPods, Settings, to_map};

    /// `live` in `demo`, generation 3, with `patch` merged into the smallest spec.
    pub fn gateway(patch: Value) -> SseGateway {
        let mut spec = json!({
            "nats": {"url": "nats://nats:4222"},
            "auth": {"issuers": [{"issuer": "https://id", "keySecretRef": {"name": "jwt-key", "key": "key"}, "algorithms": ["HS256"]}]},
        });
        merge(&mut spec, patch);
        serde_json::from_value(json!({
            "apiVersion": "ssegateway.io/v1alpha1",
            "kind": "SseGateway",
            "metadata": {"name": "live", "namespace": "demo", "uid": "u-1", "generation": 3},
            "spec": spec,
        }))
        .expect("a gateway of the right types")
    }

    pub fn settings() -> Settings {
        Settings {
            image: "registry/sse-gateway:1".into(),
            image_pull_policy: ImagePullPolicy::IfNotPresent,
            operator: Some(OperatorPods {
                namespace: "sse-system".into(),
                labels: to_map([("app.kubernetes.io/component", "operator")]),
            }),
            common_labels: to_map([("cost-center", "live"), ("app.kubernetes.io/name", "not this")]),
        }
    }

    /// What switches every child on.
    pub fn everything() -> Value {
        json!({
            "autoscaling": {},
            "expose": {
                "ingress": {"enabled": true, "host": "live.example.com"},
                "httpRoute": {"enabled": true, "parentRefs": [{"name": "public"}]},
            },
            "telemetry": {"podMonitor": {"enabled": true}},
        })
    }

    fn merge(into: &mut Value, patch: Value) {
        match (into, patch) {
            (Value::Object(into), Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, patch) => *into = patch,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fixtures::{everything, gateway, settings};
    use super::*;

    fn all_metadata(children: &Children) -> [Option<&ObjectMeta>; 11] {
        [
            Some(&children.service_account.metadata),
            Some(&children.config_map.metadata),
            Some(&children.service.metadata),
            Some(&children.headless.metadata),
            Some(&children.deployment.metadata),
            children.network_policy.as_ref().map(Resource::meta),
            children.disruption_budget.as_ref().map(Resource::meta),
            children.autoscaler.as_ref().map(Resource::meta),
            children.ingress.as_ref().map(Resource::meta),
            children.http_route.as_ref().map(Resource::meta),
            children.pod_monitor.as_ref().map(Resource::meta),
        ]
    }

    #[test]
    fn every_child_is_labelled_and_controlled_by_the_gateway() {
        let children = children(&gateway(everything()), &settings()).expect("a plan");
        for meta in all_metadata(&children).map(|meta| meta.expect("every child")) {
            assert_eq!(meta.namespace.as_deref(), Some("demo"));
            let owner = &meta.owner_references.as_ref().expect("an owner")[0];
            assert_eq!((owner.uid.as_str(), owner.kind.as_str()), ("u-1", "SseGateway"));
            assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
            let labels = meta.labels.as_ref().expect("labels");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "sse-operator");
            assert_eq!(labels["app.kubernetes.io/instance"], "live");
            assert_eq!(labels["app.kubernetes.io/name"], "sse-gateway");
            assert_eq!(labels["app.kubernetes.io/component"], "gateway");
            assert_eq!(labels["cost-center"], "live");
        }
    }

    #[test]
    fn common_labels_reach_the_pods_beneath_those_of_the_user() {
        let label = |pod: serde_json::Value| {
            let children = children(&gateway(json!({"pod": pod})), &settings()).expect("a plan");
            let template = children.deployment.spec.expect("a spec").template.metadata.expect("metadata");
            template.labels.expect("labels")["cost-center"].clone()
        };
        assert_eq!(label(json!({})), "live");
        assert_eq!(label(json!({"labels": {"cost-center": "mine"}})), "mine");
    }

    #[test]
    fn the_plan_is_the_same_each_time() {
        let gateway = gateway(json!({"pod": {"labels": {"b": "1", "a": "2"}}}));
        let plan = || children(&gateway, &settings()).expect("a plan");
        assert_eq!(plan(), plan());
    }

    #[test]
    fn the_selector_string_names_the_instance_first() {
        assert_eq!(
            selector_string("live"),
            "app.kubernetes.io/instance=live,app.kubernetes.io/component=gateway,app.kubernetes.io/name=sse-gateway"
        );
    }

    #[test]
    fn an_object_that_no_api_server_has_seen_gives_no_plan() {
        let mut gateway = gateway(json!({}));
        gateway.metadata.uid = None;
        assert!(matches!(children(&gateway, &settings()), Err(Error::NoMetadata("uid"))));
    }
}
