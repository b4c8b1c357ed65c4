//! A Prometheus in the cluster, which finds the pods as the `PodMonitors` of operator and chart would tell it to.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Namespace, SYSTEM, apply, kubectl};
use crate::client::Door;
use crate::dashboards::asked::files;
use crate::eventually;
use crate::prometheus::{Prometheus, config};

const NAME: &str = "prometheus";
const INSTANCE: &str = "app_kubernetes_io_instance";
/// Those of the pod of Prometheus, for a gateway's `networkPolicy.metricsFrom`.
pub const LABELS: (&str, &str) = ("app", NAME);

/// A scrape of the pods with this label that have this port.
fn scraped(job: &str, namespace: &str, (label, value): (&str, &str), port: &str) -> Value {
    let meta = |name: &str| json!([format!("__meta_kubernetes_{name}")]);
    json!({
        "job_name": job,
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
        "relabel_configs": [
            {"action": "keep", "source_labels": meta(&format!("pod_label_{label}")), "regex": value},
            {"action": "keep", "source_labels": meta("pod_container_port_name"), "regex": port},
            {"action": "drop", "source_labels": meta("pod_phase"), "regex": "Failed|Succeeded"},
            {"source_labels": meta("namespace"), "target_label": "namespace"},
            {"source_labels": meta("pod_name"), "target_label": "pod"},
            // podTargetLabels: those of gateways alone.
            {"source_labels": ["job", format!("__meta_kubernetes_pod_label_{INSTANCE}")], "regex": "gateways;(.+)",
             "target_label": INSTANCE},
            {"target_label": "job", "replacement": format!("{namespace}/{job}")},
        ],
    })
}

/// Rights to find pods, in one namespace. They are named after the namespace of the test.
fn rights(of: &str, within: &str) -> [Value; 2] {
    let metadata = json!({"namespace": within, "name": format!("{NAME}-{of}")});
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [pods]});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": metadata["name"]},
        "subjects": [{"kind": "ServiceAccount", "namespace": of, "name": NAME}],
    });
    [role, binding]
}

/// A server that tests have in the cluster: a pod with an account and a configuration of its own name.
pub(super) struct Server<'a> {
    pub name: &'a str,
    pub label: (&'a str, &'a str),
    pub arguments: &'a [&'a str],
    /// What tells that it is ready.
    pub probe: Value,
    /// A volume that it may write to, and where.
    pub scratch: (&'a str, &'a str),
}

impl Server<'_> {
    pub fn pod(&self, namespace: &str) -> Result<Value> {
        let Self { name, label: (label, value), arguments, ref probe, scratch: (scratch, path) } = *self;
        let tag = std::env::var("SSE_TAG").context("SSE_TAG must name the images' tag")?;
        Ok(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": {label: value}},
            "spec": {
                "serviceAccountName": name,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": name, "image": format!("localhost/{name}:{tag}"), "imagePullPolicy": "IfNotPresent",
                    "args": arguments,
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                    },
                    "readinessProbe": {"httpGet": probe, "periodSeconds": 1},
                    "volumeMounts": [
                        {"name": "config", "mountPath": "/config"}, {"name": scratch, "mountPath": path},
                    ],
                }],
                "volumes": [{"name": "config", "configMap": {"name": name}}, {"name": scratch, "emptyDir": {}}],
            },
        }))
    }
}

fn pod(namespace: &str) -> Result<Value> {
    let arguments = [
        "--config.file=/config/prometheus.json",
        "--storage.tsdb.path=/data",
        "--web.listen-address=:8080",
        "--enable-feature=exemplar-storage",
    ];
    let probe = json!({"path": "/-/ready", "port": 8080});
    Server { name: NAME, label: LABELS, arguments: &arguments, probe, scratch: ("data", "/data") }
        .pod(namespace)
}

/// Starts it, with the chart's alerts, while `body` runs, and takes its rights away after that.
///
/// # Errors
///
/// With those of `body`, or when it does not start.
pub async fn monitored<F>(namespace: &Namespace, body: F) -> Result<()>
where
    F: AsyncFnOnce(Prometheus) -> Result<()>,
{
    let name = namespace.name.as_str();
    let result = match start(namespace).await {
        Ok(prometheus) => body(prometheus).await,
        Err(error) => Err(error),
    };
    let [role, binding] = ["role", "rolebinding"].map(|kind| format!("{kind}/{NAME}-{name}"));
    kubectl(&["-n", SYSTEM, "delete", "--ignore-not-found", &role, &binding]).await?;
    result
}

async fn start(namespace: &Namespace) -> Result<Prometheus> {
    let name = namespace.name.as_str();
    let jobs = json!([
        scraped("gateways", name, ("app_kubernetes_io_name", "sse-gateway"), "admin"),
        scraped("operators", SYSTEM, ("app_kubernetes_io_component", "operator"), "http"),
    ]);
    let alerts = std::fs::read_to_string(files().join("alerts.yaml"))?;
    let metadata = json!({"namespace": name, "name": NAME});
    let mut items = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {
            "prometheus.json": config("/config/alerts.yaml", &jobs).to_string(), "alerts.yaml": alerts}}),
        pod(name)?,
    ];
    items.extend(rights(name, name));
    items.extend(rights(name, SYSTEM));
    apply(&json!({"apiVersion": "v1", "kind": "List", "items": items})).await?;
    eventually("the pod of Prometheus", Duration::from_secs(30), || async {
        let pod = namespace.api::<Pod>().get(NAME).await?;
        let running = pod.status.and_then(|status| status.phase).is_some_and(|phase| phase == "Running");
        running.then_some(()).context("it does not run")
    })
    .await?;
    let prometheus = Prometheus::at(Door::Pod(Box::new(namespace.api()), NAME.into()));
    prometheus.ready().await?;
    Ok(prometheus)
}
