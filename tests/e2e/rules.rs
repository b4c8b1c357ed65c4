//! Every rule of the CRD, and the bounds that users meet most, from both sides: what is refused and
//! with which words, and the nearest that passes. The API server decides (dry runs only), and the
//! gateway's own check of its configuration has to decide the same.
//!
//! The rules are read from the cluster: one without a pair fails the test, and so does a pair whose
//! rule is gone.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Error};
use serde_json::{Value, json};
use sse_crds::SseGateway;
use sse_gateway::config::Config;
use sse_tests::cluster::{Namespace, in_namespace, manifest};
use sse_tests::process::merge;

mod bounds;
mod pairs;

use pairs::pairs;

/// A rule or a bound, and what is on either side of it.
struct Pair {
    /// Where it stands in the schema: `spec.auth.issuers[].algorithms`.
    place: &'static str,
    /// The rule in CEL, or the keyword of the bound.
    rule: &'static str,
    /// The field that a user has to be told of.
    field: &'static str,
    /// What a user has to be told.
    message: &'static str,
    /// Patch of a good gateway that is refused.
    refused: Value,
    /// The nearest patch that passes.
    passes: Value,
}

impl Pair {
    /// Whether the rule compares what is declared with what was.
    fn is_of_a_change(&self) -> bool {
        self.rule.contains("oldSelf")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_the_crd_refuses_what_is_wrong_and_passes_the_nearest_that_is_right() -> Result<()> {
    in_namespace("rules", async |namespace: &Namespace| {
        let gateways: Api<DynamicObject> = Api::namespaced_with(
            namespace.client.clone(),
            &namespace.name,
            &ApiResource::erase::<SseGateway>(&()),
        );
        // It runs no pods: changes of it are looked at, and none is made.
        let kept = json!({"replicas": 0, "nats": {"subjectPrefix": "kept"}});
        let kept = manifest(&namespace.name, "kept", kept);
        gateways.create(&PostParams::default(), &serde_json::from_value(kept)?).await?;
        let mut wrong = Vec::new();
        for pair in pairs() {
            if let Err(error) = check(&gateways, &namespace.name, &pair).await {
                wrong.push(format!("{} at {}: {error:#}", pair.rule, pair.place));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await
}

async fn check(gateways: &Api<DynamicObject>, namespace: &str, pair: &Pair) -> Result<()> {
    let Err(refusal) = ask(gateways, namespace, pair, &pair.refused).await else {
        bail!("{} passes", pair.refused);
    };
    let Error::Api(status) = refusal else { return Err(refusal.into()) };
    // For this reason alone; what could not be looked at because of it is no reason.
    let causes = status.details.context("details")?.causes;
    let causes = causes.iter().filter(|cause| !cause.message.contains("rules were not checked"));
    let fields: BTreeSet<_> = causes.map(|cause| cause.field.trim_start_matches('.')).collect();
    ensure!(fields.len() == 1 && status.code == 422, "{} {}", status.code, status.message);
    let names = status.message.contains(&format!("{}: ", pair.field));
    ensure!(names && status.message.contains(pair.message), "{}", status.message);
    ask(gateways, namespace, pair, &pair.passes).await.with_context(|| pair.passes.to_string())?;

    if pair.place.is_empty() || pair.is_of_a_change() {
        return Ok(());
    }
    let Err(said) = configure(&pair.refused) else { bail!("the gateway takes {}", pair.refused) };
    let field = pair.field.strip_prefix("spec.").context("a field of the spec")?;
    let named =
        said.lines().any(|line| line.strip_prefix(field).is_some_and(|rest| rest.starts_with([':', '.'])));
    ensure!(named, "the gateway says: {said}");
    configure(&pair.passes).map_err(|said| anyhow::anyhow!("the gateway refuses {}: {said}", pair.passes))
}

/// What the API server says to a new gateway with the patch, or to the patch of the one that is kept.
async fn ask(
    gateways: &Api<DynamicObject>,
    namespace: &str,
    pair: &Pair,
    patch: &Value,
) -> Result<DynamicObject, Error> {
    if pair.is_of_a_change() {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        return gateways.patch("kept", &params, &Patch::Merge(patch)).await;
    }
    let mut new = manifest(namespace, "new", json!({"replicas": 0}));
    merge(&mut new, patch.clone());
    let new = serde_json::from_value(new).map_err(Error::SerdeError)?;
    gateways.create(&PostParams { dry_run: true, ..PostParams::default() }, &new).await
}

/// What the gateway says to the same spec as its configuration. It must know each of its fields: one
/// with a typo would pass everywhere.
fn configure(patch: &Value) -> Result<(), String> {
    let mut gateway = manifest("rules", "new", json!({}));
    merge(&mut gateway, patch.clone());
    let name = "rules/new".parse()?;
    let config = Config::parse(&gateway["spec"].to_string(), std::path::Path::new("."), name, 0)
        .map_err(|error| error.to_string())?;
    if config.unknown.is_empty() { Ok(()) } else { Err(format!("unknown: {:?}", config.unknown)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rule_of_the_crd_is_without_a_test_and_no_test_without_a_rule() -> Result<()> {
    in_namespace("complete", async |namespace: &Namespace| {
        let crds: Api<CustomResourceDefinition> = Api::all(namespace.client.clone());
        let crd = serde_json::to_value(crds.get("ssegateways.ssegateway.io").await?.spec)?;
        let mut there = Schema::default();
        for version in crd["versions"].as_array().context("versions")? {
            there.walk("", &version["schema"]["openAPIV3Schema"]);
        }
        ensure!(!there.rules.is_empty(), "no rule was found: {crd}");
        let tested: BTreeSet<_> = pairs().iter().map(|pair| (pair.place.into(), pair.rule.into())).collect();
        let untested: Vec<_> = there.rules.difference(&tested).collect();
        let gone: Vec<_> = tested.iter().filter(|pair| !there.has(pair)).collect();
        ensure!(
            untested.is_empty() && gone.is_empty(),
            "rules without a pair: {untested:#?}, pairs without a rule: {gone:#?}"
        );
        Ok(())
    })
    .await
}

/// What a schema asks for: (place, rule or keyword).
#[derive(Default)]
struct Schema {
    rules: BTreeSet<(String, String)>,
    keywords: BTreeSet<(String, String)>,
}

impl Schema {
    fn walk(&mut self, place: &str, schema: &Value) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let rule = rule["rule"].as_str().unwrap_or_default();
            self.rules.insert((place.into(), rule.into()));
        }
        let keywords = schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword);
        self.keywords.extend(keywords.map(|keyword| (place.into(), keyword.clone())));
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let dot = if place.is_empty() { "" } else { "." };
            self.walk(&format!("{place}{dot}{name}"), property);
        }
        for (keyword, step) in [("items", "[]"), ("additionalProperties", ".*")] {
            if let Some(below) = schema.get(keyword) {
                self.walk(&format!("{place}{step}"), below);
            }
        }
    }

    fn has(&self, pair: &(String, String)) -> bool {
        self.rules.contains(pair) || self.keywords.contains(pair)
    }
}
