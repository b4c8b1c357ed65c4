//! Which changes lead to a look at which gateway, and how many looks there are at once.
//!
//! A gateway's own changes count by generation, labels and annotations: its status is ours. Of its
//! children every change counts, so that drift is put back and a rollout is followed. Each watch
//! recovers by itself; one that is refused does not hold up the others.

use std::fmt::Debug;
use std::future::ready;
use std::sync::Arc;

use futures::stream::select_all;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::api::{Api, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Config, Controller, Predicate, WatchStreamExt, controller, predicates, reflector};
use kube::{Client, CustomResourceExt, Resource};
use serde::de::DeserializeOwned;
use sse_crds::SseGateway;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::health::Readiness;
use crate::notice::chain;
use crate::plan::MANAGED_BY;
use crate::reconcile::{Context, Error, reconcile, retry};

/// A gateway as watched. One that can not be read is still an item, or it would stall the watch of
/// all others (<https://github.com/kube-rs/kube/issues/774>).
pub type Watched = DeserializeGuard<SseGateway>;

/// Most looks at once, in each watched scope.
const AT_ONCE: u16 = 8;

/// Where gateways are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespace(String),
}

impl Scope {
    /// The scopes of a list of namespaces; of an empty one, the whole cluster.
    #[must_use]
    pub fn of(namespaces: &[String]) -> Vec<Self> {
        let mut names: Vec<_> =
            namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return vec![Self::Cluster];
        }
        names.into_iter().map(|name| Self::Namespace(name.to_owned())).collect()
    }

    fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(name) => Api::namespaced(client, name),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster => f.write_str("all namespaces"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
        }
    }
}

/// Reconciles until `stop`, then finishes what was begun.
pub async fn run(
    context: Arc<Context>,
    scopes: Vec<Scope>,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) {
    let controllers = scopes.into_iter().map(|scope| one(&context, &scope, &readiness, &stop).boxed());
    select_all(controllers)
        .for_each(|outcome| {
            match outcome {
                Ok((gateway, action)) => debug!(%gateway, ?action, "Reconciled."),
                Err(controller::Error::ObjectNotFound(gone)) => {
                    context.memory.forget(&(gone.namespace.clone().unwrap_or_default(), gone.name.clone()));
                }
                // Told in full, with the time of the retry, where it happened.
                Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(error) => warn!(error = chain(&error), "The controller stumbled."),
            }
            ready(())
        })
        .await;
}

type Outcome =
    Result<(reflector::ObjectRef<Watched>, controller::Action), controller::Error<Error, watcher::Error>>;

fn one(
    context: &Arc<Context>,
    scope: &Scope,
    readiness: &Arc<Readiness>,
    stop: &CancellationToken,
) -> impl Stream<Item = Outcome> + Send + use<> {
    let client = &context.client;
    let (reader, writer) = reflector::store();
    // The pause comes after the decoding, because each try begins with an event that is no object, and
    // would count as a success.
    let gateways = watcher(scope.api::<Watched>(client.clone()), watcher::Config::default())
        .inspect(observe(scope.to_string(), readiness.clone()))
        .reflect(writer)
        .applied_objects()
        .default_backoff()
        .predicate_filter(
            predicates::generation.combine(predicates::labels).combine(predicates::annotations),
            kube::runtime::PredicateConfig::default(),
        );
    Controller::for_stream(unbroken(gateways), reader)
        .with_config(Config::default().concurrency(AT_ONCE))
        .owns_stream(children::<Deployment>(client, scope))
        .owns_stream(children::<Service>(client, scope))
        .owns_stream(children::<ServiceAccount>(client, scope))
        .owns_stream(children::<ConfigMap>(client, scope))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile, |object, error, context| retry(&object, error, &context), context.clone())
}

/// Every change of our children of one kind.
fn children<K>(
    client: &Client,
    scope: &Scope,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGED_BY}"));
    let changes = watcher(scope.api::<PartialObjectMeta<K>>(client.clone()), ours)
        .inspect(|event| {
            if let Err(error) = event {
                warn!(kind = %K::kind(&()), error = broken(error), "A watch broke and is taken up again.");
            }
        })
        .touched_objects()
        .default_backoff();
    unbroken(changes)
}

/// A watch without its errors, which it has logged and paused for by itself: the controller would
/// pause all its watches for the error of one.
fn unbroken<K>(
    watch: impl Stream<Item = Result<K, watcher::Error>>,
) -> impl Stream<Item = Result<K, watcher::Error>> {
    watch.filter(|item| ready(item.is_ok()))
}

/// Follows the watch of the gateways in the operator's readiness.
fn observe<K>(scope: String, readiness: Arc<Readiness>) -> impl FnMut(&watcher::Result<Event<K>>) {
    move |event| match event {
        Ok(Event::InitDone) => readiness.listed(&scope),
        Ok(_) => {}
        Err(error) => {
            warn!(scope, error = broken(error), "The watch of SseGateways broke and is taken up again.");
            if let watcher::Error::InitialListFailed(error) = error {
                readiness.failed(&scope, unlisted(&scope, error));
            }
        }
    }
}

/// Why a watch broke, without the whole answer that kube prints.
fn broken(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(cause) => format!("the list failed: {}", chain(cause)),
        watcher::Error::WatchStartFailed(cause) | watcher::Error::WatchFailed(cause) => chain(cause),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// Why the gateways of a scope can not be listed.
fn unlisted(scope: &str, error: &kube::Error) -> String {
    let name = SseGateway::crd_name();
    match error {
        kube::Error::Api(status) if status.is_not_found() => {
            format!(
                "CustomResourceDefinition {name} is not installed: apply the output of `sse-operator crd`"
            )
        }
        error => format!("SseGateways in {scope} can not be listed: {}", chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_of_namespaces_is_the_whole_cluster() {
        assert_eq!(Scope::of(&[]), [Scope::Cluster]);
        assert_eq!(Scope::of(&[String::new()]), [Scope::Cluster]);
        let names = [" b".to_owned(), "a".to_owned(), "b".to_owned()];
        assert_eq!(Scope::of(&names), [Scope::Namespace("a".into()), Scope::Namespace("b".into())]);
    }

    #[test]
    fn a_missing_definition_is_named_and_a_missing_right_is_told() {
        let status = |reason: &str| kube::core::Status::failure("cannot list ssegateways", reason).boxed();
        let missing = unlisted("all namespaces", &kube::Error::Api(status("NotFound")));
        assert!(
            missing.contains("CustomResourceDefinition ssegateways.ssegateway.io is not installed"),
            "{missing}"
        );
        let forbidden = unlisted("namespace a", &kube::Error::Api(status("Forbidden")));
        assert_eq!(forbidden, "SseGateways in namespace a can not be listed: cannot list ssegateways");
    }
}
