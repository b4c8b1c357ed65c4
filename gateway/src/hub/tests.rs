//! The hub with plain values: what a connection gets, wherever it begins.

use async_nats::HeaderMap;
use bytes::Bytes;
use proptest::prelude::*;
use sse_crds::delivery::OverflowPolicy;

use super::*;
use crate::connection::outbox::{Item, Next};
use crate::event::{Message, Source};

const EPOCH: Epoch = Epoch(7);

fn hub() -> Arc<Hub> {
    let hub = Hub::new("sse".into(), Rules { default_event_type: "message".into(), max_payload: 100 });
    hub.begin(EPOCH, 0);
    hub
}

fn push(hub: &Hub, sequence: u64, subject: &str) {
    let message = Message::new(sequence, subject.into(), &HeaderMap::new(), Bytes::new(), Source::Annotated);
    hub.push(Entry::new(message));
}

fn member(tenant: &str, user: &str) -> Membership {
    let token = |text| Token::encode(text).expect("a short id");
    Membership { tenant: token(tenant), user: token(user) }
}

fn join(hub: &Arc<Hub>, membership: Membership, capacity: usize, start: Start) -> (Registration, Standing) {
    hub.register(membership, Outbox::new(capacity, OverflowPolicy::CatchUp), start)
        .expect("the hub has begun")
}

/// What a writer that is never slow sees until there is nothing more to do.
fn drain(registration: &Registration) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        match registration.outbox.next() {
            Next::Write(items) => seen.extend(items.iter().filter_map(|item| match item {
                Item::Event(delivery) => Some(delivery.sequence),
                Item::Reset(..) => None,
            })),
            Next::Fetch(after) => match registration.resume(after) {
                Resume::Live { events, .. } | Resume::More { events, .. } => {
                    seen.extend(events.iter().map(|delivery| delivery.sequence));
                }
                Resume::Log { .. } | Resume::Ahead | Resume::Nothing => return seen,
            },
            Next::Wait | Next::Overflow => return seen,
        }
    }
}

#[test]
fn an_event_reaches_its_user_and_its_tenant_and_nobody_else() {
    let hub = hub();
    let (alice, _) = join(&hub, member("acme", "alice"), 10, Start::Now);
    let (bob, _) = join(&hub, member("acme", "bob"), 10, Start::Now);
    let (eve, _) = join(&hub, member("other", "alice"), 10, Start::Now);
    push(&hub, 1, "sse.acme.user.alice");
    push(&hub, 2, "sse.acme.all");
    push(&hub, 3, "sse._sys.pod");
    assert_eq!((drain(&alice), drain(&bob), drain(&eve)), (vec![1, 2], vec![2], vec![]));
    drop((alice, bob, eve));
    assert!(hub.state().index.is_empty());
}

#[test]
fn a_cursor_of_another_life_is_answered_with_a_reset() {
    let hub = hub();
    push(&hub, 1, "sse.t.all");
    let (_, old) = join(&hub, member("t", "u"), 10, Start::After(Cursor::new(Epoch(1), 1)));
    assert_eq!(old, Standing { position: Cursor::new(EPOCH, 1), reset: Some(Reset::Epoch) });
    let (_, none) = join(&hub, member("t", "u"), 10, Start::Invalid);
    assert_eq!(none.reset, Some(Reset::Invalid));
}

#[test]
fn a_client_that_is_ahead_of_this_pod_waits_and_sees_nothing_twice() {
    let hub = hub();
    push(&hub, 1, "sse.t.all");
    let (client, _) = join(&hub, member("t", "u"), 10, Start::After(Cursor::new(EPOCH, 3)));
    assert!(matches!(client.resume(3), Resume::Ahead));
    (2..=5).for_each(|sequence| push(&hub, sequence, "sse.t.all"));
    assert_eq!(drain(&client), [4, 5]);
}

#[test]
fn open_streams_are_told_when_the_log_is_another_one() {
    let hub = hub();
    let (client, _) = join(&hub, member("t", "u"), 10, Start::Now);
    hub.begin(Epoch(8), 4);
    let told = Item::Reset(Reset::Epoch, Cursor::new(Epoch(8), 4));
    assert_eq!(client.outbox.next(), Next::Write(vec![told]));
}

#[test]
fn what_the_ring_lost_is_read_from_the_log() {
    let hub = hub();
    hub.begin(EPOCH, 100);
    let (client, _) = join(&hub, member("t", "u"), 10, Start::After(Cursor::new(EPOCH, 50)));
    assert!(matches!(client.resume(50), Resume::Log { upto: 100 }));
}

proptest! {
    /// Whatever the order of publishing, leaving, coming back and reading: each event once, in order.
    #[test]
    fn nothing_is_missed_and_nothing_comes_twice(
        steps in proptest::collection::vec((0u8..5, 0usize..3), 1..200),
        capacity in 1usize..5,
    ) {
        let hub = hub();
        let subjects = ["sse.t.user.u", "sse.t.all", "sse.t.user.other"];
        let (mut client, _) = join(&hub, member("t", "u"), capacity, Start::Now);
        let (mut seen, mut sequence, mut expected) = (Vec::new(), 0, Vec::new());
        for (step, subject) in steps {
            match step {
                0..=2 => {
                    sequence += 1;
                    push(&hub, sequence, subjects[subject]);
                    if subject < 2 {
                        expected.push(sequence);
                    }
                }
                3 => seen.extend(drain(&client)),
                _ => {
                    let cursor = Cursor::new(EPOCH, seen.last().copied().unwrap_or(0));
                    drop(client);
                    (client, _) = join(&hub, member("t", "u"), capacity, Start::After(cursor));
                }
            }
        }
        seen.extend(drain(&client));
        prop_assert_eq!(seen, expected);
    }
}
