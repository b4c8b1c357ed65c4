//! Makes the planned children real, and removes those that are no longer wanted.
//!
//! Server-side apply with one field manager: fields that others set and the plan does not name stay
//! theirs, fields that are no longer planned go. An object that the gateway does not control is never
//! touched.

mod place;
mod replicas;

use std::collections::HashSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, ListParams};
use kube::{Client, Resource};

use crate::apis::{Apis, is_missing};
use crate::memory::Key;
use crate::plan::{self, Children, Optional};
use crate::rollouts::{self, Cause};
use crate::telemetry;

use place::Place;

/// Owner of every field that the operator sets.
pub const FIELD_MANAGER: &str = "sse-operator";

/// Why a child is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{kind} {namespace}/{name} exists and is not controlled by this SseGateway: delete it, or give the SseGateway another name"
    )]
    NotOurs { kind: String, namespace: String, name: String },
    #[error(
        "{0}: this cluster has no {kind} ({version}): install {origin}, or set {0}.enabled to false",
        .api.field(), kind = .api.kind(), version = .api.api_version(), origin = .api.origin()
    )]
    MissingApi { api: Optional },
    #[error("discovery of {} failed", .api.api_version())]
    Discovery { api: Optional, source: kube::Error },
    #[error("{kind} {namespace}/{name} was not {action}")]
    Api { kind: String, namespace: String, name: String, action: &'static str, source: kube::Error },
}

impl Error {
    /// Whether it is because the namespace is being deleted, with everything in it.
    #[must_use]
    pub fn is_of_a_namespace_that_goes(&self) -> bool {
        let Self::Api { source: source @ kube::Error::Api(status), .. } = self else { return false };
        // Without details it is the answer of an API server that lacks the API.
        let Some(details) = &status.details else { return false };
        let terminating = details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
        terminating || (is_missing(source) && details.kind == "namespaces")
    }
}

/// The gateway whose children are applied.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub uid: &'a str,
}

/// As log lines name it.
impl std::fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Owner<'_> {
    #[must_use]
    pub fn key(&self) -> Key {
        (self.namespace.to_owned(), self.name.to_owned())
    }

    /// Whether the gateway controls the object with this metadata.
    #[must_use]
    pub fn controls(&self, meta: &ObjectMeta) -> bool {
        let mut owners = meta.owner_references.iter().flatten();
        owners.any(|owner| owner.controller == Some(true) && owner.uid == self.uid)
    }
}

/// What became of the children.
#[derive(Debug)]
pub struct Outcome {
    /// As it now is.
    pub deployment: Deployment,
    /// Whether it was left as it is.
    pub waits: bool,
    /// Of those that the pods do not need: the first that failed.
    pub rest: Result<(), Error>,
}

/// Applies all children, and removes those that are not wanted. The Deployment is left as it is when
/// `admit` does not want it changed for this cause.
///
/// # Errors
///
/// At the first child that belongs to someone else or that the API server refuses. What the pods do not
/// need is tried to the end: one that fails holds up no other.
pub async fn children(
    client: &Client,
    apis: &Apis,
    owner: Owner<'_>,
    plan: &mut Children,
    admit: impl FnOnce(Cause) -> bool,
) -> Result<Outcome, Error> {
    Place::new(client, owner).apply(&mut plan.service_account).await?;
    Place::new(client, owner).apply(&mut plan.config_map).await?;
    Place::new(client, owner).apply(&mut plan.service).await?;
    Place::new(client, owner).apply(&mut plan.headless).await?;
    // Before the pods: none is ever without it.
    Place::new(client, owner).settle(plan.network_policy.as_mut()).await?;
    let span = telemetry::apply("Deployment", owner.name);
    let (deployment, waits) = telemetry::step(span, deployment(client, owner, plan, admit)).await?;

    let rest = [
        Place::new(client, owner).settle(plan.disruption_budget.as_mut()).await,
        match plan.autoscaler.as_mut() {
            Some(planned) => Place::new(client, owner).settle(Some(planned)).await,
            None => Ok(()),
        },
        Place::new(client, owner).settle(plan.ingress.as_mut()).await,
        optional(client, apis, owner, Optional::HttpRoute, plan.http_route.as_mut()).await,
        optional(client, apis, owner, Optional::PodMonitor, plan.pod_monitor.as_mut()).await,
    ];
    Ok(Outcome { deployment, waits, rest: rest.into_iter().collect() })
}

/// The Deployment as it then is, and whether it was left so.
async fn deployment(
    client: &Client,
    owner: Owner<'_>,
    plan: &mut Children,
    admit: impl FnOnce(Cause) -> bool,
) -> Result<(Deployment, bool), Error> {
    let place = Place::<Deployment>::new(client, owner);
    let live = place.whole(owner.name).await?;
    let meta = live.as_ref().map(Resource::meta);
    let (hash, generation) = (plan.config_hash.as_str(), plan.generation);
    let since = meta.and_then(|meta| plan::generation_of(meta, hash)).unwrap_or(generation);
    plan::set_generation(&mut plan.deployment, hash, since);
    rollouts::sign(&mut plan.deployment, generation);
    let admitted = admit(rollouts::cause(meta, &plan.deployment));
    let live = match live {
        Some(live) if !admitted => {
            telemetry::wrote(false);
            return Ok((live, true));
        }
        live => live,
    };
    match plan.first_replicas {
        Some(first) => replicas::leave(&place, live.as_ref(), &mut plan.deployment, first).await?,
        // Before the replicas are the spec's again: it would set them once more.
        None => Place::<HorizontalPodAutoscaler>::new(client, owner).remove().await?,
    }
    Ok((place.write(&mut plan.deployment, live.as_ref().map(Resource::meta)).await?, false))
}

/// Settles a child whose API the cluster may lack.
async fn optional(
    client: &Client,
    apis: &Apis,
    owner: Owner<'_>,
    api: Optional,
    planned: Option<&mut DynamicObject>,
) -> Result<(), Error> {
    let wanted = planned.is_some();
    match apis.serve(client, api).await {
        Ok(true) => {}
        Ok(false) if wanted => return Err(Error::MissingApi { api }),
        Err(source) if wanted => return Err(Error::Discovery { api, source }),
        // Where there can be none, none is to be removed.
        Ok(false) | Err(_) => return Ok(()),
    }
    match Place::of(client, owner, &api.resource()).settle(planned).await {
        Err(error) if error.is_of_a_namespace_that_goes() => Err(error),
        // An object that is not there is made, or need not go: only the API can be what is not found.
        Err(Error::Api { source, .. }) if is_missing(&source) => {
            apis.missing(api);
            if wanted { Err(Error::MissingApi { api }) } else { Ok(()) }
        }
        result => result,
    }
}

/// Deletes the gateway's configurations that are neither `current` nor in `used` by a pod.
///
/// Only to be called when a rollout is complete: before that, an old `ReplicaSet` may still make pods.
///
/// # Errors
///
/// When the API server refuses; the next call tries again.
pub async fn remove_old_configs(
    client: &Client,
    owner: Owner<'_>,
    current: &str,
    used: &HashSet<String>,
) -> Result<(), Error> {
    let place = Place::<ConfigMap>::new(client, owner);
    let params = ListParams::default().labels(&plan::selector_string(owner.name));
    let maps = place.api.list_metadata(&params).await;
    let maps = maps.map_err(|source| place.failed("*", "listed", source))?;
    for map in maps.items.iter().filter(|map| is_old_config(&map.metadata, owner, current, used)) {
        place.delete(&map.metadata).await?;
    }
    Ok(())
}

fn is_old_config(meta: &ObjectMeta, owner: Owner<'_>, current: &str, used: &HashSet<String>) -> bool {
    let hash = meta.name.as_deref().and_then(|name| name.strip_prefix(owner.name)?.strip_prefix('-'));
    hash.is_some_and(|hash| hash != current && !used.contains(hash)) && owner.controls(meta)
}

#[cfg(test)]
mod tests;
