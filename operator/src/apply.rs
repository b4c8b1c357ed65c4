//! Makes the planned children real, and removes configurations that no pod uses any more.
//!
//! Server-side apply with one field manager: fields that others set and the plan does not name stay
//! theirs, fields that are no longer planned go. An object that the gateway does not control is never
//! touched.

use std::collections::HashSet;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::info;

use crate::memory::Key;
use crate::plan::{self, Children};
use crate::rollouts::{self, Cause};

/// Owner of every field that the operator sets.
pub const FIELD_MANAGER: &str = "sse-operator";
/// Keeps `replicas` of a Deployment while they are handed over to an autoscaler.
const HANDOVER_MANAGER: &str = "sse-operator-handover";

/// Why a child is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{kind} {namespace}/{name} exists and is not controlled by this SseGateway: delete it, or give the SseGateway another name"
    )]
    NotOurs { kind: String, namespace: String, name: String },
    #[error("{kind} {namespace}/{name} was not {action}")]
    Api { kind: String, namespace: String, name: String, action: &'static str, source: kube::Error },
}

impl Error {
    /// Whether it is because the namespace is being deleted, with everything in it.
    #[must_use]
    pub fn is_of_a_namespace_that_goes(&self) -> bool {
        let Self::Api { source: kube::Error::Api(status), .. } = self else { return false };
        let Some(details) = &status.details else { return false };
        let terminating = details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
        terminating || (status.is_not_found() && details.kind == "namespaces")
    }
}

/// The gateway whose children are applied.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub uid: &'a str,
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

/// Applies all children, the Deployment last: its pods need the others. It is left as it is when `admit`
/// does not want it changed for this cause. Returns it as it now is, and whether it was left.
///
/// # Errors
///
/// At the first child that belongs to someone else or that the API server refuses.
pub async fn children(
    client: &Client,
    owner: Owner<'_>,
    plan: &mut Children,
    admit: impl FnOnce(Cause) -> bool,
) -> Result<(Deployment, bool), Error> {
    child(client, owner, &mut plan.service_account).await?;
    child(client, owner, &mut plan.config_map).await?;
    child(client, owner, &mut plan.service).await?;
    let live = live(&api::<Deployment>(client, owner), owner, owner.name).await?;
    let meta = live.as_ref().map(Resource::meta);
    let (hash, generation) = (plan.config_hash.as_str(), plan.generation);
    let since = meta.and_then(|meta| plan::generation_of(meta, hash)).unwrap_or(generation);
    plan::set_generation(&mut plan.deployment, hash, since);
    rollouts::sign(&mut plan.deployment, generation);
    let admitted = admit(rollouts::cause(meta, &plan.deployment));
    let uid = meta.and_then(|meta| meta.uid.clone());
    match (live, plan.first_replicas) {
        (Some(live), _) if !admitted => return Ok((live, true)),
        (None, Some(first)) => set_replicas(&mut plan.deployment, first),
        (Some(live), Some(_)) => hand_over_replicas(client, owner, &live).await?,
        (_, None) => {}
    }
    Ok((write(client, owner, &mut plan.deployment, uid).await?, false))
}

fn set_replicas(deployment: &mut Deployment, replicas: i32) {
    if let Some(spec) = &mut deployment.spec {
        spec.replicas = Some(replicas);
    }
}

/// Applies one child.
async fn child<K>(client: &Client, owner: Owner<'_>, planned: &mut K) -> Result<K, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let live = live(&api::<PartialObjectMeta<K>>(client, owner), owner, &planned.name_any()).await?;
    write(client, owner, planned, live.and_then(|live| live.uid())).await
}

/// Writes a child over the one of that uid, or where there is none.
async fn write<K>(
    client: &Client,
    owner: Owner<'_>,
    planned: &mut K,
    over: Option<String>,
) -> Result<K, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let name = planned.name_any();
    let mut params = PatchParams::apply(FIELD_MANAGER);
    if over.is_some() {
        // Bound to this very object: one that took its place since is refused.
        planned.meta_mut().uid = over;
        params = params.force();
    }
    // Without force where there was nothing: an object that appeared since keeps its fields.
    api::<K>(client, owner)
        .patch(&name, &params, &Patch::Apply(&*planned))
        .await
        .map_err(|source| failed::<K>(owner, &name, "applied", source))
}

/// The object of that name, if there is one and it is ours.
async fn live<K>(api: &Api<K>, owner: Owner<'_>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let live = api.get_opt(name).await.map_err(|source| failed::<K>(owner, name, "read", source))?;
    match live {
        Some(live) if !owner.controls(live.meta()) => Err(Error::NotOurs {
            kind: K::kind(&()).into(),
            namespace: owner.namespace.into(),
            name: name.into(),
        }),
        live => Ok(live),
    }
}

/// Leaves the replicas as they are when the plan stops to name them: a field that its only manager
/// drops falls back to its default, which is 1, and would end most connections.
async fn hand_over_replicas(client: &Client, owner: Owner<'_>, live: &Deployment) -> Result<(), Error> {
    let ours = live.managed_fields().iter().any(sets_replicas);
    let Some(replicas) = live.spec.as_ref().and_then(|spec| spec.replicas).filter(|_| ours) else {
        return Ok(());
    };
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": owner.name, "uid": live.uid()},
        "spec": {"replicas": replicas},
    });
    let params = PatchParams::apply(HANDOVER_MANAGER);
    match api::<Deployment>(client, owner).patch(owner.name, &params, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        // An autoscaler set them in this moment: they are its already.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        Err(source) => Err(failed::<Deployment>(owner, owner.name, "handed to the autoscaler", source)),
    }
}

fn sets_replicas(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
        && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
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
    let params = ListParams::default().labels(&plan::selector_string(owner.name));
    let maps = api::<PartialObjectMeta<ConfigMap>>(client, owner)
        .list(&params)
        .await
        .map_err(|source| failed::<ConfigMap>(owner, "*", "listed", source))?;
    for map in maps.items.iter().filter(|map| is_old_config(&map.metadata, owner, current, used)) {
        let name = map.name_any();
        let same = Preconditions { uid: map.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
        match api::<ConfigMap>(client, owner).delete(&name, &params).await {
            Ok(_) => info!(config_map = name, "Removed a configuration that no pod uses any more."),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(source) => return Err(failed::<ConfigMap>(owner, &name, "deleted", source)),
        }
    }
    Ok(())
}

fn is_old_config(meta: &ObjectMeta, owner: Owner<'_>, current: &str, used: &HashSet<String>) -> bool {
    let hash = meta.name.as_deref().and_then(|name| name.strip_prefix(owner.name)?.strip_prefix('-'));
    hash.is_some_and(|hash| hash != current && !used.contains(hash)) && owner.controls(meta)
}

fn api<K>(client: &Client, owner: Owner<'_>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), owner.namespace)
}

fn failed<K: Resource<DynamicType = ()>>(
    owner: Owner<'_>,
    name: &str,
    action: &'static str,
    source: kube::Error,
) -> Error {
    Error::Api {
        kind: K::kind(&()).into(),
        namespace: owner.namespace.into(),
        name: name.into(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests;
