//! A real cluster: the operator installed by Helm once, a namespace for each test, the logs of all
//! pods when one fails.
//!
//! `KUBECONFIG` names the cluster, whose images were loaded before; `make test` sees to both.

mod logs;
pub mod metrics;
pub mod monitor;
mod tools;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace as KubeNamespace, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client as KubeClient, ResourceExt};
use serde_json::{Value, json};
use sse_crds::SseGateway;
use tokio::sync::{OnceCell, RwLock, watch};

use crate::client::{Client, Door};
use crate::eventually;
use crate::jwt::KEY;
use crate::secrets;

/// Where the operator and its NATS are installed.
pub const SYSTEM: &str = "sse-system";
/// The release, and so the name of the operator's objects.
pub const RELEASE: &str = "sse-gateway";
/// NATS as pods reach it.
pub const NATS: &str = "nats://sse-gateway-nats.sse-system.svc:4222";

pub(crate) use tools::command;
pub use tools::{CHART, apply, install, install_chart, install_with, kubectl, manifest, prefix, run, values};

static INSTALLED: OnceCell<()> = OnceCell::const_new();
/// Tests that stop what others use hold this alone.
static PEACE: RwLock<()> = RwLock::const_new(());

/// A namespace of one test.
pub struct Namespace {
    pub name: String,
    pub client: KubeClient,
}

/// Runs a test in a namespace of its own, with the operator installed. At its end no log of a gateway or an operator has
/// a [secret](secrets) in it. What a failure needs to be understood is kept under `target/e2e-logs`.
///
/// # Errors
///
/// With the test's error, and where its logs are.
pub async fn in_namespace<F>(test: &str, body: F) -> Result<()>
where
    F: AsyncFnOnce(&Namespace) -> Result<()>,
{
    let _peace = PEACE.read().await;
    observed(test, body).await
}

/// The same, while no other test runs: for one that stops what others use.
///
/// # Errors
///
/// With the test's error, and where its logs are.
pub async fn alone_in_namespace<F>(test: &str, body: F) -> Result<()>
where
    F: AsyncFnOnce(&Namespace) -> Result<()>,
{
    let _alone = PEACE.write().await;
    observed(test, body).await
}

async fn observed<F>(test: &str, body: F) -> Result<()>
where
    F: AsyncFnOnce(&Namespace) -> Result<()>,
{
    INSTALLED.get_or_try_init(|| install("helm")).await?;
    let namespace = Namespace::create(test).await?;
    let result = match body(&namespace).await {
        Ok(()) => logs::search(&namespace.name).await,
        failed => failed,
    };
    match result {
        Ok(()) => namespace.delete().await,
        Err(error) => {
            let logs = logs::keep(&namespace.name).await;
            // Gateways of a failed test would go on using NATS.
            namespace.delete().await?;
            Err(error.context(format!("{test}: logs are in {}", logs.display())))
        }
    }
}

impl Namespace {
    /// Makes a namespace that enforces the restricted pod security profile, with the issuer's key.
    async fn create(test: &str) -> Result<Self> {
        let client = KubeClient::try_default().await.context("KUBECONFIG must name a cluster")?;
        let name = format!("{test}-{:04x}", rand::random::<u16>());
        let namespace: KubeNamespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted"}}}))?;
        Api::<KubeNamespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        let namespace = Self { name, client };
        secrets::file(KEY);
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": "jwt"}, "stringData": {"key": KEY}}))?;
        namespace.api::<Secret>().create(&PostParams::default(), &secret).await?;
        Ok(namespace)
    }

    async fn delete(&self) -> Result<()> {
        let namespaces = Api::<KubeNamespace>::all(self.client.clone());
        namespaces.delete(&self.name, &kube::api::DeleteParams::default()).await?;
        Ok(())
    }

    /// Objects of a kind in this namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Declares a gateway and waits until it is ready, by the very command that a person would use.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn gateway(&self, name: &str, patch: Value) -> Result<()> {
        apply(&manifest(&self.name, name, patch)).await?;
        self.wait_ready(name).await
    }

    /// `kubectl wait --for=condition=Ready`.
    ///
    /// # Errors
    ///
    /// When the gateway is not ready in time.
    pub async fn wait_ready(&self, name: &str) -> Result<()> {
        let resource = format!("ssegateway/{name}");
        kubectl(&["-n", &self.name, "wait", "--for=condition=Ready", "--timeout=90s", &resource])
            .await
            .map(drop)
    }

    /// Waits until a gateway of no replicas has its children.
    ///
    /// # Errors
    ///
    /// When it does not have them in time.
    pub async fn resting(&self, name: &str) -> Result<()> {
        let resource = format!("ssegateway/{name}");
        let rolled_out = "--for=jsonpath={.status.conditions[?(@.type==\"Progressing\")].reason}=RolledOut";
        kubectl(&["-n", &self.name, "wait", rolled_out, "--timeout=60s", &resource]).await.map(drop)
    }

    /// Merges a patch into the spec of a gateway; returns its new generation.
    ///
    /// # Errors
    ///
    /// When the API server refuses it.
    pub async fn patch(&self, name: &str, spec: Value) -> Result<i64> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let gateway = self.api::<SseGateway>().patch(name, &PatchParams::default(), &patch).await?;
        gateway.metadata.generation.context("a generation")
    }

    /// Waits until a generation of a gateway is rolled out and ready.
    ///
    /// # Errors
    ///
    /// When it is not in time.
    pub async fn rolled_out(&self, name: &str, generation: i64) -> Result<()> {
        eventually("the rollout", Duration::from_secs(90), || async {
            let gateway = self.api::<SseGateway>().get(name).await?;
            let status = gateway.status.context("a status")?;
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready").context("a condition")?;
            ensure!(
                ready.observed_generation == Some(generation) && ready.status == "True",
                "{}: {} {} at generation {:?}",
                ready.status,
                ready.reason,
                ready.message,
                ready.observed_generation
            );
            Ok(())
        })
        .await
    }

    /// The status of a gateway's condition: (status, reason, message).
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn condition(&self, name: &str, kind: &str) -> Result<(String, String, String)> {
        let gateway = self.api::<SseGateway>().get(name).await?;
        let conditions = gateway.status.map(|status| status.conditions).unwrap_or_default();
        let condition = conditions.into_iter().find(|c| c.type_ == kind).context("no such condition")?;
        Ok((condition.status, condition.reason, condition.message))
    }

    /// Names of the gateway's pods that serve: ready, and not about to go.
    ///
    /// # Errors
    ///
    /// When the API server does not answer.
    pub async fn ready_pods(&self, gateway: &str) -> Result<Vec<String>> {
        let labels = format!("app.kubernetes.io/name=sse-gateway,app.kubernetes.io/instance={gateway}");
        let pods = self.api::<Pod>().list(&ListParams::default().labels(&labels)).await?;
        let serves = |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
            let ready =
                conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
            ready && pod.metadata.deletion_timestamp.is_none()
        };
        Ok(pods.items.iter().filter(|pod| serves(pod)).map(ResourceExt::name_any).collect())
    }

    /// A client of one certain pod.
    #[must_use]
    pub fn client_of(&self, pod: &str, tenant: &str, user: &str) -> Client {
        Client::new(Door::Pod(Box::new(self.api()), pod.to_owned()), tenant, user)
    }

    /// A client of any pod that is ready.
    ///
    /// # Errors
    ///
    /// When there is none in time.
    pub async fn client(&self, gateway: &str, tenant: &str, user: &str) -> Result<Client> {
        eventually("a ready pod", Duration::from_mins(1), || async {
            let pods = self.ready_pods(gateway).await?;
            match pods.first() {
                Some(pod) => Ok(self.client_of(pod, tenant, user)),
                None => bail!("no pod of {gateway} is ready"),
            }
        })
        .await
    }

    /// Waits until a pod is gone.
    ///
    /// # Errors
    ///
    /// When it is still there after a minute.
    pub async fn gone(&self, pod: &str) -> Result<()> {
        eventually("the pod gone", Duration::from_mins(1), || async {
            let found = self.api::<Pod>().get_opt(pod).await?;
            ensure!(found.is_none(), "{pod} is still there");
            Ok(())
        })
        .await
    }

    /// Reads events of a user, with a new stream at the cursor whenever one ends, until `last` came.
    /// Counts in `served` the streams that brought an event.
    ///
    /// # Errors
    ///
    /// When `last` does not come within three minutes, or a gap is told.
    pub async fn follow(
        &self,
        gateway: &str,
        user: &str,
        cursor: String,
        last: &str,
        served: &watch::Sender<usize>,
    ) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        let mut cursor = cursor;
        let mut backoff = tokio::time::interval(Duration::from_millis(200));
        let follow = async {
            loop {
                backoff.tick().await;
                let stream = async { self.client(gateway, "acme", user).await?.open(&cursor).await };
                // A pod that is about to go, or NATS away: the client comes back, as browsers do.
                let Ok(mut stream) = stream.await else { continue };
                let mut first = true;
                while let Ok(Some(event)) = stream.next(Duration::from_secs(5)).await {
                    ensure!(event.name != "reset", "a gap was told: {}", event.data);
                    seen.push(event.data);
                    served.send_modify(|served| *served += usize::from(first));
                    first = false;
                    if seen.last().is_some_and(|data| data == last) {
                        return Ok(());
                    }
                }
                cursor.clone_from(&stream.last_id);
            }
        };
        match tokio::time::timeout(Duration::from_mins(3), follow).await {
            Ok(result) => result.map(|()| seen),
            Err(_) => bail!("{last:?} did not come; {} did, the last {:?}", seen.len(), seen.last()),
        }
    }
}
