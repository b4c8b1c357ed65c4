//! Which changes lead to a look at which gateway, and how many looks there are at once.
//!
//! A gateway's own changes count by generation, labels and annotations: its status is ours. Of its
//! children every change counts, so that drift is put back and a rollout is followed. Each watch
//! recovers by itself; one that is refused does not hold up the others.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::ready;
use std::hash::Hash;
use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, select_all};
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Config, Controller, Predicate, WatchStreamExt, controller, predicates, reflector};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use sse_crds::SseGateway;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::apis::{LOOK_AGAIN, is_missing};
use crate::cache::{self, Writers};
use crate::health::Readiness;
use crate::memory::jittered;
use crate::notice::chain;
use crate::pause::Short;
use crate::plan::{MANAGED_BY, Optional};
use crate::reconcile::{Context, reconcile};

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

    /// Objects of a kind in the scope.
    pub fn api<K>(&self, client: Client) -> Api<K>
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
    scopes: Vec<(Scope, Writers)>,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) {
    let (mut controllers, mut pods) = (Vec::new(), Vec::new());
    for (scope, writers) in scopes {
        pods.push(follow_pods(&context, &scope, writers.pods));
        controllers
            .push(one(&context, &scope, (writers.gateways, writers.deployments), &readiness, &stop).boxed());
    }
    let looks = select_all(controllers).for_each(|outcome| {
        match outcome {
            Ok((gateway, action)) => debug!(%gateway, ?action, "Reconciled."),
            Err(controller::Error::ObjectNotFound(gone)) => {
                let key = (gone.namespace.clone().unwrap_or_default(), gone.name.clone());
                context.memory.forget(&key);
                context.changes.forget(&key);
                context.rollouts.withdraw(&key);
            }
            Err(controller::Error::ReconcilerFailed(never, _)) => match never {},
            Err(error) => warn!(error = chain(&error), "The controller stumbled."),
        }
        ready(())
    });
    tokio::select! {
        () = looks => {}
        _ = join_all(pods) => {}
    }
}

type Outcome =
    Result<(ObjectRef<Watched>, controller::Action), controller::Error<Infallible, watcher::Error>>;

fn one(
    context: &Arc<Context>,
    scope: &Scope,
    (gateways, deployments): (Writer<Watched>, Writer<Deployment>),
    readiness: &Arc<Readiness>,
    stop: &CancellationToken,
) -> impl Stream<Item = Outcome> + Send + use<> {
    let client = &context.client;
    let reader = gateways.as_reader();
    // The pause comes after the decoding, because each try begins with an event that is no object, and
    // would count as a success.
    let gateways = watcher(scope.api::<Watched>(client.clone()), watcher::Config::default())
        .inspect(warn_when_broken("SseGateway"))
        .reflect(gateways)
        .applied_objects()
        .backoff(Short::default())
        .predicate_filter(
            predicates::generation.combine(predicates::labels).combine(predicates::annotations),
            kube::runtime::PredicateConfig::default(),
        );
    let optional = |api: Optional| optional_children(context.clone(), scope.clone(), api);
    Controller::for_stream(unbroken(gateways), reader)
        .with_config(Config::default().concurrency(AT_ONCE))
        .owns_stream(known_deployments(context, scope, deployments, readiness))
        .owns_stream(children::<Service>(context, scope, readiness))
        .owns_stream(children::<ServiceAccount>(context, scope, readiness))
        .owns_stream(children::<ConfigMap>(context, scope, readiness))
        .owns_stream(children::<NetworkPolicy>(context, scope, readiness))
        .owns_stream(children::<PodDisruptionBudget>(context, scope, readiness))
        .owns_stream(children::<HorizontalPodAutoscaler>(context, scope, readiness))
        .owns_stream(children::<Ingress>(context, scope, readiness))
        .owns_stream_with(optional(Optional::HttpRoute), Optional::HttpRoute.resource())
        .owns_stream_with(optional(Optional::PodMonitor), Optional::PodMonitor.resource())
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile, |_, never, _| match *never {}, context.clone())
}

/// Every change of our children of one kind.
fn children<K>(
    context: &Context,
    scope: &Scope,
    readiness: &Arc<Readiness>,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (known, writer) = reflector::store();
    let changes = watcher(scope.api::<PartialObjectMeta<K>>(context.client.clone()), ours())
        .modify(|child| cache::trim_child(&mut child.metadata))
        .inspect(tell_refusal(&K::kind(&()), scope, readiness))
        .inspect(context.changes.of(told_status_alone(known, ())))
        .reflect(writer)
        .touched_objects()
        .default_backoff();
    unbroken(changes)
}

/// Every change of our children of a kind whose API the cluster may lack: watched while it is there. The
/// operator is as ready without them.
fn optional_children(
    context: Arc<Context>,
    scope: Scope,
    api: Optional,
) -> impl Stream<Item = Result<PartialObjectMeta<DynamicObject>, watcher::Error>> + Send {
    let watches = stream::repeat(()).then(move |()| {
        let (context, scope) = (context.clone(), scope.clone());
        async move {
            until_served(&context, api).await;
            watch_while_served(context, &scope, api)
        }
    });
    unbroken(watches.flatten())
}

async fn until_served(context: &Context, api: Optional) {
    while !matches!(context.apis.serve(&context.client, api).await, Ok(true)) {
        sleep(jittered(LOOK_AGAIN)).await;
    }
}

/// Ends when the API is gone.
fn watch_while_served(
    context: Arc<Context>,
    scope: &Scope,
    api: Optional,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<DynamicObject>>> + Send + use<> {
    let (client, resource) = (context.client.clone(), api.resource());
    let objects = match scope {
        Scope::Cluster => Api::<PartialObjectMeta<DynamicObject>>::all_with(client, &resource),
        Scope::Namespace(name) => Api::namespaced_with(client, name, &resource),
    };
    let writer = Writer::new(resource.clone());
    watcher(objects, ours())
        .modify(|child| cache::trim_child(&mut child.metadata))
        .inspect(warn_when_broken(api.kind()))
        .inspect(context.changes.of_optional(told_status_alone(writer.as_reader(), resource)))
        .reflect(writer)
        .touched_objects()
        .default_backoff()
        .take_while(move |item| {
            let gone = item.as_ref().is_err_and(found_nothing);
            if gone {
                context.apis.missing(api);
            }
            ready(!gone)
        })
}

fn found_nothing(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause)) = error else {
        return false;
    };
    is_missing(cause)
}

/// Whether a child differs from what is known of it in its status alone.
fn told_status_alone<K>(known: Store<K>, kind: K::DynamicType) -> impl Fn(&K) -> bool
where
    K: Resource<DynamicType: Clone + Eq + Hash> + Clone + 'static,
{
    move |now| {
        let before = known.get(&ObjectRef::from_obj_with(now, kind.clone()));
        before.is_some_and(|before| cache::differ_in_version_alone(before.meta(), now.meta()))
    }
}

/// The same of the Deployments, which are kept with their status.
fn known_deployments(
    context: &Context,
    scope: &Scope,
    writer: Writer<Deployment>,
    readiness: &Arc<Readiness>,
) -> impl Stream<Item = Result<Deployment, watcher::Error>> + Send + use<> {
    let known = writer.as_reader();
    let only_progress = move |now: &Deployment| {
        let before = known.get(&ObjectRef::from_obj(now));
        before.is_some_and(|before| cache::differ_in_status_alone(&before, now))
    };
    let changes = watcher(scope.api::<Deployment>(context.client.clone()), ours())
        .modify(cache::trim_deployment)
        .inspect(tell_refusal("Deployment", scope, readiness))
        .inspect(context.changes.of(only_progress))
        .reflect(writer)
        .touched_objects()
        .default_backoff();
    unbroken(changes)
}

/// Keeps the pods known. They lead to no look: the gateway is asked at its own pace.
fn follow_pods(
    context: &Context,
    scope: &Scope,
    writer: Writer<Pod>,
) -> impl Future<Output = ()> + Send + use<> {
    let selected = watcher::Config::default().labels(cache::PODS);
    watcher(scope.api::<Pod>(context.client.clone()), selected)
        .modify(cache::trim_pod)
        .inspect(warn_when_broken("Pod"))
        .reflect(writer)
        .default_backoff()
        .for_each(|_| ready(()))
}

fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGED_BY}"))
}

/// Follows a watch of children in the operator's readiness: without them it can not work.
fn tell_refusal<K>(
    kind: &str,
    scope: &Scope,
    readiness: &Arc<Readiness>,
) -> impl FnMut(&watcher::Result<Event<K>>) + use<K> {
    let (about, readiness) = (format!("{kind}s in {scope}"), readiness.clone());
    let mut warn = warn_when_broken(kind);
    move |event| {
        match event {
            Ok(Event::InitDone) => readiness.set(&about, None),
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) => {
                readiness.set(&about, Some(format!("{about} can not be listed: {}", status.message)));
            }
            _ => {}
        }
        warn(event);
    }
}

fn warn_when_broken<K>(kind: &str) -> impl FnMut(&watcher::Result<Event<K>>) + use<K> {
    let kind = kind.to_owned();
    move |event| {
        if let Err(error) = event {
            warn!(kind, error = broken(error), "A watch broke and is taken up again.");
        }
    }
}

/// A watch without its errors, which it has logged and paused for by itself: the controller would
/// pause all its watches for the error of one.
fn unbroken<K>(
    watch: impl Stream<Item = Result<K, watcher::Error>>,
) -> impl Stream<Item = Result<K, watcher::Error>> {
    watch.filter(|item| ready(item.is_ok()))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_child_whose_status_alone_was_told_is_as_it_was() {
        let route = |name: &str, manager: &str, subresource: &str| -> PartialObjectMeta<DynamicObject> {
            let entry = json!({"manager": manager, "subresource": subresource});
            let mut route: PartialObjectMeta<DynamicObject> = serde_json::from_value(json!({
                "metadata": {"namespace": "demo", "name": name, "managedFields": [entry]},
            }))
            .expect("metadata");
            cache::trim_child(&mut route.metadata);
            route
        };
        let resource = Optional::HttpRoute.resource();
        let mut writer = Writer::new(resource.clone());
        let nothing = told_status_alone(writer.as_reader(), resource);
        let known = route("live", "controller", "status");
        assert!(!nothing(&known), "it is new");
        writer.apply_watcher_event(&Event::Apply(known));
        assert!(nothing(&route("live", "another", "status")));
        assert!(!nothing(&route("live", "hand", "")));
        assert!(!nothing(&route("other", "another", "status")));
    }

    #[test]
    fn an_empty_list_of_namespaces_is_the_whole_cluster() {
        assert_eq!(Scope::of(&[]), [Scope::Cluster]);
        assert_eq!(Scope::of(&[String::new()]), [Scope::Cluster]);
        let names = [" b".to_owned(), "a".to_owned(), "b".to_owned()];
        assert_eq!(Scope::of(&names), [Scope::Namespace("a".into()), Scope::Namespace("b".into())]);
    }
}
