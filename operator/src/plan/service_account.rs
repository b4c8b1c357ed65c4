//! The `ServiceAccount` of the pods: an identity without rights and without a token.

use k8s_openapi::api::core::v1::ServiceAccount;
use sse_crds::pod::Pod;

use super::Owner;

/// Not the gateway's own name: every namespace has a `ServiceAccount` that is called `default`.
pub fn name(gateway: &str) -> String {
    format!("{gateway}-gateway")
}

pub fn plan(owner: &Owner, pod: &Pod) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.child(name(&owner.name), &pod.service_account_annotations),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::children;
    use super::super::fixtures::{gateway, settings};

    #[test]
    fn it_mounts_no_token_and_carries_the_users_annotations() {
        let gateway = gateway(json!({"pod": {"serviceAccountAnnotations": {"iam/role": "sse"}}}));
        let account = children(&gateway, &settings()).expect("a plan").service_account;
        assert_eq!(account.metadata.name.as_deref(), Some("live-gateway"));
        assert_eq!(account.automount_service_account_token, Some(false));
        assert_eq!(account.metadata.annotations.expect("annotations")["iam/role"], "sse");
    }
}
