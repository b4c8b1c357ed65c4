//! Every request to the API server on its way out: counted, and let through only while this operator
//! may make it. A process that was asleep for longer than its Lease held changes nothing any more,
//! though it was in the middle of it.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use hyper::{Method, Request, Uri};
use tower::{BoxError, Layer, Service};

use crate::lease::Tenure;
use crate::metrics::Metrics;

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object, or a list.
    Read,
    Watch,
    Create,
    Patch,
    Update,
    Delete,
    /// Whatever is about the operator's own Lease.
    Lease,
}

impl Verb {
    pub const ALL: [(Self, &str); 7] = [
        (Self::Read, "read"),
        (Self::Watch, "watch"),
        (Self::Create, "create"),
        (Self::Patch, "patch"),
        (Self::Update, "update"),
        (Self::Delete, "delete"),
        (Self::Lease, "lease"),
    ];

    fn of(method: &Method, uri: &Uri) -> Self {
        if uri.path().starts_with("/apis/coordination.k8s.io/") {
            return Self::Lease;
        }
        match *method {
            Method::POST => Self::Create,
            Method::PATCH => Self::Patch,
            Method::PUT => Self::Update,
            Method::DELETE => Self::Delete,
            _ if uri.query().is_some_and(|query| query.split('&').any(|term| term == "watch=true")) => {
                Self::Watch
            }
            _ => Self::Read,
        }
    }

    const fn changes(self) -> bool {
        matches!(self, Self::Create | Self::Patch | Self::Update | Self::Delete)
    }
}

/// What a request is refused with that only the leader may make.
#[derive(Debug, thiserror::Error)]
#[error("this operator does not hold the Lease")]
pub struct NotLeader;

/// Counts requests, and refuses those that change something to an operator that is not the leader.
#[derive(Clone)]
pub struct Gate {
    pub tenure: Arc<Tenure>,
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { inner, gate: self.clone() }
    }
}

#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<S::Future, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let verb = Verb::of(request.method(), request.uri());
        if verb.changes() && !self.gate.tenure.holds() {
            return Either::Right(ready(Err(NotLeader.into())));
        }
        self.gate.metrics.requested(verb);
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use hyper::Response;
    use k8s_openapi::api::core::v1::Service as KubeService;
    use kube::Client;
    use kube::api::{Api, ListParams, Patch, PatchParams, WatchParams};
    use kube::client::{Body, ClientBuilder};
    use serde_json::json;

    use super::*;

    fn client(gate: &Gate) -> Client {
        let server = tower::service_fn(async |_: Request<Body>| {
            let service =
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "items": []});
            let response = Response::builder().body(Body::from(service.to_string().into_bytes()));
            Ok::<_, BoxError>(response.expect("a response"))
        });
        ClientBuilder::new(server, "default").with_layer(gate).build()
    }

    #[tokio::test]
    async fn only_the_leader_changes_anything() {
        let metrics = Arc::<Metrics>::default();
        let patch = |tenure: Tenure| {
            let api = Api::<KubeService>::default_namespaced(client(&Gate {
                tenure: Arc::new(tenure),
                metrics: metrics.clone(),
            }));
            async move {
                api.list(&ListParams::default()).await.expect("reading is for all");
                api.patch("a", &PatchParams::default(), &Patch::Merge(json!({}))).await
            }
        };
        let error = patch(Tenure::default()).await.expect_err("not the leader");
        assert_eq!(crate::notice::chain(&error), "ServiceError: this operator does not hold the Lease");
        patch(Tenure::forever()).await.expect("the leader");
        let text = metrics.exposition();
        assert!(text.contains("sse_operator_api_requests_total{verb=\"read\"} 2\n"), "{text}");
        assert!(text.contains("sse_operator_api_requests_total{verb=\"patch\"} 1\n"), "{text}");
    }

    #[tokio::test]
    async fn a_watch_is_no_read() {
        let metrics = Arc::<Metrics>::default();
        let gate = Gate { tenure: Arc::default(), metrics: metrics.clone() };
        let api = Api::<KubeService>::default_namespaced(client(&gate));
        drop(api.watch(&WatchParams::default(), "0").await);
        assert!(metrics.exposition().contains("sse_operator_api_requests_total{verb=\"watch\"} 1\n"));
    }
}
