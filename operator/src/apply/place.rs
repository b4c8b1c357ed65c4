//! One kind of object in the gateway's namespace: applied, or removed, if it is the gateway's.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::info;

use super::{Error, FIELD_MANAGER, Owner};
use crate::telemetry;

/// Where the gateway's children of one kind are.
pub struct Place<'a, K> {
    pub api: Api<K>,
    pub owner: Owner<'a>,
    kind: String,
}

impl<'a, K> Place<'a, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    pub fn new(client: &Client, owner: Owner<'a>) -> Self {
        let api = Api::namespaced(client.clone(), owner.namespace);
        Self { api, owner, kind: K::kind(&()).into() }
    }
}

impl<'a> Place<'a, DynamicObject> {
    pub fn of(client: &Client, owner: Owner<'a>, resource: &ApiResource) -> Self {
        let api = Api::namespaced_with(client.clone(), owner.namespace, resource);
        Self { api, owner, kind: resource.kind.clone() }
    }
}

impl<K> Place<'_, K>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    /// Applies a child.
    pub async fn apply(&self, planned: &mut K) -> Result<K, Error> {
        let name = planned.name_any();
        let apply = async {
            let live = self.api.get_metadata_opt(&name).await;
            let live = live.map_err(|source| self.failed(&name, "read", source))?;
            if live.as_ref().is_some_and(|live| !self.owner.controls(live.meta())) {
                return Err(self.not_ours(&name));
            }
            self.write(planned, live.as_ref().map(Resource::meta)).await
        };
        telemetry::step(telemetry::apply(&self.kind, &name), apply).await
    }

    /// Writes a child over the one with that metadata, or where there is none.
    pub async fn write(&self, planned: &mut K, over: Option<&ObjectMeta>) -> Result<K, Error> {
        let name = planned.name_any();
        let mut params = PatchParams::apply(FIELD_MANAGER);
        if let Some(uid) = over.and_then(|live| live.uid.clone()) {
            // Bound to this very object: one that took its place since is refused.
            planned.meta_mut().uid = Some(uid);
            params = params.force();
        }
        // Without force where there was nothing: an object that appeared since keeps its fields.
        let applied = self.api.patch(&name, &params, &Patch::Apply(&*planned)).await;
        let applied = applied.map_err(|source| self.failed(&name, "applied", source))?;
        telemetry::wrote(over.is_none_or(|live| live.resource_version != applied.meta().resource_version));
        Ok(applied)
    }

    /// Applies the child, or removes the one of an earlier spec.
    pub async fn settle(&self, planned: Option<&mut K>) -> Result<(), Error> {
        match planned {
            Some(planned) => self.apply(planned).await.map(drop),
            None => self.remove().await,
        }
    }

    /// Removes the child that has the gateway's name, unless it is someone else's.
    pub async fn remove(&self) -> Result<(), Error> {
        let name = self.owner.name;
        let live = self.api.get_metadata_opt(name).await;
        let live = live.map_err(|source| self.failed(name, "read", source))?;
        match live {
            Some(live) if self.owner.controls(live.meta()) && live.meta().deletion_timestamp.is_none() => {
                self.delete(live.meta()).await
            }
            _ => Ok(()),
        }
    }

    /// Deletes this very object.
    pub async fn delete(&self, seen: &ObjectMeta) -> Result<(), Error> {
        let name = seen.name.as_deref().unwrap_or_default();
        let same = Preconditions { uid: seen.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
        let delete = async {
            match self.api.delete(name, &params).await {
                Ok(_) => {
                    telemetry::wrote(true);
                    let (gateway, trace_id) = (self.owner.to_string(), telemetry::trace_id());
                    info!(gateway, kind = self.kind, name, trace_id, "A child was removed.");
                    Ok(())
                }
                // Gone already, or another one by now.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                Err(source) => Err(self.failed(name, "deleted", source)),
            }
        };
        telemetry::step(telemetry::remove(&self.kind, name), delete).await
    }

    /// The object of that name, if there is one and it is ours.
    pub async fn whole(&self, name: &str) -> Result<Option<K>, Error> {
        match self.api.get_opt(name).await {
            Ok(Some(live)) if !self.owner.controls(live.meta()) => Err(self.not_ours(name)),
            live => live.map_err(|source| self.failed(name, "read", source)),
        }
    }

    fn not_ours(&self, name: &str) -> Error {
        Error::NotOurs { kind: self.kind.clone(), namespace: self.owner.namespace.into(), name: name.into() }
    }

    pub fn failed(&self, name: &str, action: &'static str, source: kube::Error) -> Error {
        Error::Api {
            kind: self.kind.clone(),
            namespace: self.owner.namespace.into(),
            name: name.into(),
            action,
            source,
        }
    }
}
