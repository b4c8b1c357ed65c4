//! The pods as a cluster gets to see them: compared as JSON.

use serde_json::{Value, json};

use super::super::fixtures::{gateway, settings};
use super::super::{children, selector};

fn template(patch: Value) -> Value {
    let children = children(&gateway(patch), &settings()).expect("a plan");
    let deployment = serde_json::to_value(children.deployment).expect("JSON");
    deployment["spec"]["template"].clone()
}

fn container(patch: Value) -> Value {
    template(patch)["spec"]["containers"][0].clone()
}

#[test]
fn pods_meet_the_restricted_security_profile() {
    let template = template(json!({}));
    let spec = &template["spec"];
    assert_eq!(
        spec["securityContext"],
        json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
               "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(
        spec["containers"][0]["securityContext"],
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "privileged": false,
               "readOnlyRootFilesystem": true, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["enableServiceLinks"], false);
    assert_eq!(spec["serviceAccountName"], "live-gateway");
}

#[test]
fn the_gateway_is_told_its_files_and_its_name() {
    let container = container(json!({}));
    assert_eq!(container["image"], "registry/sse-gateway:1");
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        container["args"],
        json!([
            "--config",
            "/etc/sse-gateway/gateway.yaml",
            "--secrets-dir",
            "/etc/sse-gateway/secrets",
            "--name",
            "demo/live"
        ])
    );
    assert_eq!(container["resources"], json!({"requests": {"cpu": "100m", "memory": "64Mi"}}));
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    assert_eq!(container["env"][1]["name"], "POD_NAMESPACE");
    assert_eq!(container["ports"][0], json!({"name": "http", "containerPort": 8080, "protocol": "TCP"}));
    assert_eq!(container["ports"][1], json!({"name": "admin", "containerPort": 9090, "protocol": "TCP"}));
}

#[test]
fn probes_ask_the_admin_port() {
    let container = container(json!({}));
    for (probe, path) in
        [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": 9090}), "{probe}");
        assert_eq!(container[probe]["timeoutSeconds"], 2, "{probe}");
    }
    assert_eq!(container["readinessProbe"]["periodSeconds"], 2);
}

#[test]
fn pods_carry_the_hash_of_their_configuration_and_mount_it() {
    let children = children(&gateway(json!({})), &settings()).expect("a plan");
    let template = template(json!({}));
    assert_eq!(template["metadata"]["annotations"]["ssegateway.io/config-hash"], json!(children.config_hash));
    let volumes = &template["spec"]["volumes"];
    assert_eq!(volumes[0]["configMap"]["name"], json!(children.config_map.metadata.name));
    assert_eq!(volumes[1]["secret"]["secretName"], "jwt-key");
    let mounts = &template["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(mounts[0], json!({"name": "config", "mountPath": "/etc/sse-gateway", "readOnly": true}));
    assert_eq!(mounts[1]["mountPath"], "/etc/sse-gateway/secrets/jwt-key");
}

#[test]
fn a_pod_has_time_to_drain() {
    assert_eq!(template(json!({}))["spec"]["terminationGracePeriodSeconds"], 43);
    let slow = template(json!({"drain": {"windowSeconds": 300}}));
    assert_eq!(slow["spec"]["terminationGracePeriodSeconds"], 313);
}

#[test]
fn pods_spread_over_hosts_and_zones_unless_the_user_says_how() {
    let template_ = template(json!({}));
    let spread = template_["spec"]["topologySpreadConstraints"].as_array().expect("constraints");
    assert_eq!(spread[0]["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(spread[1]["topologyKey"], "topology.kubernetes.io/zone");
    assert!(spread.iter().all(|s| s["whenUnsatisfiable"] == "ScheduleAnyway"));
    let own = json!([{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]);
    let users = template(json!({"pod": {"topologySpreadConstraints": own}}));
    assert_eq!(users["spec"]["topologySpreadConstraints"], own);
}

#[test]
fn every_setting_of_the_closed_list_arrives() {
    let pod = json!({
        "image": "registry/other:2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"limits": {"memory": "1Gi"}},
        "labels": {"team": "a"},
        "annotations": {"note": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "env": [{"name": "TZ", "value": "UTC"}, {"name": "POD_NAME", "value": "me"}],
    });
    let template = template(json!({ "pod": pod }));
    let (meta, spec) = (&template["metadata"], &template["spec"]);
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "registry/other:2");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"], json!({"limits": {"memory": "1Gi"}}));
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(meta["labels"]["team"], "a");
    assert_eq!(meta["annotations"]["note"], "b");
    assert_eq!(spec["nodeSelector"], json!({"disk": "ssd"}));
    assert_eq!(spec["tolerations"][0]["key"], "edge");
    assert_eq!(spec["affinity"], json!({"nodeAffinity": {}}));
    assert_eq!(spec["priorityClassName"], "high");
    let env = container["env"].as_array().expect("variables");
    assert_eq!(env.len(), 3, "the pod's name is its own: {env:?}");
    assert_eq!(env[2], json!({"name": "TZ", "value": "UTC"}));
}

#[test]
fn the_users_labels_and_annotations_can_not_take_the_operators_place() {
    let template = template(json!({"pod": {
        "labels": {
            "app.kubernetes.io/instance": "other",
            "app.kubernetes.io/name": "other",
            "app.kubernetes.io/component": "other",
            "app.kubernetes.io/managed-by": "me",
        },
        "annotations": {"ssegateway.io/config-hash": "none"},
    }}));
    let labels = &template["metadata"]["labels"];
    for (label, value) in selector("live") {
        assert_eq!(labels[&label], json!(value), "{label}");
    }
    assert_eq!(labels["app.kubernetes.io/managed-by"], "sse-operator");
    assert_ne!(template["metadata"]["annotations"]["ssegateway.io/config-hash"], "none");
}
