//! What is sent to the API server, and what is left alone.

use serde_json::json;

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

fn plan_of(patch: serde_json::Value) -> Children {
    plan::children(&gateway(patch), &settings()).expect("a plan")
}

async fn apply(stub: &Stub, plan: Children) -> Result<Deployment, Error> {
    let outcome = apply_if(stub, plan, |_| true).await?;
    assert!(!outcome.waits);
    outcome.rest.map(|()| outcome.deployment)
}

async fn apply_if(
    stub: &Stub,
    mut plan: Children,
    admit: impl FnOnce(Cause) -> bool,
) -> Result<Outcome, Error> {
    children(&stub.client(), &Apis::default(), OWNER, &mut plan, admit).await
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
    let deployment = apply(&stub, plan_of(json!({}))).await.expect("applied");
    assert_eq!(deployment.metadata.name.as_deref(), Some("live"));
    let patches = stub.sent("PATCH");
    let kinds: Vec<_> = patches.iter().map(|patch| patch.body["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        kinds,
        [
            "ServiceAccount",
            "ConfigMap",
            "Service",
            "Service",
            "NetworkPolicy",
            "Deployment",
            "PodDisruptionBudget"
        ]
    );
    for patch in patches {
        assert!(patch.query.contains("fieldManager=sse-operator"), "{}", patch.query);
        assert!(!patch.query.contains("force=true"), "{}", patch.query);
        assert_eq!(patch.body["metadata"]["ownerReferences"][0]["uid"], "u-1");
    }
}

#[tokio::test]
async fn what_is_ours_is_forced_and_bound_to_its_uid() {
    let stub = Stub::default().with("/api/v1/namespaces/demo/services/live", ours("v1", "Service"));
    apply(&stub, plan_of(json!({}))).await.expect("applied");
    let service =
        stub.sent("PATCH").into_iter().find(|patch| patch.body["kind"] == "Service").expect("a patch");
    assert!(service.query.contains("force=true"), "{}", service.query);
    assert_eq!(service.body["metadata"]["uid"], "c-1");
}

#[tokio::test]
async fn an_object_of_someone_else_is_named_and_not_touched() {
    let foreign = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "live", "uid": "x"}});
    let stub = Stub::default().with("/api/v1/namespaces/demo/services/live", foreign);
    let error = apply(&stub, plan_of(json!({}))).await.expect_err("not ours");
    assert!(error.to_string().starts_with("Service demo/live exists and is not controlled"), "{error}");
    assert!(stub.sent("PATCH").iter().all(|patch| !patch.path.contains("/services/")));
}

#[tokio::test]
async fn an_autoscaled_deployment_begins_with_the_fewest_pods() {
    let stub = Stub::default();
    let plan = plan_of(json!({"autoscaling": {"minReplicas": 3}}));
    let deployment = apply(&stub, plan).await.expect("applied");
    assert_eq!(deployment.spec.expect("a spec").replicas, Some(3));
}

#[tokio::test]
async fn replicas_that_were_ours_stay_when_an_autoscaler_takes_over() {
    let mut live = ours("apps/v1", "Deployment");
    live["metadata"]["managedFields"] = json!([{"manager": "sse-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    live["spec"] = json!({"replicas": 5, "selector": {}, "template": {}});
    let stub = Stub::default().with("/apis/apps/v1/namespaces/demo/deployments/live", live);
    apply(&stub, plan_of(json!({"autoscaling": {}}))).await.expect("applied");
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

fn child(api_version: &str, kind: &str, uid: &str) -> serde_json::Value {
    let meta = ObjectMeta { uid: Some("c-1".into()), ..meta("live", uid, true) };
    json!({"apiVersion": api_version, "kind": kind, "metadata": meta})
}

const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/demo/ingresses/live";
const AUTOSCALER: &str = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers/live";
const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/demo/httproutes/live";

fn with_gateway_api(stub: Stub) -> Stub {
    let resource = json!({"name": "httproutes", "singularName": "", "namespaced": true, "kind": "HTTPRoute", "verbs": []});
    let list =
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "g", "resources": [resource]});
    stub.with("/apis/gateway.networking.k8s.io/v1", list)
}

fn paths(sent: &[crate::stub::Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.path.as_str()).collect()
}

#[tokio::test]
async fn a_child_that_is_no_longer_wanted_goes_if_it_is_ours() {
    let stub = with_gateway_api(Stub::default())
        .with(INGRESS, child("networking.k8s.io/v1", "Ingress", "u-1"))
        .with(ROUTE, child("gateway.networking.k8s.io/v1", "HTTPRoute", "u-1"));
    apply(&stub, plan_of(json!({}))).await.expect("applied");
    let deleted = stub.sent("DELETE");
    assert_eq!(paths(&deleted), [INGRESS, ROUTE]);
    assert!(deleted.iter().all(|sent| sent.body["preconditions"]["uid"] == "c-1"), "{deleted:?}");
}

#[tokio::test]
async fn what_others_made_or_what_goes_already_is_not_removed() {
    let mut going = child("autoscaling/v2", "HorizontalPodAutoscaler", "u-1");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let stub = Stub::default()
        .with(INGRESS, child("networking.k8s.io/v1", "Ingress", "u-0"))
        .with(AUTOSCALER, going);
    apply(&stub, plan_of(json!({}))).await.expect("applied");
    assert!(stub.sent("DELETE").is_empty());
}

#[tokio::test]
async fn an_autoscaler_goes_before_the_replicas_are_the_specs_again() {
    let stub = Stub::default().with(AUTOSCALER, child("autoscaling/v2", "HorizontalPodAutoscaler", "u-1"));
    apply(&stub, plan_of(json!({"replicas": 4}))).await.expect("applied");
    let all = stub.sent_all();
    let at = |method: &str, end: &str| {
        all.iter().position(|sent| sent.method == method && sent.path.ends_with(end)).expect("a request")
    };
    assert!(at("DELETE", "/horizontalpodautoscalers/live") < at("PATCH", "/deployments/live"));
    assert_eq!(all[at("PATCH", "/deployments/live")].body["spec"]["replicas"], 4);
}

#[tokio::test]
async fn every_child_is_applied_where_its_api_is() {
    let mut spec = crate::plan::fixtures::everything();
    spec["telemetry"] = json!({});
    let stub = with_gateway_api(Stub::default());
    apply(&stub, plan_of(spec)).await.expect("applied");
    let kinds: Vec<_> = stub.sent("PATCH").iter().map(|patch| patch.body["kind"].clone()).collect();
    for kind in ["NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Ingress", "HTTPRoute"] {
        assert!(kinds.contains(&json!(kind)), "{kind} of {kinds:?}");
    }
}

#[tokio::test]
async fn a_missing_api_names_the_field_and_holds_up_nothing_else() {
    let stub = Stub::default();
    let error = apply(&stub, plan_of(crate::plan::fixtures::everything())).await.expect_err("no such API");
    assert_eq!(
        error.to_string(),
        "spec.expose.httpRoute: this cluster has no HTTPRoute (gateway.networking.k8s.io/v1): \
         install the Gateway API, or set spec.expose.httpRoute.enabled to false"
    );
    let patches = stub.sent("PATCH");
    assert!(paths(&patches).contains(&INGRESS) && paths(&patches).contains(&AUTOSCALER), "{patches:?}");
    assert!(!paths(&patches).contains(&ROUTE));
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_not_taken_for_a_missing_api() {
    let gone = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
        "message": "no", "details": {"kind": "namespaces", "name": "demo"}});
    let stub = with_gateway_api(Stub::default()).refusing_with(ROUTE, 404, gone);
    let mut spec = crate::plan::fixtures::everything();
    spec["telemetry"] = json!({});
    let error = apply(&stub, plan_of(spec)).await.expect_err("gone");
    assert!(error.is_of_a_namespace_that_goes(), "{error}");
}

#[tokio::test]
async fn a_foreign_ingress_holds_up_no_pod() {
    let stub = Stub::default().with(INGRESS, child("networking.k8s.io/v1", "Ingress", "u-0"));
    let ingress = json!({"enabled": true, "host": "live.example.com"});
    let error = apply(&stub, plan_of(json!({"expose": {"ingress": ingress}}))).await.expect_err("not ours");
    assert!(error.to_string().starts_with("Ingress demo/live exists and is not controlled"), "{error}");
    let patches = stub.sent("PATCH");
    assert!(patches.iter().any(|patch| patch.body["kind"] == "Deployment"));
    assert!(!paths(&patches).contains(&INGRESS));
}

#[tokio::test]
async fn a_deployment_that_has_to_wait_is_left_alone_and_everything_else_is_not() {
    const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/demo/deployments/live";
    let mut live = ours("apps/v1", "Deployment");
    live["spec"] = json!({"replicas": 2, "selector": {}, "template": {}});
    let stub = with_gateway_api(Stub::default()).with(DEPLOYMENT, live);
    let everything = crate::plan::fixtures::everything();
    let mut asked = None;
    let admit = |cause| {
        asked = Some(cause);
        false
    };
    let outcome = apply_if(&stub, plan_of(everything), admit).await.expect("applied");
    assert!(outcome.waits);
    assert!(matches!(outcome.rest, Err(Error::MissingApi { api: Optional::PodMonitor })), "{outcome:?}");
    assert_eq!(outcome.deployment.metadata.uid.as_deref(), Some("c-1"), "as it is");
    assert_eq!(asked, Some(Cause::Operator), "it was made by another operator");
    let kinds: Vec<_> = stub.sent("PATCH").into_iter().map(|patch| patch.body["kind"].clone()).collect();
    let others = ["NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Ingress", "HTTPRoute"];
    assert_eq!(kinds, [&["ServiceAccount", "ConfigMap", "Service", "Service"][..], &others].concat());
}

#[tokio::test]
async fn the_autoscaler_of_a_deployment_that_has_to_wait_is_not_removed() {
    let autoscaler = child("autoscaling/v2", "HorizontalPodAutoscaler", "u-1");
    let mut live = ours("apps/v1", "Deployment");
    live["spec"] = json!({"replicas": 7, "selector": {}, "template": {}});
    let stub = Stub::default()
        .with(AUTOSCALER, autoscaler)
        .with("/apis/apps/v1/namespaces/demo/deployments/live", live);
    let outcome = apply_if(&stub, plan_of(json!({"replicas": 4})), |_| false).await.expect("applied");
    assert!(outcome.waits && outcome.rest.is_ok(), "{outcome:?}");
    assert!(stub.sent("DELETE").is_empty());
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
    let missing = refused(serde_json::Value::Null, 404, "Failed to parse error data");
    assert!(!missing.is_of_a_namespace_that_goes(), "the API is missing");
    assert!(!refused(json!({"kind": "services"}), 403, "Forbidden").is_of_a_namespace_that_goes());
    assert!(!refused(json!({"kind": "services"}), 404, "NotFound").is_of_a_namespace_that_goes());
}
