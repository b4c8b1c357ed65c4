//! The Deployment of the pods.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sse_crds::{ENDPOINT_GRACE_SECONDS, SseGatewaySpec};

use super::{Owner, Settings, count, pod, selector};

/// Seconds without progress, beyond the drain window, after which a rollout counts as stuck.
const PROGRESS_SECONDS: u32 = 600;

/// Seconds after the drain window in which a pod writes its last words, and ends.
const END_SECONDS: u32 = 2;

/// Annotation of the Deployment: a configuration's hash, and the generation since which it is that.
const SINCE: &str = "ssegateway.io/config-since";

pub fn plan(owner: &Owner, spec: &SseGatewaySpec, config_hash: &str, settings: &Settings) -> Deployment {
    Deployment {
        metadata: owner.child(owner.name.clone(), &BTreeMap::new()),
        spec: Some(DeploymentSpec {
            replicas: spec.autoscaling.is_none().then(|| count(spec.replicas)),
            selector: LabelSelector { match_labels: Some(selector(&owner.name)), ..LabelSelector::default() },
            // A new pod is ready before an old one lets go of its connections.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            min_ready_seconds: Some(count(seconds_to_go(spec))),
            progress_deadline_seconds: Some(count(
                spec.drain.window_seconds.saturating_add(PROGRESS_SECONDS),
            )),
            revision_history_limit: Some(3),
            template: pod::template(owner, spec, config_hash, settings),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// Seconds from the moment that a pod is told to go until it is gone. A new pod counts as available only
/// after them, and it is made when an old one is told to go: so old pods go one at a time.
fn seconds_to_go(spec: &SseGatewaySpec) -> u32 {
    match spec.drain.window_seconds {
        // It ends at once.
        0 => 0,
        window => window.saturating_add(u32::from(ENDPOINT_GRACE_SECONDS) + END_SECONDS),
    }
}

/// The generation since which a Deployment has this configuration; `None` when it has another one.
#[must_use]
pub fn generation_of(live: &ObjectMeta, hash: &str) -> Option<i64> {
    let (of, since) = live.annotations.as_ref()?.get(SINCE)?.split_once(' ')?;
    (of == hash).then(|| since.parse().ok())?
}

/// Tells the pods the generation since which they have their configuration: an older one never changes
/// the stream back. Not the gateway's present one, or every change of it would roll the pods.
pub fn set_generation(deployment: &mut Deployment, hash: &str, since: i64) {
    let annotations = deployment.metadata.annotations.get_or_insert_default();
    annotations.insert(SINCE.into(), format!("{hash} {since}"));
    let pod = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    for container in pod.into_iter().flat_map(|pod| &mut pod.containers) {
        container.args.get_or_insert_default().push(format!("--generation={since}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{gateway, settings};
    use super::super::{children, selector};
    use super::*;

    #[test]
    fn a_rollout_adds_a_pod_before_it_takes_one() {
        let deployment = children(&gateway(json!({"replicas": 4})), &settings()).expect("a plan").deployment;
        let spec = deployment.spec.expect("a spec");
        assert_eq!(spec.replicas, Some(4));
        assert_eq!(spec.revision_history_limit, Some(3));
        assert_eq!(spec.selector.match_labels, Some(selector("live")));
        let rolling = spec.strategy.expect("a strategy").rolling_update.expect("a rolling update");
        assert_eq!(rolling.max_surge, Some(IntOrString::Int(1)));
        assert_eq!(rolling.max_unavailable, Some(IntOrString::Int(0)));
    }

    #[test]
    fn one_pod_at_a_time_is_told_to_go_and_has_its_window() {
        let spec = |window: u32| {
            let gateway = gateway(json!({"drain": {"windowSeconds": window}}));
            children(&gateway, &settings()).expect("a plan").deployment.spec.expect("a spec")
        };
        assert_eq!(spec(300).min_ready_seconds, Some(305));
        // The API server wants it to be longer.
        assert_eq!(spec(300).progress_deadline_seconds, Some(900));
        assert_eq!(spec(0).min_ready_seconds, Some(0));
    }

    #[test]
    fn the_pods_keep_the_generation_since_which_their_configuration_is_the_same() {
        let planned = || children(&gateway(json!({})), &settings()).expect("a plan");
        let mut children = planned();
        assert_eq!(generation_of(&children.deployment.metadata, &children.config_hash), None);
        set_generation(&mut children.deployment, &children.config_hash, 3);
        let live = &children.deployment.metadata;
        assert_eq!(generation_of(live, &children.config_hash), Some(3));
        assert_eq!(generation_of(live, "another"), None);
        let pod = children.deployment.spec.expect("a spec").template.spec.expect("a pod");
        let arguments = pod.containers[0].args.clone().expect("arguments");
        assert_eq!(arguments.last().map(String::as_str), Some("--generation=3"));
    }

    #[test]
    fn replicas_are_the_autoscalers_while_there_is_one() {
        let gateway = gateway(json!({"replicas": 4, "autoscaling": {"minReplicas": 3}}));
        let children = children(&gateway, &settings()).expect("a plan");
        assert_eq!(children.deployment.spec.expect("a spec").replicas, None);
        assert_eq!(children.first_replicas, Some(3));
    }
}
