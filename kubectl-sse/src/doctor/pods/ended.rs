//! How a container of a pod ended before: it runs again, and its streams were cut.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::super::finding::Finding;

/// What is longer ago, in seconds, is over.
const RECENT: i64 = 24 * 3600;
/// Reason of a container that the kernel ended, because it wanted more memory than its limit.
const OUT_OF_MEMORY: &str = "OOMKilled";

/// A container of a running pod that ended not long ago.
pub fn recently(pod: &Pod, field: &str, now: Timestamp) -> Option<Finding> {
    let (container, ended) = last(pod)?;
    let ago = now.as_second() - ended.finished_at.as_ref()?.0.as_second();
    if ago > RECENT {
        return None;
    }
    let count = container.restart_count;
    let what = format!("it ended {} ago ({}), of {count} times in all", period(ago.max(0)), how(ended));
    Some(if ended.reason.as_deref() == Some(OUT_OF_MEMORY) {
        Finding::warning("PodOutOfMemory", field, what)
            .because("its streams were cut: clients came back, all at once, to the other pods")
            .so("raise spec.pod.resources.limits.memory, or lower spec.limits.maxConnectionsPerPod and have more pods")
    } else {
        Finding::warning("PodRestarted", field, what)
            .because("its streams were cut: clients came back, all at once")
            .so("kubectl logs --previous tells its last words, kubectl describe pod what was done to it")
    })
}

/// A text of a pod's state, with how it ended.
pub fn with(pod: &Pod, text: &str) -> String {
    last(pod).map_or_else(|| text.to_owned(), |(_, ended)| format!("{text} ({})", how(ended)))
}

fn last(pod: &Pod) -> Option<(&ContainerStatus, &ContainerStateTerminated)> {
    let containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let ended = containers.filter_map(|one| Some((one, one.last_state.as_ref()?.terminated.as_ref()?)));
    ended.max_by_key(|(_, ended)| ended.finished_at.as_ref().map(|time| time.0))
}

fn how(ended: &ContainerStateTerminated) -> String {
    format!("{}, exit code {}", ended.reason.as_deref().unwrap_or("no reason"), ended.exit_code)
}

fn period(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(reason: &str, at: &str) -> Pod {
        let ended = json!({"terminated": {"reason": reason, "exitCode": 137, "finishedAt": at}});
        let container = json!({"name": "gateway", "image": "x", "imageID": "", "ready": true, "restartCount": 3,
            "state": {"running": {}}, "lastState": ended});
        serde_json::from_value(json!({"status": {"containerStatuses": [container]}})).expect("a pod")
    }

    fn found(pod: &Pod) -> Option<(&'static str, String)> {
        let now = "2026-01-02T00:00:00Z".parse().expect("a time");
        recently(pod, "pod live-a", now).map(|finding| (finding.code, finding.what))
    }

    #[test]
    fn a_pod_that_was_ended_not_long_ago_says_how() {
        let what =
            |ago: &str, how: &str| format!("it ended {ago} ago ({how}, exit code 137), of 3 times in all");
        assert_eq!(
            found(&pod("OOMKilled", "2026-01-01T23:59:00Z")),
            Some(("PodOutOfMemory", what("60 s", "OOMKilled")))
        );
        assert_eq!(
            found(&pod("Error", "2026-01-01T20:00:00Z")),
            Some(("PodRestarted", what("4 hours", "Error")))
        );
        assert_eq!(found(&pod("OOMKilled", "2025-12-31T23:59:00Z")), None, "long ago");
        assert_eq!(found(&Pod::default()), None);
    }

    #[test]
    fn a_crash_says_how_it_was() {
        let pod = pod("OOMKilled", "2026-01-01T23:59:00Z");
        assert_eq!(
            with(&pod, "CrashLoopBackOff: back-off"),
            "CrashLoopBackOff: back-off (OOMKilled, exit code 137)"
        );
        assert_eq!(with(&Pod::default(), "a"), "a");
    }
}
