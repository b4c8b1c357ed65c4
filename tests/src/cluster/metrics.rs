//! The custom metrics API: the Prometheus adapter in the cluster, with the rules that the documentation has.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::monitor::{LABELS, Server, monitored};
use super::{Namespace, apply, kubectl};
use crate::eventually;
use crate::prometheus::Prometheus;

const NAME: &str = "prometheus-adapter";
const API: &str = "v1beta1.custom.metrics.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Runs `body` while autoscalers of the cluster find what a Prometheus has. There can be one such API in a cluster: it goes,
/// with the rights that are not this namespace's, before its server does.
///
/// # Errors
///
/// With those of `body`, or when it does not start.
pub async fn measured<F>(namespace: &Namespace, body: F) -> Result<()>
where
    F: AsyncFnOnce(Prometheus) -> Result<()>,
{
    monitored(namespace, async |prometheus: Prometheus| {
        let result = match start(namespace).await {
            Ok(()) => body(prometheus).await,
            Err(error) => Err(error),
        };
        kubectl(&["delete", "--ignore-not-found", "apiservice", API]).await?;
        let [delegator, reader] = bindings(&namespace.name).map(|binding| name_of(&binding));
        kubectl(&["delete", "--ignore-not-found", &delegator]).await?;
        kubectl(&["-n", "kube-system", "delete", "--ignore-not-found", &reader]).await?;
        result
    })
    .await
}

/// What a metric of the pods of a namespace is, as an autoscaler sees it.
///
/// # Errors
///
/// When there is no such metric now.
pub async fn of_pods(namespace: &str, metric: &str) -> Result<Vec<Value>> {
    let path = format!("/apis/custom.metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/*/{metric}");
    let list: Value = serde_json::from_str(&kubectl(&["get", "--raw", &path]).await?)?;
    Ok(list["items"].as_array().context("items")?.iter().map(|item| item["value"].clone()).collect())
}

async fn start(namespace: &Namespace) -> Result<()> {
    let name = namespace.name.as_str();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/autoscaling/adapter-rules.yaml");
    let rules = std::fs::read_to_string(&rules).with_context(|| rules.display().to_string())?;
    let metadata = json!({"namespace": name, "name": NAME});
    let mut items = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"rules.yaml": rules}}),
        service(name, LABELS.1, LABELS, 8080),
        service(name, NAME, ("app", NAME), 6443),
        pod(name)?,
    ];
    items.extend(own_rights(name));
    items.extend(bindings(name));
    apply(&json!({"apiVersion": "v1", "kind": "List", "items": items})).await?;
    eventually("the pod of the adapter", Duration::from_mins(1), || async {
        let conditions = namespace.api::<Pod>().get(NAME).await?.status.and_then(|status| status.conditions);
        let ready = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
        ready.then_some(()).context("it is not ready")
    })
    .await?;
    // Not before it can answer: an API that is announced and does not keeps namespaces from going.
    apply(&json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API},
        "spec": {
            "group": "custom.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": name, "name": NAME, "port": 6443},
        },
    }))
    .await?;
    kubectl(&["wait", "--for=condition=Available", "--timeout=60s", &format!("apiservice/{API}")])
        .await
        .map(drop)
}

fn service(namespace: &str, name: &str, (label, value): (&str, &str), port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {label: value}, "ports": [{"port": port, "targetPort": port}]},
    })
}

fn pod(namespace: &str) -> Result<Value> {
    let arguments = [
        "--prometheus-url=http://prometheus:8080/",
        "--config=/config/rules.yaml",
        "--metrics-relist-interval=5s",
        "--secure-port=6443",
        "--cert-dir=/tmp/certificate",
    ];
    let probe = json!({"path": "/readyz", "port": 6443, "scheme": "HTTPS"});
    Server { name: NAME, label: ("app", NAME), arguments: &arguments, probe, scratch: ("scratch", "/tmp") }
        .pod(namespace)
}

/// To find the pods that a metric is of.
fn own_rights(namespace: &str) -> [Value; 2] {
    let metadata = json!({"namespace": namespace, "name": NAME});
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]});
    let role = json!({"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": [pods]});
    let binding = json!({"apiVersion": RBAC, "kind": "RoleBinding", "metadata": metadata});
    [role, bound(binding, namespace, "Role", NAME)]
}

/// What every server of an API needs: to ask whether its clients may ask, and to know the API server. Named after the namespace
/// of the test.
fn bindings(namespace: &str) -> [Value; 2] {
    let name = format!("{NAME}-{namespace}");
    let delegator = json!({"apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": name}});
    let reader = json!({
        "apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"namespace": "kube-system", "name": name},
    });
    [
        bound(delegator, namespace, "ClusterRole", "system:auth-delegator"),
        bound(reader, namespace, "Role", "extension-apiserver-authentication-reader"),
    ]
}

fn bound(mut binding: Value, namespace: &str, kind: &str, role: &str) -> Value {
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role});
    binding["subjects"] = json!([{"kind": "ServiceAccount", "namespace": namespace, "name": NAME}]);
    binding
}

/// `kind/name`, for kubectl.
fn name_of(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
