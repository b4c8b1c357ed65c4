//! Whether the gateways can be listed, asked again and again: by the leader, and by those who are to
//! take over from it. So readiness names a missing definition or right before anything depends on it,
//! and heals by itself.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::api::ListParams;
use kube::{Client, CustomResourceExt};
use sse_crds::SseGateway;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::apis::is_missing;
use crate::controller::Scope;
use crate::health::Readiness;
use crate::memory::jittered;
use crate::notice::chain;

/// Pause while all is well.
const PAUSE: Duration = Duration::from_secs(30);
/// Pause while something is wrong.
const RETRY: Duration = Duration::from_secs(3);
/// How long the API server may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Looks after every scope, without end.
pub async fn run(client: Client, scopes: Vec<Scope>, readiness: Arc<Readiness>) {
    join_all(scopes.iter().map(|scope| watch_over(&client, scope, &readiness))).await;
}

async fn watch_over(client: &Client, scope: &Scope, readiness: &Readiness) {
    let name = scope.to_string();
    let mut before = None;
    loop {
        let problem = problem(client, scope).await;
        if let Some(why) = problem.as_ref().filter(|why| before.as_ref() != Some(*why)) {
            warn!(scope = name, error = why, "No gateway can be cared for.");
        } else if before.is_some() && problem.is_none() {
            info!(scope = name, "The gateways can be listed again.");
        }
        readiness.set(&name, problem.clone());
        let pause = if problem.is_some() { RETRY } else { PAUSE };
        before = problem;
        sleep(jittered(pause)).await;
    }
}

/// Why the gateways of a scope can not be listed.
async fn problem(client: &Client, scope: &Scope) -> Option<String> {
    let api = scope.api::<SseGateway>(client.clone());
    let one = ListParams::default().limit(1);
    match timeout(ANSWER, api.list_metadata(&one)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(unlisted(scope, &error)),
        Err(_) => {
            Some(format!("SseGateways in {scope} can not be listed: no answer within {} s", ANSWER.as_secs()))
        }
    }
}

fn unlisted(scope: &Scope, error: &kube::Error) -> String {
    let name = SseGateway::crd_name();
    match error {
        error if is_missing(error) => {
            format!(
                "CustomResourceDefinition {name} is not installed: apply the output of `sse-operator crd`"
            )
        }
        error => format!("SseGateways in {scope} can not be listed: {}", chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stub::Stub;

    #[test]
    fn a_missing_definition_is_named_and_a_missing_right_is_told() {
        let status = |reason: &str, code| {
            kube::core::Status::failure("cannot list ssegateways", reason).with_code(code).boxed()
        };
        let missing = unlisted(&Scope::Cluster, &kube::Error::Api(status("Failed to parse error data", 404)));
        assert!(
            missing.contains("CustomResourceDefinition ssegateways.ssegateway.io is not installed"),
            "{missing}"
        );
        let scope = Scope::Namespace("a".into());
        let forbidden = unlisted(&scope, &kube::Error::Api(status("Forbidden", 403)));
        assert_eq!(forbidden, "SseGateways in namespace a can not be listed: cannot list ssegateways");
    }

    #[tokio::test]
    async fn each_scope_is_asked_for_one_gateway_and_answers_for_itself() {
        let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": []});
        let stub = Stub::default().with("/apis/ssegateway.io/v1alpha1/namespaces/a/ssegateways", list);
        let scopes = Scope::of(&["a".to_owned(), "b".to_owned()]);
        let readiness = Arc::new(Readiness::waiting_for(scopes.iter().map(ToString::to_string)));
        let look = run(stub.client(), scopes, readiness.clone());
        assert!(timeout(Duration::from_millis(500), look).await.is_err(), "without end");
        let problems = readiness.problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("is not installed"), "{problems:?}");
        assert!(stub.sent("GET").iter().all(|sent| sent.query.contains("limit=1")));
    }
}
