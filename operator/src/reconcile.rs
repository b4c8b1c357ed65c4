//! One look at one gateway: plan, apply, observe, tell.
//!
//! Whatever fails on the way, the status is still written from what could be seen, and names it.
//! Children are applied when something else is planned for them, or when something happened to them;
//! at other looks only the pods are asked.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use sse_crds::{SseGateway, SseGatewaySpec, SseGatewayStatus, is_valid_name};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::apis::{Apis, LOOK_AGAIN};
use crate::apply::{self, FIELD_MANAGER, Owner};
use crate::cache::Cache;
use crate::changes::Changes;
use crate::controller::Watched;
use crate::memory::{Applied, Key, Memory, Occasion, jittered};
use crate::metrics::{Failing, Metrics};
use crate::plan::{self, Settings};
use crate::probe::Prober;
use crate::rollouts::{Cause, Rollouts};
use crate::status::{self, Failure, Observation};
use crate::{notice, observe, telemetry};

/// How often the pods are asked for their state.
const POLL: Duration = Duration::from_secs(15);
/// How often a gateway without pods is looked at, though the watches told nothing.
const RESYNC: Duration = Duration::from_mins(10);
/// How often a gateway whose new pods have to wait asks for its turn.
const TURN: Duration = Duration::from_secs(5);
/// No look takes longer: an API server that hangs must not hold one of the few places.
const DEADLINE: Duration = Duration::from_mins(2);

/// What every reconciliation needs.
pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub prober: Prober,
    pub metrics: Arc<Metrics>,
    pub memory: Memory,
    pub cache: Cache,
    pub changes: Arc<Changes>,
    pub rollouts: Rollouts,
    pub apis: Apis,
}

/// Why a gateway is not as declared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    InvalidSpec(String),
    #[error(transparent)]
    Plan(#[from] plan::Error),
    #[error("{source}")]
    Apply { source: apply::Error, occasion: Occasion },
    #[error("{what} could not be read")]
    Observe { what: &'static str, source: kube::Error },
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
    #[error("gave up after {} s", DEADLINE.as_secs())]
    Deadline,
    /// The children were not applied a moment ago, and nothing has changed since.
    #[error("{}", .failure.message)]
    TooEarly { failure: Failure, left: Duration },
}

impl Error {
    /// The reason of the `Ready` condition.
    const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidSpec(_) | Self::Plan(_) => "InvalidSpec",
            Self::Apply { source: apply::Error::NotOurs { .. }, .. } => "ObjectNotOurs",
            Self::Apply { source: apply::Error::MissingApi { .. }, .. } => "MissingApi",
            Self::Apply { source: apply::Error::Api { .. } | apply::Error::Discovery { .. }, .. } => {
                "ApplyFailed"
            }
            Self::Observe { .. } | Self::Status(_) | Self::Deadline => "ObserveFailed",
            Self::TooEarly { failure, .. } => failure.reason,
        }
    }

    /// Whether only a change of the spec or of the cluster can help.
    const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::InvalidSpec(_)
                | Self::Plan(_)
                | Self::Apply { source: apply::Error::MissingApi { .. }, .. }
        )
    }

    /// What it is counted as. One that comes too early was counted when it happened.
    const fn counted(&self) -> Option<Failing> {
        Some(match self {
            Self::InvalidSpec(_) | Self::Plan(_) => Failing::InvalidSpec,
            Self::Apply { source: apply::Error::NotOurs { .. }, .. } => Failing::ObjectNotOurs,
            Self::Apply { source: apply::Error::MissingApi { .. }, .. } => Failing::MissingApi,
            Self::Apply { source: apply::Error::Api { .. } | apply::Error::Discovery { .. }, .. } => {
                Failing::Apply
            }
            Self::Observe { .. } => Failing::Observe,
            Self::Status(_) => Failing::Status,
            Self::Deadline => Failing::Deadline,
            Self::TooEarly { .. } => return None,
        })
    }

    fn failure(&self) -> Failure {
        Failure { reason: self.reason(), message: notice::chain(self) }
    }
}

/// Namespace and name of a watched object.
pub fn key(object: &Watched) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// A gateway, as log lines name it.
fn name((namespace, name): &Key) -> String {
    format!("{namespace}/{name}")
}

/// Brings one gateway closer to what it declares, and says when to look again.
///
/// # Errors
///
/// None: what failed is told in the trace of the look, and tried again.
pub async fn reconcile(object: Arc<Watched>, context: Arc<Context>) -> Result<Action, Infallible> {
    let look = async {
        let result = attempt(&object, &context).await;
        Ok(result.unwrap_or_else(|error| retry(&object, &error, &context)))
    };
    telemetry::look(&key(&object), object.meta().generation, look).await
}

/// One look, counted. Fails when something is not as declared and a retry may help.
async fn attempt(object: &Watched, context: &Context) -> Result<Action, Error> {
    let started = Instant::now();
    let look = Box::pin(async {
        match &object.0 {
            Ok(gateway) => look(gateway, context).await,
            Err(invalid) => refuse(invalid, context).await,
        }
    });
    let result = timeout(DEADLINE, look).await.unwrap_or(Err(Error::Deadline));
    context.metrics.reconciled(started.elapsed());
    count(result.as_ref().err(), context);
    result
}

fn count(error: Option<&Error>, context: &Context) {
    if let Some((error, failing)) = error.and_then(|error| Some((error, error.counted()?))) {
        context.metrics.failed(failing);
        telemetry::failed_as(failing.name(), error);
    }
}

/// When a failed look is tried again: not later than the pods are asked again.
fn retry(object: &Watched, error: &Error, context: &Context) -> Action {
    let meta = object.meta();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let key = key(object);
    let delay = context.memory.failed(&key, uid, meta.generation.unwrap_or(0));
    let (gateway, trace_id) = (name(&key), telemetry::trace_id());
    let error_chain = notice::chain(error);
    warn!(gateway, error = error_chain, retry_in = ?delay, trace_id, "The gateway is not as declared.");
    if let Error::Apply { occasion, .. } = error {
        context.memory.put_off(&key, *occasion, Instant::now() + delay, error.failure());
        return Action::requeue(next_look(delay));
    }
    Action::requeue(delay)
}

/// When the pods are asked again though the children could not be applied.
fn next_look(retry: Duration) -> Duration {
    retry.min(jittered(POLL))
}

async fn look(gateway: &SseGateway, context: &Context) -> Result<Action, Error> {
    if gateway.metadata.deletion_timestamp.is_some() {
        // The children go with their owner.
        return Ok(Action::await_change());
    }
    let (namespace, name) = (gateway.namespace().unwrap_or_default(), gateway.name_any());
    let uid = gateway.uid().unwrap_or_default();
    let owner = Owner { name: &name, namespace: &namespace, uid: &uid };

    let applied = Box::pin(apply(gateway, owner, context)).await;
    if let Err(Error::Apply { source, .. }) = &applied
        && source.is_of_a_namespace_that_goes()
    {
        debug!(namespace, name, "The namespace is being deleted, and the gateway with it.");
        return Ok(Action::requeue(jittered(RESYNC)));
    }
    let (mut seen, unseen) = match &applied {
        Ok(applied) => observe::applied(owner, applied, context).await,
        Err(_) => observe::running(owner, context).await,
    };
    // What could not be applied explains more than what could not be seen.
    let waiting = seen.waiting;
    let error = applied.err().or(unseen);
    seen.failure = error.as_ref().map(Error::failure);

    tell(gateway, &seen, context).await?;
    let pause = if seen.pods.as_ref().is_none_or(Vec::is_empty) { RESYNC } else { POLL };
    let pause = jittered(if waiting { TURN } else { pause });
    match error {
        Some(Error::TooEarly { left, .. }) => Ok(Action::requeue(left.min(pause))),
        Some(error) if !error.is_final() => Err(error),
        error => {
            // Nothing to try again, but no success either.
            count(error.as_ref(), context);
            context.memory.succeeded(&owner.key());
            Ok(Action::requeue(pause))
        }
    }
}

async fn apply(gateway: &SseGateway, owner: Owner<'_>, context: &Context) -> Result<Applied, Error> {
    let mut findings: Vec<_> =
        gateway.spec.validate().into_iter().map(|finding| format!("spec.{finding}")).collect();
    if !is_valid_name(owner.name) {
        findings.push("metadata.name: must be a DNS-1035 label of at most 40 characters".into());
    }
    if !findings.is_empty() {
        return Err(Error::InvalidSpec(findings.join("; ")));
    }
    let mut children = plan::children(gateway, &context.settings)?;
    let (key, now) = (owner.key(), Instant::now());
    // Taken before anything is written: what happens to the children from now on asks for another look.
    let occasion = Occasion { plan: hash(&children), mark: context.changes.mark(&key) };
    if let Some((failure, left)) = context.memory.too_early(&key, occasion, now) {
        return Err(Error::TooEarly { failure, left });
    }
    if let Some(before) = context.memory.still_applied(&key, occasion, now)
        && !(before.waiting && context.rollouts.admit(&key, &context.cache, now))
    {
        return Ok(as_known(before, context.cache.deployment(&key)));
    }
    let admit = |cause| cause != Cause::Operator || context.rollouts.admit(&key, &context.cache, now);
    let outcome = apply::children(&context.client, &context.apis, owner, &mut children, admit).await;
    let outcome = outcome.map_err(|source| {
        context.rollouts.withdraw(&key);
        Error::Apply { source, occasion }
    })?;
    context.rollouts.changed(&key, &outcome.deployment);
    outcome.rest.map_err(|source| failed_beside_the_pods(source, &key, occasion, context))?;
    let apply::Outcome { deployment, waits: waiting, .. } = outcome;
    let applied = Applied { occasion, at: now, deployment, waiting, swept: false };
    context.memory.applied(&key, applied.clone());
    Ok(applied)
}

/// A missing API is no reason to try again and again: once it is there, its watch begins, and tells.
fn failed_beside_the_pods(source: apply::Error, key: &Key, occasion: Occasion, context: &Context) -> Error {
    let is_missing = matches!(source, apply::Error::MissingApi { .. });
    let error = Error::Apply { source, occasion };
    if is_missing {
        context.memory.put_off(key, occasion, Instant::now() + LOOK_AGAIN, error.failure());
    }
    error
}

/// What was applied, with the Deployment as it is now known.
fn as_known(mut applied: Applied, known: Option<Arc<Deployment>>) -> Applied {
    let (uid, generation) = (applied.deployment.uid(), applied.deployment.metadata.generation);
    if let Some(known) = known.filter(|known| known.uid() == uid && known.metadata.generation >= generation) {
        applied.deployment = (*known).clone();
    }
    applied
}

/// The same for the same plan, in this process.
fn hash(plan: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{plan:?}").hash(&mut hasher);
    hasher.finish()
}

/// Writes the status, if it says something new, and the event that goes with it.
async fn tell(gateway: &SseGateway, seen: &Observation, context: &Context) -> Result<(), Error> {
    let key = (gateway.namespace().unwrap_or_default(), gateway.name_any());
    let version = gateway.resource_version().unwrap_or_default();
    let previous = context.memory.written(&key, &version).or_else(|| gateway.status.clone());
    let now = Instant::now();
    let next = status::assess(gateway, previous.as_ref(), seen, Timestamp::now());
    let next = status::settle(previous.as_ref(), next, context.memory.may_count(&key, now));
    telemetry::found(&next, seen.waiting);
    if previous.as_ref() == Some(&next) {
        return Ok(());
    }
    if !write(&key, gateway.uid().as_deref(), &next, context).await? {
        return Ok(());
    }
    context.memory.wrote(&key, &version, &next, now);
    let failure = seen.failure.as_ref().map(|failure| failure.message.clone());
    if let Some(event) = notice::of(previous.as_ref(), &next, failure) {
        publish(&event, gateway, context).await;
    }
    Ok(())
}

/// Applies the status. False: the gateway is gone.
async fn write(
    key: &Key,
    uid: Option<&str>,
    status: &SseGatewayStatus,
    context: &Context,
) -> Result<bool, Error> {
    let (namespace, name) = key;
    let resource = ApiResource::erase::<SseGateway>(&());
    // Bound to the uid: not onto another gateway that has taken the name.
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "uid": uid},
        "status": status,
    });
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), namespace, &resource);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(patch);
    let write = async {
        match api.patch_status(name, &params, &patch).await {
            Ok(_) => {
                telemetry::wrote(true);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
            Err(source) => Err(Error::Status(source)),
        }
    };
    telemetry::step(telemetry::status(), write).await
}

async fn publish<K: Resource<DynamicType = ()>>(event: &Event, about: &K, context: &Context) {
    // A new recorder each time: what is said twice is decided by the status, not by its cache, which
    // would also keep the first wording.
    let recorder = Recorder::new(context.client.clone(), Reporter::from("sse-operator"));
    if let Err(error) = recorder.publish(event, &about.object_ref(&())).await {
        let gateway = name(&(about.meta().namespace.clone().unwrap_or_default(), about.name_any()));
        let (error, trace_id) = (notice::chain(&error), telemetry::trace_id());
        warn!(gateway, error, trace_id, "An event was not published.");
    }
}

/// Tells the owner of an object that is no `SseGateway` to this version which field is wrong. The
/// schema lets some such through: it does not describe every Kubernetes type under `spec.pod`.
async fn refuse(invalid: &InvalidObject, context: &Context) -> Result<Action, Error> {
    let meta = &invalid.metadata;
    let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let resource = ApiResource::erase::<SseGateway>(&());
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &key.0, &resource);
    let object =
        api.get_opt(&key.1).await.map_err(|source| Error::Observe { what: "the SseGateway", source })?;
    let Some(object) = object else { return Ok(Action::await_change()) };

    let previous = serde_json::from_value::<SseGatewayStatus>(object.data["status"].clone()).ok();
    let failure =
        Failure { reason: "InvalidSpec", message: wrong_field(&object.data["spec"], &invalid.error) };
    count(Some(&Error::InvalidSpec(failure.message.clone())), context);
    let next = status::refuse(previous.as_ref(), meta.generation, &failure, Timestamp::now());
    telemetry::found(&next, false);
    if previous.as_ref() != Some(&next) && write(&key, meta.uid.as_deref(), &next, context).await? {
        let trace_id = telemetry::trace_id();
        warn!(gateway = name(&key), error = failure.message, trace_id, "The gateway can not be read.");
        if let Some(event) = notice::of(previous.as_ref(), &next, Some(failure.message)) {
            let gateway =
                SseGateway { metadata: meta.clone(), spec: SseGatewaySpec::default(), status: None };
            publish(&event, &gateway, context).await;
        }
    }
    Ok(Action::await_change())
}

/// The first field of the spec that can not be read, and why.
fn wrong_field(spec: &Value, otherwise: &str) -> String {
    match serde_path_to_error::deserialize::<_, SseGatewaySpec>(spec) {
        Err(error) => format!("spec.{}: {}", error.path(), error.inner()),
        Ok(_) => otherwise.to_owned(),
    }
}

#[cfg(test)]
pub mod tests;
