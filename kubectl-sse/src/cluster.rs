//! The API server: gateways, their pods, and the doors to them.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sse_crds::{SseGateway, SseGatewaySpec};

use crate::arguments::ClusterArguments;
use crate::door::Door;

/// The API server has this long for an answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Ports of a gateway's pod.
const HTTP_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9090;

/// A cluster, and the namespace that is meant where none is named.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    /// # Errors
    ///
    /// When there is no such kubeconfig or context.
    pub async fn connect(arguments: &ClusterArguments) -> Result<Self> {
        let options =
            KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &arguments.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).context("--kubeconfig")?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await?
            }
            None if options.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await.context("no kubeconfig")?,
        };
        config.connect_timeout = Some(DEADLINE);
        // A stream through a port-forward may be silent; whoever reads it has a deadline.
        config.read_timeout = None;
        let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self { client: Client::try_from(config)?, namespace })
    }

    /// Objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// One gateway of the namespace.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub async fn gateway(&self, name: &str) -> Result<SseGateway> {
        let found = answered("the gateway", self.api::<SseGateway>(&self.namespace).get_opt(name)).await?;
        found.ok_or_else(|| anyhow!("there is no SseGateway {name} in namespace {}", self.namespace))
    }

    /// The gateway of that name, or all of the namespace, or all that there are.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn gateways(&self, name: Option<&str>, everywhere: bool) -> Result<Vec<SseGateway>> {
        if let Some(name) = name {
            return Ok(vec![self.gateway(name).await?]);
        }
        let api = if everywhere { Api::all(self.client.clone()) } else { self.api(&self.namespace) };
        let found = answered("the gateways", api.list(&ListParams::default())).await?.items;
        match (found.is_empty(), everywhere) {
            (false, _) => Ok(found),
            (true, true) => bail!("there is no SseGateway in this cluster"),
            (true, false) => bail!("there is no SseGateway in namespace {}", self.namespace),
        }
    }

    /// The pods of a gateway, by name.
    ///
    /// # Errors
    ///
    /// When they can not be listed.
    pub async fn pods(&self, gateway: &SseGateway) -> Result<Vec<Pod>> {
        let labels = ListParams::default().labels(&selector(&gateway.name_any()));
        let api = self.api::<Pod>(&namespace_of(gateway));
        let mut pods = answered("the pods", api.list(&labels)).await?.items;
        pods.sort_by_key(ResourceExt::name_any);
        Ok(pods)
    }

    /// The way to a gateway: the URL, or a pod that serves, and rather another than the last.
    ///
    /// # Errors
    ///
    /// When no pod serves.
    pub async fn way(
        &self,
        gateway: &SseGateway,
        url: Option<&Door>,
        last: Option<&str>,
    ) -> Result<(Door, Option<String>)> {
        if let Some(url) = url {
            return Ok((url.clone(), None));
        }
        let pods = self.pods(gateway).await?;
        let serving: Vec<_> = pods.iter().filter(|pod| serves(pod)).map(ResourceExt::name_any).collect();
        let other = serving.iter().find(|pod| Some(pod.as_str()) != last).or(serving.first());
        let pod = other.with_context(|| format!("no pod of {} is ready", gateway.name_any()))?;
        Ok((self.public_door(gateway, pod), Some(pod.clone())))
    }

    /// The public port of a pod, by port-forward.
    fn public_door(&self, gateway: &SseGateway, pod: &str) -> Door {
        let tls = !gateway.spec.tls.secret_name.is_empty();
        Door::of_pod(self.api(&namespace_of(gateway)), pod, HTTP_PORT, tls)
    }

    /// The admin port of a pod, by port-forward.
    pub fn admin_door(&self, namespace: &str, pod: &str) -> Door {
        Door::of_pod(self.api(namespace), pod, ADMIN_PORT, false)
    }
}

/// An answer of the API server, which has to come in time.
///
/// # Errors
///
/// When it does not, or is an error.
pub async fn answered<T, F>(what: &str, question: F) -> Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let answer = tokio::time::timeout(DEADLINE, question).await;
    let answer = answer.with_context(|| format!("{what}: the API server did not answer in time"))?;
    answer.with_context(|| format!("{what} can not be read"))
}

/// Reads an object that may not be there, or whose kind the cluster may not have.
///
/// # Errors
///
/// When the API server does not answer, or says that it may not be read.
pub async fn optional<K>(api: Api<K>, name: &str) -> Result<Option<K>>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    answered(name, api.get_opt(name)).await
}

/// The labels by which the operator selects the pods of a gateway.
fn selector(gateway: &str) -> String {
    format!(
        "app.kubernetes.io/instance={gateway},app.kubernetes.io/name=sse-gateway,app.kubernetes.io/component=gateway"
    )
}

/// The gateway that a pod is of.
pub fn gateway_of(pod: &Pod) -> Option<&str> {
    let label = |name: &str| pod.labels().get(name).map(String::as_str);
    let ours = label("app.kubernetes.io/name") == Some("sse-gateway")
        && label("app.kubernetes.io/component") == Some("gateway");
    label("app.kubernetes.io/instance").filter(|_| ours)
}

/// The namespace of a gateway that came from the API server.
pub fn namespace_of(gateway: &SseGateway) -> String {
    gateway.namespace().unwrap_or_default()
}

/// Whether a pod serves: it is ready, and not about to go.
pub fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

/// What a path of the gateway's file is in the resource.
pub fn in_spec(path: &str) -> String {
    if path.starts_with("spec.") { path.to_owned() } else { format!("spec.{path}") }
}

/// How many pods there should be.
pub fn wanted(spec: &SseGatewaySpec) -> u32 {
    spec.autoscaling.as_ref().map_or(spec.replicas, |autoscaling| autoscaling.min_replicas)
}
