//! One look, against an API server that remembers what it was asked.

use kube::core::DeserializeGuard;

use super::*;
use crate::plan::fixtures::{gateway, settings};
use crate::stub::{Sent, Stub};

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let spec = json!({
        "nats": {"url": "nats://nats:4222"},
        "auth": {"issuers": []},
        "pod": {"tolerations": [{"tolerationSeconds": "soon"}]},
    });
    let text = wrong_field(&spec, "");
    assert!(text.starts_with("spec.pod.tolerations[0].tolerationSeconds: invalid type: string"), "{text}");
    assert_eq!(wrong_field(&json!({"nats": {"url": "n"}, "auth": {"issuers": []}}), "odd"), "odd");
}

#[test]
fn each_error_has_its_reason() {
    let not_ours =
        apply::Error::NotOurs { kind: "Service".into(), namespace: "demo".into(), name: "live".into() };
    let occasion = Occasion { plan: 0, mark: None };
    let failure = Error::Apply { source: not_ours, occasion }.failure();
    assert_eq!(failure.reason, "ObjectNotOurs");
    assert!(
        failure.message.starts_with("Service demo/live exists and is not controlled"),
        "{}",
        failure.message
    );
    assert_eq!(Error::InvalidSpec("spec.nats.url: bad".into()).failure().reason, "InvalidSpec");
    assert_eq!(Error::Deadline.failure().reason, "ObserveFailed");
}

pub const PODS: &str = "/api/v1/namespaces/demo/pods";
const STATUS: &str = "/apis/ssegateway.io/v1alpha1/namespaces/demo/ssegateways/live/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/demo/events";

pub fn no_pods() -> Stub {
    Stub::default().with(PODS, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []}))
}

pub fn context(stub: &Stub) -> Arc<Context> {
    Arc::new(Context {
        client: stub.client(),
        settings: settings(),
        prober: Prober::new(),
        metrics: Arc::default(),
        memory: Memory::default(),
        cache: Cache::default(),
        changes: Arc::default(),
        rollouts: Rollouts::new(1),
        apis: Apis::default(),
    })
}

/// What was counted, by reason.
fn errors(context: &Context) -> Vec<(&'static str, u64)> {
    let text = context.metrics.exposition();
    let count = |reason: &str| {
        let series = format!("sse_operator_reconcile_errors_total{{reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&series)).expect("a series");
        line.parse().expect("a count")
    };
    Failing::ALL.map(|(_, name)| (name, count(name))).into_iter().filter(|(_, count)| *count > 0).collect()
}

pub fn watched(patch: Value) -> Arc<Watched> {
    let mut gateway = gateway(patch);
    gateway.metadata.resource_version = Some("7".into());
    Arc::new(DeserializeGuard(Ok(gateway)))
}

fn statuses(stub: &Stub) -> Vec<Sent> {
    stub.sent("PATCH").into_iter().filter(|sent| sent.path == STATUS).collect()
}

fn ready(sent: &Sent) -> &Value {
    &sent.body["status"]["conditions"][0]
}

#[tokio::test]
async fn a_new_gateway_gets_its_children_and_a_status() {
    let stub = no_pods();
    attempt(&watched(json!({})), &context(&stub)).await.expect("reconciled");
    let status = statuses(&stub).pop().expect("a status");
    assert!(status.query.contains("force=true") && status.query.contains("fieldManager=sse-operator"));
    assert_eq!(status.body["metadata"], json!({"name": "live", "uid": "u-1"}));
    assert_eq!(ready(&status)["type"], "Ready");
    assert_eq!(ready(&status)["reason"], "RollingOut");
    assert_eq!(status.body["status"]["observedGeneration"], 3);
    assert_eq!(status.body["status"].get("connections"), None);
    assert!(stub.sent("POST").is_empty(), "a rollout is no news");
}

#[tokio::test]
async fn the_same_look_twice_writes_and_tells_once() {
    let stub = no_pods().refusing("/api/v1/namespaces/demo/services/live", "spec.ports: too many");
    let (context, gateway) = (context(&stub), watched(json!({})));
    for _ in 0..2 {
        // Something happened to the children: the next look does not wait.
        context.changes.of(|_: &Deployment| false)(&Ok(kube::runtime::watcher::Event::Init));
        let error = attempt(&gateway, &context).await.expect_err("refused");
        assert_eq!(notice::chain(&error), "Service demo/live was not applied: spec.ports: too many");
        retry(&gateway, &error, &context);
    }
    let statuses = statuses(&stub);
    assert_eq!(statuses.len(), 1);
    assert_eq!(ready(&statuses[0])["reason"], "ApplyFailed");
    assert_eq!(ready(&statuses[0])["message"], "Service demo/live was not applied: spec.ports: too many");
    let events: Vec<_> = stub.sent("POST").into_iter().filter(|sent| sent.path == EVENTS).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0].body["type"], &events[0].body["reason"]),
        (&json!("Warning"), &json!("ApplyFailed"))
    );
    assert_eq!(errors(&context), [("apply_failed", 2)]);
}

#[tokio::test]
async fn a_spec_that_breaks_a_rule_changes_nothing_and_names_its_field() {
    let stub = no_pods();
    let bad = watched(json!({"stream": {"heartbeatIntervalSeconds": 1}, "nats": {"subjectPrefix": "a.b"}}));
    let context = context(&stub);
    attempt(&bad, &context).await.expect("no retry can help");
    assert_eq!(errors(&context), [("invalid_spec", 1)]);
    let patches = stub.sent("PATCH");
    assert_eq!(patches.len(), 1, "the status alone");
    let message = ready(&patches[0])["message"].as_str().expect("a message");
    assert!(
        message.contains("spec.nats.subjectPrefix: ")
            && message.contains("; spec.stream.heartbeatIntervalSeconds: "),
        "{message}"
    );
    assert_eq!(ready(&patches[0])["reason"], "InvalidSpec");
}

#[tokio::test]
async fn a_gateway_that_can_not_be_read_is_told_so() {
    let object = json!({
        "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway",
        "metadata": {"name": "live", "namespace": "demo", "uid": "u-1", "generation": 4},
        "spec": {"nats": {"url": "nats://n"}, "auth": {"issuers": []}, "pod": {"env": [{"name": 1}]}},
        "status": {"replicas": 2, "readyReplicas": 2},
    });
    let stub = Stub::default().with(STATUS.trim_end_matches("/status"), object.clone());
    let guard: Watched = serde_json::from_value(object).expect("a guarded object");
    assert!(guard.0.is_err());
    let context = context(&stub);
    attempt(&guard, &context).await.expect("no retry can help");
    assert_eq!(errors(&context), [("invalid_spec", 1)]);
    let status = statuses(&stub).pop().expect("a status");
    assert_eq!(ready(&status)["reason"], "InvalidSpec");
    let message = ready(&status)["message"].as_str().expect("a message");
    assert!(message.starts_with("spec.pod.env[0].name: invalid type: "), "{message}");
    assert_eq!(status.body["status"]["readyReplicas"], 2, "what was known stays");
}

#[tokio::test]
async fn a_gateway_that_goes_is_left_to_the_garbage_collector() {
    let stub = Stub::default();
    let mut gateway = gateway(json!({}));
    gateway.metadata.deletion_timestamp = Some(Timestamp::UNIX_EPOCH.into());
    let action = attempt(&DeserializeGuard(Ok(gateway)), &context(&stub)).await.expect("nothing to do");
    assert_eq!(action, Action::await_change());
    assert!(stub.sent("PATCH").is_empty());
}

fn requests(stub: &Stub) -> usize {
    stub.sent("GET").len() + stub.sent("PATCH").len()
}

#[tokio::test]
async fn children_to_which_nothing_happened_are_not_asked_for_again() {
    let stub = no_pods();
    let (context, gateway) = (context(&stub), watched(json!({})));
    attempt(&gateway, &context).await.expect("reconciled");
    let before = requests(&stub);
    attempt(&gateway, &context).await.expect("reconciled");
    assert_eq!(requests(&stub), before + 1, "the pods, of which there is no watch here");
    // A child that is changed, or that may have been while a watch was broken, is put right at once.
    let mut watch = context.changes.of(|_: &Deployment| false);
    watch(&Ok(kube::runtime::watcher::Event::InitDone));
    watch(&Ok(kube::runtime::watcher::Event::Init));
    attempt(&gateway, &context).await.expect("reconciled");
    assert!(requests(&stub) > before + 5, "{}", requests(&stub) - before);
    // As is what is declared anew.
    let before = requests(&stub);
    attempt(&watched(json!({"replicas": 5})), &context).await.expect("reconciled");
    assert!(requests(&stub) > before + 5, "{}", requests(&stub) - before);
}

#[tokio::test]
async fn while_children_can_not_be_applied_the_pods_are_still_asked() {
    let stub = no_pods().refusing("/api/v1/namespaces/demo/services/live", "no");
    let (context, gateway) = (context(&stub), watched(json!({})));
    let error = attempt(&gateway, &context).await.expect_err("refused");
    for _ in 0..6 {
        retry(&gateway, &error, &context);
    }
    let applied = stub.sent("PATCH").len();
    let asked = || stub.sent("GET").iter().filter(|sent| sent.path == PODS).count();
    let before = asked();
    attempt(&gateway, &context).await.expect("put off");
    assert_eq!(asked(), before + 1);
    assert_eq!(stub.sent("PATCH").len(), applied, "neither children nor a status that says the same");
    assert!(next_look(Duration::from_mins(5)) <= POLL.mul_f64(1.2));
    assert_eq!(next_look(Duration::from_secs(1)), Duration::from_secs(1));
}

#[tokio::test]
async fn a_new_image_waits_for_its_turn_and_a_users_change_does_not() {
    use kube::runtime::watcher::Event;
    const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/demo/deployments/live";
    let deployed = |stub: &Stub| stub.sent("PATCH").into_iter().rfind(|sent| sent.path == DEPLOYMENT);
    let first = no_pods();
    attempt(&watched(json!({})), &context(&first)).await.expect("reconciled");
    let mut live = deployed(&first).expect("a Deployment").body;
    live["metadata"]["uid"] = json!("d-1");
    live["status"] = json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});

    // Another operator, with another image, while another gateway rolls.
    let stub = no_pods().with(DEPLOYMENT, live);
    let mut cache = Cache::default();
    let mut writers = cache.scope();
    let rolling = |updated: i32| -> Deployment {
        serde_json::from_value(json!({"metadata": {"namespace": "demo", "name": "other"},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"replicas": 2, "updatedReplicas": updated, "readyReplicas": 2}}))
        .expect("a Deployment")
    };
    writers.deployments.apply_watcher_event(&Event::InitApply(rolling(1)));
    writers.deployments.apply_watcher_event(&Event::InitDone);
    writers.pods.apply_watcher_event(&Event::InitDone);
    let settings = Settings { image: "registry/sse-gateway:2".into(), ..settings() };
    let context = Context { settings, cache, ..Arc::into_inner(context(&stub)).expect("one") };
    let context = Arc::new(context);
    attempt(&watched(json!({})), &context).await.expect("reconciled");
    assert!(deployed(&stub).is_none());
    let status = statuses(&stub).pop().expect("a status");
    assert_eq!(status.body["status"]["conditions"][2]["reason"], "WaitingForRollout");

    let requests_before = requests(&stub);
    attempt(&watched(json!({})), &context).await.expect("reconciled");
    assert_eq!(requests(&stub), requests_before, "waiting costs nothing");
    let mut changed = gateway(json!({"stream": {"heartbeatIntervalSeconds": 7}}));
    changed.metadata.generation = Some(4);
    attempt(&DeserializeGuard(Ok(changed)), &context).await.expect("reconciled");
    let image = |sent: Sent| sent.body["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(deployed(&stub).map(image), Some(json!("registry/sse-gateway:2")));
}

#[tokio::test]
async fn a_new_image_is_rolled_out_once_the_others_are_complete() {
    use kube::runtime::watcher::Event;
    const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/demo/deployments/live";
    let mut live =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"selector": {}, "template": {}}});
    live["metadata"] = json!({"name": "live", "uid": "d-1", "annotations": {"ssegateway.io/rendered": "3 0"},
        "ownerReferences": [{"apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway", "name": "live",
            "uid": "u-1", "controller": true}]});
    let stub = no_pods().with(DEPLOYMENT, live);
    let mut cache = Cache::default();
    let mut writers = cache.scope();
    writers.deployments.apply_watcher_event(&Event::InitDone);
    let context = Arc::new(Context { cache, ..Arc::into_inner(context(&stub)).expect("one") });
    assert!(context.rollouts.admit(&("demo".into(), "other".into()), &context.cache, Instant::now()));
    attempt(&watched(json!({})), &context).await.expect("reconciled");
    let deployed = || stub.sent("PATCH").iter().any(|sent| sent.path == DEPLOYMENT);
    assert!(!deployed());
    context.rollouts.withdraw(&("demo".into(), "other".into()));
    attempt(&watched(json!({})), &context).await.expect("reconciled");
    assert!(deployed());
}

#[tokio::test]
async fn a_missing_api_is_told_once_and_looked_for_again_in_a_while_or_when_it_comes() {
    let stub = no_pods();
    let route = json!({"enabled": true, "parentRefs": [{"name": "public"}]});
    let (context, gateway) = (context(&stub), watched(json!({"expose": {"httpRoute": route}})));
    let applied = || stub.sent("PATCH").iter().filter(|sent| sent.path != STATUS).count();
    let mut counts = Vec::new();
    for _ in 0..2 {
        let action = attempt(&gateway, &context).await.expect("no error that is retried");
        assert_ne!(action, Action::await_change());
        counts.push(applied());
    }
    assert_eq!(counts[0], counts[1], "what else there is was applied, and is not again");
    assert_eq!(errors(&context), [("missing_api", 1)], "it was tried once");
    let statuses = statuses(&stub);
    assert_eq!(statuses.len(), 1);
    assert_eq!(ready(&statuses[0])["reason"], "MissingApi");
    let message = ready(&statuses[0])["message"].as_str().expect("a message");
    assert!(
        message.starts_with("spec.expose.httpRoute: ") && message.contains("install the Gateway API"),
        "{message}"
    );
    // Its watch begins.
    context.changes.of_optional(|_: &Deployment| false)(&Ok(kube::runtime::watcher::Event::InitDone));
    attempt(&gateway, &context).await.expect("no error that is retried");
    assert!(applied() > counts[1]);
}

#[tokio::test]
async fn a_rollout_that_was_begun_keeps_its_place_though_another_child_fails() {
    use kube::runtime::watcher::Event;
    const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/demo/deployments/live";
    let live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"selector": {}, "template": {}},
        "metadata": {"name": "live", "uid": "d-1", "annotations": {"ssegateway.io/rendered": "3 0"},
        "ownerReferences": [{"apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway", "name": "live",
            "uid": "u-1", "controller": true}]}});
    let refused = "/apis/policy/v1/namespaces/demo/poddisruptionbudgets/live";
    let stub = no_pods().with(DEPLOYMENT, live).refusing(refused, "no");
    let mut cache = Cache::default();
    let mut writers = cache.scope();
    writers.deployments.apply_watcher_event(&Event::InitDone);
    let context = Arc::new(Context { cache, ..Arc::into_inner(context(&stub)).expect("one") });
    attempt(&watched(json!({})), &context).await.expect_err("the budget is refused");
    assert!(stub.sent("PATCH").iter().any(|sent| sent.path == DEPLOYMENT));
    assert!(!context.rollouts.admit(&("demo".into(), "other".into()), &context.cache, Instant::now()));
}
