//! Which of the APIs that a cluster may lack it has: asked of its discovery, remembered for a while.
//!
//! An API that is installed or removed later is noticed within [`LOOK_AGAIN`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;

use crate::plan::Optional;

/// How long an answer counts.
pub const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Whether the API server found nothing. By its code: where a whole group is unknown, the answer is a text
/// that is no `Status`.
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[derive(Debug, Default)]
pub struct Apis(Mutex<HashMap<Optional, (bool, Instant)>>);

impl Apis {
    /// Whether the cluster serves the API.
    ///
    /// # Errors
    ///
    /// When discovery can not be asked.
    pub async fn serve(&self, client: &Client, api: Optional) -> Result<bool, kube::Error> {
        if let Some(known) = self.known(api, Instant::now()) {
            return Ok(known);
        }
        let served = match client.list_api_group_resources(api.api_version()).await {
            Ok(list) => list.resources.iter().any(|resource| resource.kind == api.kind()),
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(error),
        };
        self.note(api, served, Instant::now());
        Ok(served)
    }

    /// Notes that the API was just found missing, whatever discovery said.
    pub fn missing(&self, api: Optional) {
        self.note(api, false, Instant::now());
    }

    fn known(&self, api: Optional, now: Instant) -> Option<bool> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (served, at) = seen.get(&api)?;
        (now.saturating_duration_since(*at) < LOOK_AGAIN).then_some(*served)
    }

    fn note(&self, api: Optional, served: bool, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(api, (served, now));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stub::Stub;

    const GATEWAY_API: &str = "/apis/gateway.networking.k8s.io/v1";

    fn list(kind: &str) -> serde_json::Value {
        let resource =
            json!({"name": "some", "singularName": "", "namespaced": true, "kind": kind, "verbs": []});
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "g", "resources": [resource]})
    }

    #[tokio::test]
    async fn discovery_is_asked_once_in_a_while() {
        let stub = Stub::default().with(GATEWAY_API, list("HTTPRoute"));
        let (apis, client) = (Apis::default(), stub.client());
        for _ in 0..3 {
            assert!(apis.serve(&client, Optional::HttpRoute).await.expect("an answer"));
            assert!(!apis.serve(&client, Optional::PodMonitor).await.expect("an answer"));
        }
        assert_eq!(stub.sent("GET").len(), 2);
        let later = Instant::now() + LOOK_AGAIN;
        assert_eq!(apis.known(Optional::HttpRoute, later), None);
    }

    #[tokio::test]
    async fn a_group_without_the_kind_is_not_enough() {
        let stub = Stub::default().with(GATEWAY_API, list("Gateway"));
        assert!(!Apis::default().serve(&stub.client(), Optional::HttpRoute).await.expect("an answer"));
    }

    #[tokio::test]
    async fn what_was_found_missing_counts_as_such_for_a_while() {
        let stub = Stub::default().with(GATEWAY_API, list("HTTPRoute"));
        let apis = Apis::default();
        apis.missing(Optional::HttpRoute);
        assert!(!apis.serve(&stub.client(), Optional::HttpRoute).await.expect("an answer"));
    }
}
