//! How far a Deployment is.

use k8s_openapi::api::apps::v1::Deployment;

/// What the status needs of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Whether the counts below speak of the Deployment's present generation.
    pub observed: bool,
    pub desired: i32,
    pub replicas: i32,
    pub updated: i32,
    pub ready: i32,
    /// Reason of the Deployment's own `Progressing` condition.
    pub progress: String,
}

impl From<&Deployment> for Rollout {
    fn from(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let conditions = status.conditions.unwrap_or_default();
        let progress = conditions.into_iter().find(|condition| condition.type_ == "Progressing");
        Self {
            observed: status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0),
            // The default of the API.
            desired: desired.unwrap_or(1),
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            progress: progress.and_then(|condition| condition.reason).unwrap_or_default(),
        }
    }
}

impl Rollout {
    /// Whether all pods are of the present generation.
    #[must_use]
    pub const fn updated(&self) -> bool {
        self.observed && self.updated == self.desired && self.replicas == self.desired
    }

    /// Whether all pods are of the present generation and ready. Not whether they are `available` to the
    /// Deployment, which waits for a drain window besides, to part the ends of old pods; they serve before.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.updated() && self.ready >= self.desired
    }

    /// Whether pods are about to be replaced, and it can be waited for.
    pub fn is_under_way(&self) -> bool {
        self.desired > 0 && !self.complete() && !self.was_complete() && !self.is_stuck()
    }

    /// Whether this revision was fully rolled out before, whatever became of its pods since.
    pub(super) fn was_complete(&self) -> bool {
        self.updated() && self.progress == "NewReplicaSetAvailable"
    }

    /// Whether the Deployment controller has given up hope.
    pub(super) fn is_stuck(&self) -> bool {
        self.observed && self.progress == "ProgressDeadlineExceeded"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(status: &serde_json::Value) -> Rollout {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "live", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": status,
        }))
        .expect("a Deployment");
        Rollout::from(&deployment)
    }

    #[test]
    fn a_rollout_is_complete_when_all_pods_are_new_and_ready() {
        let complete = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 0});
        assert!(rollout(&complete).complete());
        for (field, value) in
            [("observedGeneration", 1), ("replicas", 3), ("updatedReplicas", 1), ("readyReplicas", 1)]
        {
            let mut short = complete.clone();
            short[field] = json!(value);
            assert!(!rollout(&short).complete(), "{field}");
        }
        assert!(!rollout(&json!({})).complete(), "nothing observed yet");
    }
}
