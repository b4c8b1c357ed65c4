//! What is sent to the API server, and what is left alone.

use super::*;
use crate::plan;
use crate::plan::fixtures::{gateway, settings};
use crate::stub::Stub;

const OWNER: Owner<'_> = Owner { name: "live", namespace: "demo", uid: "u-1" };

fn meta(name: &str, uid: &str, controller: bool) -> ObjectMeta {
    serde_json::from_value(json!({"name": name, "ownerReferences": [
        {"apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway", "name": "live", "uid": uid, "controller": controller}
    ]}))
    .expect("metadata")
}

#[test]
fn only_a_controlled_object_is_ours() {
    assert!(OWNER.controls(&meta("live", "u-1", true)));
    assert!(!OWNER.controls(&meta("live", "u-1", false)), "owned, but not controlled");
    assert!(!OWNER.controls(&meta("live", "u-0", true)), "an earlier gateway of that name");
    assert!(!OWNER.controls(&ObjectMeta::default()));
}

#[test]
fn a_configuration_goes_when_it_is_ours_and_unused() {
    let used = HashSet::from(["aaaa".to_owned()]);
    let old = |meta: &ObjectMeta| is_old_config(meta, OWNER, "cccc", &used);
    assert!(old(&meta("live-bbbb", "u-1", true)));
    assert!(!old(&meta("live-aaaa", "u-1", true)), "a pod uses it");
    assert!(!old(&meta("live-cccc", "u-1", true)), "the current one");
    assert!(!old(&meta("live-bbbb", "u-2", true)), "not ours");
    assert!(!old(&meta("other-bbbb", "u-1", true)), "not a configuration");
}

#[test]
fn replicas_are_handed_over_only_while_they_are_ours() {
    let entry = |manager: &str, subresource: &str, fields: serde_json::Value| -> ManagedFieldsEntry {
        serde_json::from_value(json!({"manager": manager, "subresource": subresource, "fieldsV1": fields}))
            .expect("an entry")
    };
    let replicas = json!({"f:spec": {"f:replicas": {}}});
    assert!(sets_replicas(&entry("sse-operator", "", replicas.clone())));
    assert!(!sets_replicas(&entry("sse-operator", "", json!({"f:spec": {"f:template": {}}}))));
    assert!(!sets_replicas(&entry("kube-controller-manager", "scale", replicas)));
}

fn plan_of(patch: serde_json::Value) -> Children {
    plan::children(&gateway(patch), &settings()).expect("a plan")
}

fn ours(api_version: &str, kind: &str) -> serde_json::Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": serde_json::to_value(ObjectMeta { uid: Some("c-1".into()), ..meta("live", "u-1", true) }).expect("JSON"),
    })
}

#[tokio::test]
async fn new_children_are_applied_in_order_and_without_force() {
    let stub = Stub::default();
    let (deployment, left) =
        children(&stub.client(), OWNER, &mut plan_of(json!({})), |_| true).await.expect("applied");
    assert!(!left);
    assert_eq!(deployment.metadata.name.as_deref(), Some("live"));
    let patches = stub.sent("PATCH");
    let kinds: Vec<_> = patches.iter().map(|patch| patch.body["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["ServiceAccount", "ConfigMap", "Service", "Deployment"]);
    for patch in patches {
        assert!(patch.query.contains("fieldManager=sse-operator"), "{}", patch.query);
        assert!(!patch.query.contains("force=true"), "{}", patch.query);
        assert_eq!(patch.body["metadata"]["ownerReferences"][0]["uid"], "u-1");
    }
}

#[tokio::test]
async fn what_is_ours_is_forced_and_bound_to_its_uid() {
    let stub = Stub::default().with("/api/v1/namespaces/demo/services/live", ours("v1", "Service"));
    children(&stub.client(), OWNER, &mut plan_of(json!({})), |_| true).await.expect("applied");
    let service =
        stub.sent("PATCH").into_iter().find(|patch| patch.body["kind"] == "Service").expect("a patch");
    assert!(service.query.contains("force=true"), "{}", service.query);
    assert_eq!(service.body["metadata"]["uid"], "c-1");
}

#[tokio::test]
async fn an_object_of_someone_else_is_named_and_not_touched() {
    let foreign = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "live", "uid": "x"}});
    let stub = Stub::default().with("/api/v1/namespaces/demo/services/live", foreign);
    let error =
        children(&stub.client(), OWNER, &mut plan_of(json!({})), |_| true).await.expect_err("not ours");
    assert!(error.to_string().starts_with("Service demo/live exists and is not controlled"), "{error}");
    assert!(stub.sent("PATCH").iter().all(|patch| !patch.path.contains("/services/")));
}

#[tokio::test]
async fn an_autoscaled_deployment_begins_with_the_fewest_pods() {
    let stub = Stub::default();
    let mut plan = plan_of(json!({"autoscaling": {"minReplicas": 3}}));
    let (deployment, _) = children(&stub.client(), OWNER, &mut plan, |_| true).await.expect("applied");
    assert_eq!(deployment.spec.expect("a spec").replicas, Some(3));
}

#[tokio::test]
async fn replicas_that_were_ours_stay_when_an_autoscaler_takes_over() {
    let mut live = ours("apps/v1", "Deployment");
    live["metadata"]["managedFields"] = json!([{"manager": "sse-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    live["spec"] = json!({"replicas": 5, "selector": {}, "template": {}});
    let stub = Stub::default().with("/apis/apps/v1/namespaces/demo/deployments/live", live);
    children(&stub.client(), OWNER, &mut plan_of(json!({"autoscaling": {}})), |_| true)
        .await
        .expect("applied");
    let patches: Vec<_> = stub.sent("PATCH").into_iter().filter(|p| p.body["kind"] == "Deployment").collect();
    assert!(patches[0].query.contains("fieldManager=sse-operator-handover"), "{}", patches[0].query);
    assert_eq!(patches[0].body["spec"], json!({"replicas": 5}));
    assert_eq!(patches[1].body["spec"].get("replicas"), None);
}

#[tokio::test]
async fn only_unused_configurations_are_deleted_and_only_as_they_were_seen() {
    let map = |name: &str| {
        let meta = ObjectMeta { uid: Some(format!("uid of {name}")), ..meta(name, "u-1", true) };
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta})
    };
    let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
        "items": [map("live-old"), map("live-used"), map("live-new")]});
    let stub = Stub::default().with("/api/v1/namespaces/demo/configmaps", list);
    let used = HashSet::from(["used".to_owned()]);
    remove_old_configs(&stub.client(), OWNER, "new", &used).await.expect("removed");
    let deleted = stub.sent("DELETE");
    assert_eq!(deleted.len(), 1);
    assert!(deleted[0].path.ends_with("/configmaps/live-old"), "{}", deleted[0].path);
    assert_eq!(deleted[0].body["preconditions"]["uid"], "uid of live-old");
}

#[tokio::test]
async fn a_deployment_that_has_to_wait_is_left_alone_and_everything_else_is_not() {
    const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/demo/deployments/live";
    let mut live = ours("apps/v1", "Deployment");
    live["spec"] = json!({"replicas": 2, "selector": {}, "template": {}});
    let stub = Stub::default().with(DEPLOYMENT, live);
    let mut asked = None;
    let admit = |cause| {
        asked = Some(cause);
        false
    };
    let (deployment, left) =
        children(&stub.client(), OWNER, &mut plan_of(json!({})), admit).await.expect("applied");
    assert!(left);
    assert_eq!(deployment.metadata.uid.as_deref(), Some("c-1"), "as it is");
    assert_eq!(asked, Some(Cause::Operator), "it was made by another operator");
    let kinds: Vec<_> = stub.sent("PATCH").into_iter().map(|patch| patch.body["kind"].clone()).collect();
    assert_eq!(kinds, ["ServiceAccount", "ConfigMap", "Service"]);
}

#[test]
fn a_namespace_that_goes_is_told_from_a_missing_right() {
    let refused = |details: serde_json::Value, code: u16, reason: &str| {
        let status =
            json!({"status": "Failure", "code": code, "reason": reason, "message": "no", "details": details});
        Error::Api {
            kind: "Service".into(),
            namespace: "demo".into(),
            name: "live".into(),
            action: "applied",
            source: kube::Error::Api(serde_json::from_value(status).expect("a status")),
        }
    };
    let going = json!({"causes": [{"reason": "NamespaceTerminating", "message": "m", "field": "metadata.namespace"}]});
    assert!(refused(going, 403, "Forbidden").is_of_a_namespace_that_goes());
    assert!(
        refused(json!({"kind": "namespaces", "name": "demo"}), 404, "NotFound").is_of_a_namespace_that_goes()
    );
    assert!(!refused(json!({"kind": "services"}), 403, "Forbidden").is_of_a_namespace_that_goes());
    assert!(!refused(json!({"kind": "services"}), 404, "NotFound").is_of_a_namespace_that_goes());
}
