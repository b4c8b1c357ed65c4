//! The hub with plain values: what a connection gets, wherever it begins.

use std::collections::BTreeMap;
use std::future::poll_fn;

use async_nats::HeaderMap;
use bytes::Bytes;
use proptest::prelude::*;
use sse_crds::delivery::OverflowPolicy;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::connection::line::{Line, Slot};
use crate::connection::outbox::{Item, Next};
use crate::event::{Delivery, Message, Source};
use crate::nats::log::Listens as _;
use crate::postings::Postings;
use crate::subject::{self, Pattern, Token};
use crate::telemetry::Telemetry;
use crate::wire;

const EPOCH: Epoch = Epoch(7);

fn hub() -> Arc<Hub> {
    let rules = Rules {
        prefix: "sse".into(),
        default_event_type: "message".into(),
        max_payload: 100,
        platform: true,
        ids: true,
    };
    let hub = Hub::new(rules, 4);
    hub.begin(EPOCH, 0);
    hub
}

fn push(hub: &Hub, sequence: u64, subject: &str) {
    let message = Message::new(sequence, subject.into(), &HeaderMap::new(), Bytes::new(), Source::Annotated);
    hub.push(&Entry::new(message)).expect("an event");
}

fn member(tenant: &str, user: &str) -> Membership {
    let token = |text| Token::encode(text).expect("a short id");
    Membership {
        connection: ConnectionId::random(),
        tenant: token(tenant),
        user: token(user),
        topics: Vec::new(),
        tags: BTreeMap::new(),
        opened: 0,
    }
}

fn topics(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
}

fn outbox(capacity: usize) -> Arc<Outbox> {
    Outbox::new(capacity, OverflowPolicy::CatchUp, Telemetry::counting().observer())
}

fn join(hub: &Arc<Hub>, membership: Membership, capacity: usize, start: Start) -> (Registration, Standing) {
    hub.register(membership, outbox(capacity), start, Asks::default()).expect("the hub has begun")
}

/// What a writer that is never slow sees until there is nothing more to do.
fn drain(registration: &Registration) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let head = registration.hub.head();
        match registration.outbox.next(head) {
            Next::Write(items) => seen.extend(items.iter().filter_map(|item| match item {
                Item::Event(delivery) => Some(delivery.sequence),
                Item::Reset(..) | Item::Gap(_) => None,
            })),
            Next::Fetch(after) => match registration.resume(after) {
                Resume::Live { events, .. } | Resume::More { events, .. } => {
                    seen.extend(events.iter().map(|delivery| delivery.sequence));
                }
                Resume::Log { .. } | Resume::Ahead | Resume::Nothing => return seen,
            },
            Next::Ping => {}
            Next::Wait | Next::End(_) => return seen,
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
fn back_ends_change_what_a_connection_listens_to() {
    let hub = hub();
    let (alice, _) = join(&hub, member("t", "alice"), 10, Start::Now);
    let (bob, _) = join(&hub, member("t", "bob"), 10, Start::Now);
    let target = Target::User { tenant: "t", user: "alice" };
    assert_eq!(hub.control(&target, &Operation::Join { topics: topics(&["a", "b.*", "c", "d", "e"]) }), 1);
    push(&hub, 1, "sse.t.topic.b.x");
    push(&hub, 2, "sse.t.topic.e"); // one more than it may have
    assert_eq!((drain(&alice), drain(&bob)), (vec![1], vec![]));
    hub.control(&Target::Tenant { tenant: "t" }, &Operation::Leave { topics: topics(&["b.*"]) });
    push(&hub, 3, "sse.t.topic.b.x");
    push(&hub, 4, "sse.t.topic.a");
    assert_eq!(drain(&alice), [4]);
    assert_eq!(hub.control(&Target::User { tenant: "other", user: "alice" }, &Operation::Ping), 0);
    let target = Target::Connection { tenant: "t", id: bob.connection };
    let tag = |value: Option<&str>| [("plan".to_owned(), value.map(str::to_owned))].into();
    hub.control(&target, &Operation::Tag { tags: tag(Some("gold")) });
    let tags = |hub: &Hub| hub.page(None, 9).iter().map(|m| m.tags.len()).sum::<usize>();
    assert_eq!(tags(&hub), 1);
    hub.control(&target, &Operation::Tag { tags: tag(None) });
    assert_eq!(tags(&hub), 0);
    hub.control(&target, &Operation::Disconnect { reason: String::new() });
    assert_eq!((bob.outbox.next(0), alice.outbox.next(0)), (Next::End(End::Control), Next::Wait));
    drop((alice, bob));
    assert!(hub.state().index.is_empty());
}

#[test]
fn what_is_refused_reaches_nobody_and_is_passed_over() {
    let hub = hub();
    let (alice, standing) = join(&hub, member("t", "u"), 10, Start::Now);
    let message = |sequence, subject: &str| {
        Entry::new(Message::new(sequence, subject.into(), &HeaderMap::new(), Bytes::new(), Source::Annotated))
    };
    assert!(hub.push(&message(1, "sse.t.users")).is_err());
    assert!(hub.push(&message(2, "sse.T%74.all")).is_err());
    push(&hub, 3, "sse.t.all");
    assert_eq!((drain(&alice), hub.head()), (vec![3], 3));
    let (back, _) = join(&hub, member("t", "u"), 10, Start::After(standing.position));
    assert_eq!(drain(&back), [3]);
}

/// An event's subject and list, and a listener, from names that are easily mistaken for one another.
fn names() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["a", "b", "ab", "a%2Eb", "users", "all", "A"])
}

fn event() -> impl Strategy<Value = (String, HeaderMap)> {
    let list = proptest::collection::vec(names(), 1..4);
    (0u8..6, names(), names(), list).prop_map(|(kind, tenant, name, list)| {
        let rest = match kind {
            0 => format!("user.{name}"),
            1 => "users".into(),
            2 => format!("topic.{name}.{name}").to_lowercase().replace("%2e", "x"),
            3 => "topics".into(),
            4 => "all".into(),
            _ => return ("sse._platform.all".into(), HeaderMap::new()),
        };
        let list = list.join(",");
        let mut headers = HeaderMap::new();
        headers.insert("Sse-Users", list.as_str());
        headers.insert("Sse-Topics", list.to_lowercase().replace("%2e", "x").as_str());
        (format!("sse.{tenant}.{rest}"), headers)
    })
}

proptest! {
    /// Live, from the ring and from the log: the same receivers, each once; never another tenant's.
    #[test]
    fn live_and_replay_agree_on_who_receives(
        events in proptest::collection::vec(event(), 1..20),
        listeners in proptest::collection::vec((names(), names(), proptest::collection::vec(
            proptest::sample::select(vec!["a", "a.a", "*", "*.*", ">", "ab.>", "users"]), 0..4)), 1..8),
    ) {
        let hub = hub();
        let members: Vec<Membership> = listeners
            .iter()
            .map(|(tenant, user, patterns)| {
                let decode = |text: &str| subject::token::decode(text).expect("canonical");
                let mut topics = topics(patterns);
                topics.sort();
                topics.dedup();
                Membership { topics, ..member(&decode(tenant), &decode(user)) }
            })
            .collect();
        let live: Vec<_> = members.iter().map(|m| join(&hub, m.clone(), 100, Start::Now).0).collect();
        let (mut entries, mut postings) = (Vec::new(), Postings::default());
        for (place, (subject, headers)) in events.iter().enumerate() {
            let sequence = u64::try_from(place).expect("small") + 1;
            let message =
                Message::new(sequence, subject.as_str().into(), headers, Bytes::new(), Source::Annotated);
            entries.push(Entry::new(message));
            postings.push(place, "sse", subject);
            let _ = hub.push(&entries[entries.len() - 1]);
        }
        for ((registration, membership), (tenant, ..)) in live.iter().zip(&members).zip(&listeners) {
            let seen = drain(registration);
            let cursor = Start::After(Cursor::new(EPOCH, 0));
            let again = Membership { connection: ConnectionId::random(), ..membership.clone() };
            let (back, _) = join(&hub, again, 3, cursor);
            let sequences = |events: &[Arc<Delivery>]| events.iter().map(|e| e.sequence).collect::<Vec<_>>();
            prop_assert_eq!(&drain(&back), &seen);
            let listener = registration.listener(None).expect("the hub has begun");
            let read: Vec<_> = postings
                .merge(listener.subjects(), 0)
                .filter_map(|place| listener.delivery(&entries[place]))
                .collect();
            prop_assert_eq!(&sequences(&read), &seen);
            for sequence in seen {
                let subject = &entries[usize::try_from(sequence).expect("small") - 1].message.subject;
                let own = subject.starts_with(&format!("sse.{tenant}."));
                prop_assert!(own || subject.as_str() == "sse._platform.all", "{} for {}", subject, tenant);
            }
        }
    }
}

#[test]
fn whoever_waits_for_history_is_behind_and_others_are_as_ever() {
    let hub = hub();
    push(&hub, 1, "sse.t.all");
    let asks = Asks { strangers: true, first: true };
    let place = |start, asks| {
        let (registration, standing) =
            hub.register(member("t", "u"), outbox(10), start, asks).expect("the hub has begun");
        (standing.history, standing.reset, registration.outbox.is_behind(1))
    };
    let (known, strange) = (Start::After(Cursor::new(EPOCH, 1)), Start::After(Cursor::new(Epoch(1), 1)));
    assert_eq!(place(Start::Now, asks), (true, None, true));
    assert_eq!(place(Start::Invalid, asks), (true, Some(Reset::Invalid), true));
    assert_eq!(place(strange, asks), (true, Some(Reset::Epoch), true));
    assert_eq!(place(known, asks), (false, None, false));
    let asks = Asks { first: false, ..asks };
    assert_eq!(place(Start::Now, asks), (false, None, false));
    assert_eq!(place(strange, Asks::default()), (false, Some(Reset::Epoch), false));
}

#[test]
fn a_cursor_of_another_life_is_answered_with_a_reset() {
    let hub = hub();
    push(&hub, 1, "sse.t.all");
    let (_, old) = join(&hub, member("t", "u"), 10, Start::After(Cursor::new(Epoch(1), 1)));
    assert_eq!(old, Standing { position: Cursor::new(EPOCH, 1), reset: Some(Reset::Epoch), history: false });
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
    assert_eq!(client.outbox.next(0), Next::Write(vec![told]));
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

#[test]
fn who_comes_and_goes_while_events_are_handed_out_misses_nothing_and_sees_nothing_twice() {
    const EVENTS: u64 = 1_000;
    let hub = hub();
    // Handing out takes a while.
    let others: Vec<_> =
        (0..3000).map(|i| join(&hub, member("acme", &format!("other-{i}")), 0, Start::Now)).collect();
    let one_client = |hub: Arc<Hub>| {
        let (mut seen, mut cursor) = (Vec::new(), Cursor::new(EPOCH, 0));
        while cursor.sequence < EVENTS {
            let (registration, _) = join(&hub, member("acme", "alice"), 3, Start::After(cursor));
            // A few rounds, until it leaves again.
            for _ in 0..rand::random_range(1..20) {
                seen.extend(drain(&registration));
            }
            let last = seen.last().copied().unwrap_or(0);
            cursor.sequence = last.max(registration.outbox.writer(|writer| writer.position()).sequence);
        }
        seen
    };
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let hub = hub.clone();
            std::thread::spawn(move || one_client(hub))
        })
        .collect();
    for sequence in 1..=EVENTS {
        // Alone, or a few together.
        if sequence % 16 < 8 {
            hub.cork();
        } else {
            hub.uncork();
        }
        push(&hub, sequence, "sse.acme.all");
    }
    hub.uncork();
    for client in clients {
        assert_eq!(client.join().expect("no panic"), (1..=EVENTS).collect::<Vec<_>>());
    }
    drop(others);
}

/// Has a line, and waits for something to do.
async fn rest(outbox: &Outbox) {
    let token = CancellationToken::new();
    let line = Line::Slot(Slot::new(token.clone(), token, &wire::connected()));
    outbox.open(line, Cursor::new(EPOCH, 0));
    poll_fn(|context| outbox.poll_take(context)).await;
    assert!(futures::poll!(std::pin::pin!(outbox.woken())).is_pending());
}

#[tokio::test]
async fn only_old_streams_at_rest_are_let_go_of_and_no_more_than_are_to_go() {
    let hub = hub();
    let opened = |opened| Membership { opened, ..member("t", "u") };
    let join = |membership| join(&hub, membership, 10, Start::Now).0;
    let (old, young): (Vec<_>, Vec<_>) = (0..4).map(|_| (join(opened(99)), join(opened(100)))).unzip();
    assert_eq!(hub.let_go(3, 100), 0, "none has a line");
    for registration in old.iter().chain(&young) {
        rest(&registration.outbox).await;
    }
    let ended = |all: &[Registration]| {
        let ends = |one: &&Registration| one.outbox.next(0) == Next::End(End::Rebalance);
        all.iter().filter(ends).count()
    };
    assert_eq!((hub.let_go(3, 100), ended(&old)), (3, 3));
    assert_eq!((hub.let_go(3, 100), ended(&old)), (1, 4));
    assert_eq!((hub.let_go(3, 100), ended(&young)), (0, 0));
}
