//! The truth table of the conditions, and what is worth a write.

use serde_json::json;

use super::conditions::{AVAILABLE, NATS_CONNECTED, PROGRESSING};
use super::*;
use crate::plan::fixtures::gateway;
use crate::probe::{Nats, Problem};

fn rollout(desired: i32, ready: i32) -> Rollout {
    Rollout {
        observed: true,
        desired,
        replicas: desired,
        updated: desired,
        ready,
        progress: "NewReplicaSetAvailable".into(),
    }
}

fn pod(connections: i64, connected: bool) -> Pod {
    let nats =
        Nats { connected: Some(connected), last_error: (!connected).then(|| "connection refused".into()) };
    let report = Report { ready: connected, connections: Some(connections), nats, ..Report::default() };
    Pod { current: true, terminating: false, ready: connected, report: Some(report) }
}

/// A pod that serves, and does not answer.
fn silent() -> Pod {
    Pod { current: true, ready: true, ..Pod::default() }
}

fn seen(rollout: Rollout, pods: Vec<Pod>) -> Observation {
    Observation { rollout: Some(rollout), pods: Some(pods), ..Observation::default() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn assessed(seen: &Observation) -> SseGatewayStatus {
    assess(&gateway(json!({})), None, seen, at(1))
}

/// Status and reason of a condition.
fn verdict<'a>(status: &'a SseGatewayStatus, type_: &str) -> (&'a str, &'a str) {
    let condition = condition(status, type_).expect("the condition");
    (&condition.status, &condition.reason)
}

fn message<'a>(status: &'a SseGatewayStatus, type_: &str) -> &'a str {
    &condition(status, type_).expect("the condition").message
}

#[test]
fn a_gateway_is_ready_when_rolled_out_available_and_connected() {
    let status = assessed(&seen(rollout(2, 2), vec![pod(3, true), pod(4, true)]));
    assert_eq!(verdict(&status, READY), ("True", "Ready"));
    assert_eq!(verdict(&status, AVAILABLE), ("True", "PodsReady"));
    assert_eq!(verdict(&status, PROGRESSING), ("False", "RolledOut"));
    assert_eq!(verdict(&status, NATS_CONNECTED), ("True", "Connected"));
    assert_eq!((status.replicas, status.ready_replicas, status.connections), (Some(2), Some(2), Some(7)));
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    assert_eq!(status.url.as_deref(), Some("http://live.demo.svc:8080/api/v1/sse"));
    assert!(status.selector.expect("a selector").starts_with("app.kubernetes.io/instance=live,"));
}

#[test]
fn a_gateway_whose_new_pods_have_to_wait_is_as_ready_as_its_present_ones() {
    let waiting = |rollout: Rollout| {
        let pods = vec![pod(3, true), Pod { current: false, ..pod(4, true) }];
        assessed(&Observation { waiting: true, ..seen(rollout, pods) })
    };
    let status = waiting(rollout(2, 2));
    assert_eq!(verdict(&status, PROGRESSING), ("True", "WaitingForRollout"));
    assert_eq!(verdict(&status, READY), ("True", "Ready"));
    let status = waiting(rollout(2, 1));
    assert_eq!(verdict(&status, READY), ("False", "PodsNotReady"), "what is wrong is still told");
    // Its own rollout is told first.
    let status = waiting(Rollout { updated: 1, progress: "ReplicaSetUpdated".into(), ..rollout(2, 2) });
    assert_eq!(verdict(&status, PROGRESSING), ("True", "RollingOut"));
}

#[test]
fn each_thing_that_is_missing_has_its_reason() {
    let rolling = Rollout { updated: 1, progress: "ReplicaSetUpdated".into(), ..rollout(2, 2) };
    let starting = Rollout { progress: "ReplicaSetUpdated".into(), ..rollout(2, 0) };
    let stuck = Rollout { progress: "ProgressDeadlineExceeded".into(), ..starting.clone() };
    let stale = Rollout { observed: false, ..rollout(2, 2) };
    let both = || vec![pod(1, true), pod(1, true)];
    let starts = Pod { current: true, ..Pod::default() };
    let cases = [
        (seen(rolling, both()), ("False", "RollingOut")),
        (seen(stale, both()), ("False", "RollingOut")),
        (seen(starting, vec![starts.clone(), starts.clone()]), ("False", "RollingOut")),
        (seen(stuck, vec![starts]), ("False", "ProgressDeadlineExceeded")),
        (seen(rollout(2, 0), both()), ("False", "NoReadyPods")),
        (seen(rollout(2, 1), both()), ("False", "PodsNotReady")),
        (seen(rollout(0, 0), vec![]), ("False", "ScaledToZero")),
        (seen(rollout(2, 2), vec![pod(1, true), pod(1, false)]), ("False", "NatsDisconnected")),
        (seen(rollout(1, 1), vec![silent()]), ("Unknown", "PodsUnreadable")),
        (seen(rollout(2, 2), vec![pod(1, true), silent()]), ("Unknown", "Partial")),
        (Observation::default(), ("False", "RollingOut")),
    ];
    for (seen, expected) in cases {
        let status = assessed(&seen);
        assert_eq!(verdict(&status, READY), expected, "{}", message(&status, READY));
        assert!(!message(&status, READY).is_empty());
    }
}

#[test]
fn a_failure_comes_first_and_what_runs_is_still_told() {
    let failure =
        Failure { reason: "InvalidSpec", message: "spec.nats.url: must be nats://host:port".into() };
    let running = seen(rollout(2, 2), vec![pod(3, true), pod(4, true)]);
    let status = assessed(&Observation { failure: Some(failure.clone()), ..running });
    assert_eq!(verdict(&status, READY), ("False", "InvalidSpec"));
    assert_eq!(verdict(&status, PROGRESSING), ("False", "InvalidSpec"));
    assert_eq!(message(&status, READY), failure.message);
    assert_eq!(verdict(&status, AVAILABLE), ("True", "PodsReady"));
    assert_eq!(verdict(&status, NATS_CONNECTED), ("True", "Connected"));
    assert_eq!(status.connections, Some(7));
}

#[test]
fn nats_is_connected_partly_not_at_all_or_it_is_not_known() {
    let nats = |pods: Vec<Pod>| {
        let status = assessed(&seen(rollout(2, 2), pods));
        let condition = condition(&status, NATS_CONNECTED).expect("the condition").clone();
        (condition.status, condition.reason, condition.message)
    };
    let (status, reason, text) = nats(vec![pod(0, true), pod(0, false)]);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Partial"));
    assert_eq!(text, "1 of 2 pods are connected to nats://nats:4222: connection refused");
    let (status, reason, _) = nats(vec![pod(0, false), pod(0, false)]);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Disconnected"));
    for unread in [silent(), Pod::default()] {
        let (status, reason, _) = nats(vec![unread]);
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "PodsUnreadable"));
    }
    let (status, reason, _) = nats(vec![]);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "NoPods"));
    let (status, reason, text) = nats(vec![pod(0, true), silent()]);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Partial"), "not known of all");
    assert!(text.ends_with("1 could not be read"), "{text}");
    assert_eq!(nats(vec![pod(0, true), pod(0, false), silent()]).0, "False");
    let leaving = [Pod { terminating: true, ..pod(0, false) }, Pod { terminating: true, ..silent() }];
    for other in [Pod::default()].into_iter().chain(leaving) {
        assert_eq!(nats(vec![pod(0, true), other]).0, "True", "a pod that comes or goes does not count");
    }
}

#[test]
fn without_replay_the_status_says_what_is_lost() {
    let without = gateway(json!({"replay": {"enabled": false}}));
    let status = assess(&without, None, &seen(rollout(1, 1), vec![pod(0, true)]), at(1));
    assert!(message(&status, NATS_CONNECTED).contains("at most once"));
}

#[test]
fn a_pods_complaint_names_the_users_field() {
    let complaining = |report: Report| {
        let pods = vec![Pod { report: Some(report), current: true, ..Pod::default() }];
        assessed(&seen(Rollout { progress: String::new(), ..rollout(1, 0) }, pods))
    };
    let missing = Report {
        missing_secrets: vec!["auth.issuers[0].keySecretRef: jwt-key/key".into()],
        ..Report::default()
    };
    let status = complaining(missing);
    assert_eq!(verdict(&status, READY), ("False", "MissingSecret"));
    assert!(
        message(&status, READY)
            .starts_with("spec.auth.issuers[0].keySecretRef: jwt-key/key: create the Secret")
    );

    let problem = |reason: &str, message: &str| Report {
        problems: vec![Problem { reason: reason.into(), message: message.into() }],
        ..Report::default()
    };
    let status = complaining(problem("StreamOwned", "nats.stream.managed: the stream is owned by a/b"));
    assert_eq!(verdict(&status, READY), ("False", "StreamOwned"));
    assert_eq!(message(&status, READY), "spec.nats.stream.managed: the stream is owned by a/b");
    let status = complaining(problem("no word", "Something else: broken"));
    assert_eq!(verdict(&status, READY), ("False", "GatewayProblem"));
    assert_eq!(message(&status, READY), "Something else: broken");
}

#[test]
fn pods_with_the_present_configuration_are_heard_first() {
    let complaint = |reason: &str, current: bool| Pod {
        current,
        report: Some(Report {
            problems: vec![Problem { reason: reason.into(), message: "m".into() }],
            ..Report::default()
        }),
        ..Pod::default()
    };
    let status = assessed(&seen(rollout(2, 2), vec![complaint("Old", false), complaint("New", true)]));
    assert_eq!(verdict(&status, READY), ("False", "New"));
}

#[test]
fn connections_are_absent_when_they_are_not_known() {
    let connections = |seen: Observation| assessed(&seen).connections;
    assert_eq!(connections(seen(rollout(2, 2), vec![silent()])), None);
    assert_eq!(connections(seen(rollout(2, 2), vec![pod(5, true), silent()])), None, "not 5");
    assert_eq!(connections(seen(rollout(2, 1), vec![pod(5, true), Pod::default()])), Some(5), "it starts");
    assert_eq!(connections(seen(rollout(2, 0), vec![])), None);
    assert_eq!(connections(seen(rollout(0, 0), vec![])), Some(0));
    assert_eq!(connections(Observation { pods: None, ..seen(rollout(0, 0), vec![]) }), None);
    let leaving = Pod { terminating: true, ..pod(5, true) };
    let gone = Pod { terminating: true, ..silent() };
    assert_eq!(connections(seen(rollout(1, 1), vec![pod(2, true), leaving, gone])), Some(7));
}

#[test]
fn times_change_only_with_the_status() {
    let gateway = gateway(json!({}));
    let (good, bad) = (seen(rollout(1, 1), vec![pod(1, true)]), seen(rollout(1, 1), vec![pod(1, false)]));
    let first = assess(&gateway, None, &good, at(1));
    assert_eq!(assess(&gateway, Some(&first), &good, at(9)), first, "nothing to write");
    let second = assess(&gateway, Some(&first), &bad, at(9));
    let time =
        |status: &SseGatewayStatus, type_: &str| condition(status, type_).expect("it").last_transition_time.0;
    assert_eq!(time(&second, READY), at(9));
    assert_eq!(time(&second, AVAILABLE), at(1));
}

#[test]
fn connections_are_written_on_a_change_of_over_one_percent() {
    let with = |n: Option<i64>| SseGatewayStatus { connections: n, ..SseGatewayStatus::default() };
    let settled = |old: Option<i64>, new: Option<i64>| settle(Some(&with(old)), with(new), true).connections;
    assert_eq!(settled(Some(1000), Some(1010)), Some(1000));
    assert_eq!(settled(Some(1000), Some(1011)), Some(1011));
    assert_eq!(settled(Some(1000), Some(989)), Some(989));
    assert_eq!(settled(Some(0), Some(1)), Some(1));
    assert_eq!(settled(None, Some(1)), Some(1));
    assert_eq!(settled(Some(1), None), None, "no longer known");
    assert_eq!(settle(Some(&with(Some(1000))), with(Some(2000)), false).connections, Some(1000), "too soon");
}

#[test]
fn an_unreadable_spec_keeps_what_was_known() {
    let before = assessed(&seen(rollout(1, 1), vec![pod(1, true)]));
    let failure = Failure { reason: "InvalidSpec", message: "spec.pod.env: not a list".into() };
    let status = refuse(Some(&before), Some(4), &failure, at(9));
    assert_eq!(verdict(&status, READY), ("False", "InvalidSpec"));
    assert_eq!(verdict(&status, AVAILABLE), ("True", "PodsReady"));
    assert_eq!((status.observed_generation, status.connections), (Some(4), Some(1)));
    assert_eq!(status.conditions.len(), 4);
    assert_eq!(refuse(Some(&status), Some(4), &failure, at(10)), status, "nothing to write");
}

#[test]
fn long_messages_are_cut_between_characters() {
    assert_eq!(clipped("short".into()), "short");
    let cut = clipped("é".repeat(MAX_MESSAGE));
    assert!(cut.len() <= MAX_MESSAGE && cut.ends_with('…'));
}
