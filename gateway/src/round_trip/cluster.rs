//! The API server as a pod with a service account reaches it: the few requests that a round trip needs.

use std::fs;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sse_otlp::https::{self, HttpsError};

use crate::config::GatewayName;

const SERVER: &str = "https://kubernetes.default.svc";
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why the API server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("this is no pod with a service account: {0}")]
    NoAccount(std::io::Error),
    #[error("this pod does not know itself: POD_NAME and POD_UID are to be set")]
    NoPod,
    #[error("the API server: {0}")]
    Https(#[from] HttpsError),
    #[error("the API server refuses to {verb} {path}: {status} {message}")]
    Refused { verb: Method, path: String, status: StatusCode, message: String },
}

impl From<reqwest::Error> for ClusterError {
    fn from(error: reqwest::Error) -> Self {
        Self::Https(error.into())
    }
}

/// One namespace of it, in which this pod owns what it makes.
pub struct Cluster {
    client: Client,
    token: String,
    name: GatewayName,
    owner: Value,
}

impl Cluster {
    /// The cluster that this pod is in, and the gateway that it will have there.
    ///
    /// # Errors
    ///
    /// When this is no pod that may talk to the API server.
    pub fn own(name: &GatewayName) -> Result<Self, ClusterError> {
        let read = |file: &str| fs::read(format!("{ACCOUNT}/{file}")).map_err(ClusterError::NoAccount);
        let itself = |name: &str| std::env::var(name).map_err(|_| ClusterError::NoPod);
        Ok(Self {
            client: https::client(Some(&read("ca.crt")?))?,
            token: String::from_utf8_lossy(&read("token")?).trim().to_owned(),
            name: name.clone(),
            owner: json!({"apiVersion": "v1", "kind": "Pod", "name": itself("POD_NAME")?, "uid": itself("POD_UID")?}),
        })
    }

    /// A Secret with one key.
    pub async fn create_secret(&self, name: &str, key: &str, value: &str) -> Result<(), ClusterError> {
        let secret = json!({"metadata": self.metadata(name), "stringData": {key: value}});
        self.ask(Method::POST, &self.secrets(), Some(&secret)).await.map(drop)
    }

    /// The `SseGateway` with this spec.
    pub async fn create_gateway(&self, spec: &Value) -> Result<(), ClusterError> {
        let gateway = json!({
            "apiVersion": "ssegateway.io/v1alpha1", "kind": "SseGateway",
            "metadata": self.metadata(&self.name.name), "spec": spec,
        });
        self.ask(Method::POST, &self.gateways(), Some(&gateway)).await.map(drop)
    }

    /// Where the gateway is if it is ready, else why it is not.
    pub async fn readiness(&self) -> Result<Result<String, String>, ClusterError> {
        let gateway = self.ask(Method::GET, &self.gateway(), None).await?.unwrap_or_default();
        Ok(readiness(&gateway))
    }

    /// Deletes it; with its pods, before it is gone.
    pub async fn delete_gateway(&self) -> Result<(), ClusterError> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"});
        self.ask(Method::DELETE, &self.gateway(), Some(&options)).await.map(drop)
    }

    /// Whether it is not there any more.
    pub async fn is_gone(&self) -> Result<bool, ClusterError> {
        Ok(self.ask(Method::GET, &self.gateway(), None).await?.is_none())
    }

    pub async fn delete_secret(&self, name: &str) -> Result<(), ClusterError> {
        self.ask(Method::DELETE, &format!("{}/{name}", self.secrets()), None).await.map(drop)
    }

    fn metadata(&self, name: &str) -> Value {
        json!({"name": name, "namespace": self.name.namespace, "ownerReferences": [self.owner]})
    }

    fn gateways(&self) -> String {
        format!("/apis/ssegateway.io/v1alpha1/namespaces/{}/ssegateways", self.name.namespace)
    }

    fn gateway(&self) -> String {
        format!("{}/{}", self.gateways(), self.name.name)
    }

    fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.name.namespace)
    }

    /// The answer, or `None` when there is no such object.
    async fn ask(
        &self,
        verb: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>, ClusterError> {
        let mut request =
            self.client.request(verb.clone(), format!("{SERVER}{path}")).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status();
        let answer: Value = serde_json::from_slice(&https::body(response).await?).unwrap_or_default();
        match status {
            status if status.is_success() => Ok(Some(answer)),
            StatusCode::NOT_FOUND if verb != Method::POST => Ok(None),
            status => {
                let message = answer["message"].as_str().unwrap_or_default().to_owned();
                Err(ClusterError::Refused { verb, path: path.into(), status, message })
            }
        }
    }
}

/// Where it is, or what its status tells that is not as it should be.
fn readiness(gateway: &Value) -> Result<String, String> {
    let conditions = gateway["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let is_true = |condition: &&Value| condition["status"] == "True";
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").filter(is_true);
    let is_current =
        ready.is_some_and(|ready| ready["observedGeneration"] == gateway["metadata"]["generation"]);
    match gateway["status"]["url"].as_str() {
        Some(url) if is_current => Ok(url.into()),
        _ if conditions.is_empty() => Err("the operator has told nothing of it".into()),
        _ if ready.is_some() => Err("its present generation was not looked at yet".into()),
        _ => {
            let wrong = conditions.iter().filter(|condition| !is_true(condition)).map(|condition| {
                let word = |field: &str| condition[field].as_str().unwrap_or_default();
                format!("{} is {}: {}: {}", word("type"), word("status"), word("reason"), word("message"))
            });
            Err(wrong.collect::<Vec<_>>().join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_ready_when_its_present_generation_is() {
        let gateway = |generation: u32, status: &str| {
            json!({
                "metadata": {"generation": 2},
                "status": {"url": "http://live", "conditions": [
                    {"type": "Available", "status": "True"},
                    {"type": "Ready", "status": status, "observedGeneration": generation, "reason": "RollingOut", "message": "0 ready"},
                    {"type": "NatsConnected", "status": status, "reason": "Disconnected", "message": "no NATS"},
                ]},
            })
        };
        assert_eq!(readiness(&gateway(2, "True")), Ok("http://live".into()));
        assert_eq!(
            readiness(&gateway(1, "True")),
            Err("its present generation was not looked at yet".into())
        );
        let told = "Ready is False: RollingOut: 0 ready; NatsConnected is False: Disconnected: no NATS";
        assert_eq!(readiness(&gateway(2, "False")), Err(told.into()));
        assert_eq!(readiness(&json!({})), Err("the operator has told nothing of it".into()));
    }
}
