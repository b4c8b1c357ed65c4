//! Who may do what, by the API server's own word: the operator, and people who may look at a namespace or edit it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::cluster::{Namespace, RELEASE, SYSTEM, apply, in_namespace, run};
use sse_tests::eventually;

/// Whether a ServiceAccount may.
async fn may(namespace: &str, account: &str, what: &[&str]) -> bool {
    let account = format!("system:serviceaccount:{namespace}:{account}");
    let ask = [&["auth", "can-i", "--as", &account], what].concat();
    // It answers by its exit code, too.
    run("kubectl", &ask).await.is_ok_and(|answer| answer.trim() == "yes")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_reads_no_secret_and_touches_no_lease_but_its_own() -> Result<()> {
    in_namespace("rights", async |namespace: &Namespace| {
        let may = async |what: &[&str]| may(SYSTEM, RELEASE, what).await;
        let here = namespace.name.as_str();
        for verb in ["get", "list", "watch", "create", "patch", "update", "delete"] {
            ensure!(!may(&[verb, "secrets", "--all-namespaces"]).await, "{verb} secrets");
            ensure!(!may(&[verb, "secrets", "-n", SYSTEM]).await, "{verb} secrets");
            ensure!(!may(&[verb, "leases.coordination.k8s.io", "-n", here]).await, "{verb} leases");
        }
        ensure!(!may(&["update", "leases.coordination.k8s.io/another", "-n", SYSTEM]).await);
        ensure!(may(&["update", &format!("leases.coordination.k8s.io/{RELEASE}"), "-n", SYSTEM]).await);
        ensure!(may(&["list", "ssegateways.ssegateway.io", "-n", here]).await);
        Ok(())
    })
    .await
}

/// What there is to do with gateways, and whether who may `view` a namespace, and who may `edit` it, may do it there.
const ACTS: [(&[&str], bool, bool); 9] = [
    (&["get", "ssegateways.ssegateway.io"], true, true),
    (&["watch", "ssegateways.ssegateway.io"], true, true),
    (&["get", "ssegateways.ssegateway.io", "--subresource=status"], true, true),
    (&["create", "ssegateways.ssegateway.io"], false, true),
    (&["patch", "ssegateways.ssegateway.io"], false, true),
    (&["delete", "ssegateways.ssegateway.io"], false, true),
    (&["update", "ssegateways.ssegateway.io", "--subresource=scale"], false, true),
    // The operator's alone.
    (&["patch", "ssegateways.ssegateway.io", "--subresource=status"], false, false),
    (&["update", "ssegateways.ssegateway.io", "--subresource=finalizers"], false, false),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_may_look_at_a_namespace_or_edit_it_may_do_so_with_its_gateways() -> Result<()> {
    in_namespace("people", async |namespace: &Namespace| {
        let here = namespace.name.as_str();
        let bound = ["view", "edit"].map(|role| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"namespace": here, "name": role},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "namespace": here, "name": role}],
            })
        });
        apply(&json!({"apiVersion": "v1", "kind": "List", "items": bound})).await?;
        // The API server hears of a binding a moment later.
        for role in ["view", "edit"] {
            eventually("the binding", Duration::from_secs(20), || async {
                ensure!(may(here, role, &["list", "ssegateways.ssegateway.io", "-n", here]).await, "{role}");
                Ok(())
            })
            .await?;
        }
        for (act, view, edit) in ACTS {
            for (role, expected) in [("view", view), ("edit", edit)] {
                let there = [act, &["-n", here]].concat();
                ensure!(may(here, role, &there).await == expected, "{role}: {act:?} is not {expected}");
                let elsewhere = [act, &["-n", SYSTEM]].concat();
                ensure!(!may(here, role, &elsewhere).await, "{role}: {act:?} in another namespace");
            }
        }
        Ok(())
    })
    .await
}
