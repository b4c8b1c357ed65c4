//! What there is to see of a gateway: its Deployment, its pods, and what these say of themselves.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use tracing::{debug, warn};

use crate::apply::{self, Owner};
use crate::memory::Applied;
use crate::notice;
use crate::plan::{self, CONFIG_HASH};
use crate::reconcile::{Context, Error};
use crate::status::{self, Observation, Rollout};
use crate::telemetry;

/// What was seen, and the error if that is not all.
type Seen = (Observation, Option<Error>);

/// Sees a gateway whose children are as applied. Configurations that no pod uses any more are removed on
/// the way, since this is where the pods are known.
pub async fn applied(owner: Owner<'_>, applied: &Applied, context: &Context) -> Seen {
    let deployment = &applied.deployment;
    let rollout = Rollout::from(deployment);
    let complete = rollout.complete();
    let waiting = applied.waiting;
    let mut seen = Observation { rollout: Some(rollout), waiting, ..Observation::default() };
    let pods = match pods(owner, context).await {
        Ok(pods) => pods,
        Err(error) => return (seen, Some(error)),
    };
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let hash = template.and_then(config_hash).unwrap_or_default();
    // Those that wait have two: that of their pods, and that of the pods to come.
    if complete && !waiting && !applied.swept {
        let used: HashSet<_> =
            pods.iter().filter_map(|pod| config_hash(&pod.metadata)).map(str::to_owned).collect();
        match apply::remove_old_configs(&context.client, owner, hash, &used).await {
            Ok(()) if used.iter().all(|used| used == hash) => context.memory.swept(&owner.key()),
            Ok(()) => {}
            Err(error) => {
                let (gateway, error, trace_id) =
                    (owner.to_string(), notice::chain(&error), telemetry::trace_id());
                warn!(gateway, error, trace_id, "An old configuration was not removed.");
            }
        }
    }
    seen.pods = Some(ask(&pods, Some(hash), context).await);
    (seen, None)
}

/// Sees a gateway whose children could not be applied: an earlier generation may still run.
pub async fn running(owner: Owner<'_>, context: &Context) -> Seen {
    let mut seen = Observation::default();
    match deployment(owner, context).await {
        Ok(deployment) => {
            let ours = deployment.filter(|deployment| owner.controls(&deployment.metadata));
            seen.rollout = ours.as_deref().map(Rollout::from);
        }
        Err(source) => return (seen, Some(Error::Observe { what: "the Deployment", source })),
    }
    match pods(owner, context).await {
        Ok(pods) => seen.pods = Some(ask(&pods, None, context).await),
        Err(error) => return (seen, Some(error)),
    }
    (seen, None)
}

async fn deployment(owner: Owner<'_>, context: &Context) -> kube::Result<Option<Arc<Deployment>>> {
    if let Some(known) = context.cache.deployment(&owner.key()) {
        return Ok(Some(known));
    }
    let api = Api::<Deployment>::namespaced(context.client.clone(), owner.namespace);
    Ok(api.get_opt(owner.name).await?.map(Arc::new))
}

async fn pods(owner: Owner<'_>, context: &Context) -> Result<Vec<Pod>, Error> {
    let mut pods = match context.cache.pods(owner.namespace, &plan::selector(owner.name)) {
        Some(known) => known,
        None => listed_pods(owner, context).await?,
    };
    // Evicted and finished pods stay as objects, and serve nobody any more.
    pods.retain(|pod| !matches!(phase(pod), "Succeeded" | "Failed"));
    Ok(pods)
}

async fn listed_pods(owner: Owner<'_>, context: &Context) -> Result<Vec<Pod>, Error> {
    let params = ListParams::default().labels(&plan::selector_string(owner.name));
    let api = Api::<Pod>::namespaced(context.client.clone(), owner.namespace);
    let list = api.list(&params).await;
    Ok(list.map_err(|source| Error::Observe { what: "the list of pods", source })?.items)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn config_hash(meta: &ObjectMeta) -> Option<&str> {
    meta.annotations.as_ref()?.get(CONFIG_HASH).map(String::as_str)
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref().filter(|_| phase(pod) == "Running")?.pod_ip.as_ref()?.parse().ok()
}

/// The pods with their reports.
async fn ask(pods: &[Pod], hash: Option<&str>, context: &Context) -> Vec<status::Pod> {
    let addresses: Vec<IpAddr> = pods.iter().filter_map(address).collect();
    let mut reports = context.prober.read_all(&addresses).await.into_iter();
    let mut report = |pod: &Pod| match reports.next()? {
        Ok(report) => Some(report),
        Err(error) => {
            debug!(pod = pod.name_any(), error = notice::chain(&error), "The pod was not read.");
            None
        }
    };
    let seen = |pod: &Pod| status::Pod {
        current: hash.is_some() && config_hash(&pod.metadata) == hash,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        ready: is_ready(pod),
        report: address(pod).and_then(|_| report(pod)),
    };
    pods.iter().map(seen).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, ip: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": {"ssegateway.io/config-hash": "abc"}},
            "status": {"phase": phase, "podIP": ip},
        }))
        .expect("a pod")
    }

    #[test]
    fn a_pod_is_ready_when_kubernetes_says_so() {
        let pod = |status: &str| -> Pod {
            let conditions =
                json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": status}]);
            serde_json::from_value(json!({"status": {"conditions": conditions}})).expect("a pod")
        };
        assert!(is_ready(&pod("True")));
        assert!(!is_ready(&pod("False")));
        assert!(!is_ready(&Pod::default()));
    }

    #[test]
    fn only_a_running_pod_with_an_address_can_be_asked() {
        assert_eq!(address(&pod("Running", Some("10.0.0.1"))), "10.0.0.1".parse().ok());
        assert_eq!(address(&pod("Running", Some("fd00::1"))), "fd00::1".parse().ok());
        assert_eq!(address(&pod("Running", None)), None);
        assert_eq!(address(&pod("Pending", Some("10.0.0.1"))), None);
        assert_eq!(config_hash(&pod("Running", None).metadata), Some("abc"));
        assert_eq!(config_hash(&ObjectMeta::default()), None);
    }
}
