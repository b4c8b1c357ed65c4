//! Whose `replicas` a Deployment has: the spec's, or an autoscaler's.
//!
//! The way to the autoscaler is here. The way back needs nothing: the autoscaler is removed first, and
//! then the plan names them again, and takes them by force.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Error, FIELD_MANAGER, Place};

/// Keeps `replicas` of a Deployment while they are handed over to an autoscaler.
const HANDOVER_MANAGER: &str = "sse-operator-handover";

/// Sees to the replicas before a Deployment without them is applied: a new one begins with `first`, an
/// old one keeps what it has.
pub async fn leave(
    place: &Place<'_, Deployment>,
    live: Option<&Deployment>,
    planned: &mut Deployment,
    first: i32,
) -> Result<(), Error> {
    match live {
        None => {
            if let Some(spec) = &mut planned.spec {
                spec.replicas = Some(first);
            }
            Ok(())
        }
        Some(live) => hand_over(place, live).await,
    }
}

/// Leaves the replicas as they are when the plan stops to name them: a field that its only manager
/// drops falls back to its default, which is 1, and would end most connections.
async fn hand_over(place: &Place<'_, Deployment>, live: &Deployment) -> Result<(), Error> {
    let ours = live.managed_fields().iter().any(sets_replicas);
    let Some(replicas) = live.spec.as_ref().and_then(|spec| spec.replicas).filter(|_| ours) else {
        return Ok(());
    };
    let name = place.owner.name;
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "uid": live.uid()},
        "spec": {"replicas": replicas},
    });
    let params = PatchParams::apply(HANDOVER_MANAGER);
    match place.api.patch(name, &params, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        // An autoscaler set them in this moment: they are its already.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        Err(source) => Err(place.failed(name, "handed to the autoscaler", source)),
    }
}

fn sets_replicas(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
        && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_handed_over_only_while_they_are_ours() {
        let entry = |manager: &str, subresource: &str, fields: serde_json::Value| -> ManagedFieldsEntry {
            serde_json::from_value(
                json!({"manager": manager, "subresource": subresource, "fieldsV1": fields}),
            )
            .expect("an entry")
        };
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        assert!(sets_replicas(&entry("sse-operator", "", replicas.clone())));
        assert!(!sets_replicas(&entry("sse-operator", "", json!({"f:spec": {"f:template": {}}}))));
        assert!(!sets_replicas(&entry("kube-controller-manager", "scale", replicas)));
    }
}
