use async_nats::HeaderMap;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cursor::Epoch;
use crate::event::{Delivery, Entry, Message, Rules, Source};
use crate::nats::log::kept::KEPT_BYTES;
use crate::nats::log::page::Draft;
use crate::nats::log::search::Listens;
use crate::postings::Key;

const HEAD: u64 = 100_000;

/// Who wants everything on one subject.
struct Everything(Rules, Vec<Key>);

impl Listens for Everything {
    fn subjects(&self) -> &[Key] {
        &self.1
    }

    fn delivery(&self, entry: &Arc<Entry>) -> Option<Arc<Delivery>> {
        entry.delivery(&self.0, Epoch(1)).cloned()
    }
}

fn search(after: u64) -> Search {
    let rules = Rules {
        prefix: "p".into(),
        default_event_type: "message".into(),
        max_payload: usize::MAX,
        platform: false,
        ids: true,
    };
    Search::new(Arc::new(Everything(rules, vec!["p.t.all".to_owned().into()])), after, HEAD)
}

fn event(sequence: u64, subject: &'static str, payload: Bytes) -> Arc<Entry> {
    Entry::new(Message::new(sequence, subject.into(), &HeaderMap::new(), payload, Source::Annotated))
}

/// A page with an event of so many bytes at each sequence that is a multiple of `every`.
fn draft(from: u64, upto: u64, every: u64, bytes: usize) -> Draft {
    let mut draft = Draft::new(from);
    let payload = Bytes::from(vec![b'x'; bytes]);
    for sequence in (from..=upto).filter(|sequence| sequence.is_multiple_of(every)) {
        draft.push(event(sequence, "p.t.all", payload.clone()));
    }
    draft
}

fn page(from: u64, upto: u64, every: u64, bytes: usize) -> Page {
    let mut draft = draft(from, upto, every, bytes);
    draft.skip_to(upto + 1);
    draft.finish("p", None)
}

/// The same, so large that no other page is kept beside it, by an event for somebody else.
fn bulky(from: u64, upto: u64, every: u64, bytes: usize, bulk: &Bytes) -> Page {
    if upto.is_multiple_of(every) {
        return page(from, upto, every, bytes);
    }
    let mut draft = draft(from, upto - 1, every, bytes);
    draft.push(event(upto, "p.t.user.other", bulk.clone()));
    draft.finish("p", None)
}

fn wait(scan: &mut Scan, after: u64) -> (Id, Receiver<Answer>) {
    let (id, mut receiver) = begin(scan, after);
    assert_eq!(got(&mut receiver), None);
    (id, receiver)
}

fn begin(scan: &mut Scan, after: u64) -> (Id, Receiver<Answer>) {
    let id = scan.begin(search(after));
    (id, scan.ask(id))
}

fn serve(scan: &mut Scan, read: Read, page: Page) {
    scan.finish(read, Ok(page));
    while scan.serve(1) {}
}

/// The events that an answer has, and up to where.
fn told(found: &Found) -> (Vec<u64>, u64) {
    (found.events.iter().map(|delivery| delivery.sequence).collect(), found.upto)
}

fn got(receiver: &mut Receiver<Answer>) -> Option<(Vec<u64>, u64)> {
    receiver.try_recv().ok().and_then(Result::ok).map(|found| told(&found))
}

#[test]
fn all_who_want_a_part_share_one_read_of_it() {
    let mut scan = Scan::default();
    let mut waiting: Vec<_> = [5009, 4999, 5499].map(|at| wait(&mut scan, at).1).into();
    let read = scan.next_read().expect("a read");
    assert_eq!((read.from, read.upto), (5000, 5000 + SPAN - 1));
    waiting.push(wait(&mut scan, 5998).1);
    assert_eq!(scan.next_read(), None, "what is being read is not read twice");
    serve(&mut scan, read, page(read.from, read.upto, 1, 20_000));
    let answers: Vec<_> = waiting.iter_mut().filter_map(got).collect();
    assert_eq!(answers, [5010, 5000, 5500, 5999].map(|at| (vec![at], at)), "as much as is enough for each");
    assert_eq!(got(&mut begin(&mut scan, 5000).1), Some((vec![5001], 5001)), "what is kept is there at once");
}

#[test]
fn a_search_rides_along_until_it_has_enough_or_is_at_its_end() {
    let mut scan = Scan::default();
    let mut rare = wait(&mut scan, 40_000).1;
    let mut next = 40_001;
    while let Some(read) = scan.next_read() {
        assert_eq!(read.from, next);
        next = read.upto + 1;
        serve(&mut scan, read, page(read.from, read.upto, 30_000, 10));
    }
    assert_eq!((next, got(&mut rare)), (HEAD + 1, Some((vec![60_000, 90_000], HEAD))));
    assert_eq!((scan.found, scan.places.len(), scan.riders.len()), (0, 0, 0));
}

#[test]
fn the_scan_goes_up_and_then_begins_again_at_the_oldest() {
    let mut scan = Scan::default();
    let _first = wait(&mut scan, 49_999);
    let mut order = Vec::new();
    let mut receivers = Vec::new();
    for step in 0..4 {
        let read = scan.next_read().expect("a read");
        order.push(read.from);
        if step == 0 {
            receivers.extend([9_999, 89_999, 69_999].map(|at| wait(&mut scan, at)));
        }
        serve(&mut scan, read, page(read.from, read.upto, 1, 200));
    }
    assert_eq!(order, [50_000, 70_000, 90_000, 10_000]);
}

#[test]
fn a_page_that_ends_early_serves_only_whom_it_reaches() {
    let mut scan = Scan::default();
    let (mut near, mut far) = (wait(&mut scan, 99).1, wait(&mut scan, 299).1);
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(100, 149, 1, 20_000));
    assert_eq!((got(&mut near), got(&mut far)), (Some((vec![100], 100)), None));
    let next = scan.next_read().expect("a read");
    assert_eq!((next.from, next.upto), (300, 349), "pages become as long as events allow");
}

#[test]
fn what_is_kept_is_bounded_in_bytes_and_the_unused_goes_first() {
    let mut scan = Scan::default();
    let mut held = 0;
    for at in 1..=80u64 {
        let _waiting = wait(&mut scan, at * 1000 - 1);
        let read = scan.next_read().expect("a read");
        serve(&mut scan, read, page(at * 1000, at * 1000, 1, 1024 * 1024));
        assert!(got(&mut begin(&mut scan, 999).1).is_some(), "what is used stays");
        held = held.max(scan.kept.bytes);
    }
    assert!(held <= KEPT_BYTES + 3 * 1024 * 1024, "{held}");
    wait(&mut scan, 1999);
}

#[test]
fn a_search_goes_on_while_its_client_is_at_work() {
    let mut scan = Scan::default();
    let bulk = Bytes::from(vec![b'x'; KEPT_BYTES]);
    let (quick, mut receiver) = wait(&mut scan, 0);
    let (slow, _receiver) = wait(&mut scan, 0);
    let (mut taken, mut next) = (Vec::new(), 1);
    while let Some(read) = scan.next_read() {
        assert_eq!(read.from, next, "no page is read again");
        next = read.upto + 1;
        serve(&mut scan, read, bulky(read.from, read.upto, 9001, 2000, &bulk));
        if got(&mut receiver).is_some() {
            receiver = scan.ask(quick);
        }
        // It comes when the sweep is elsewhere, and only now and then.
        if read.from > 30_000
            && let Some(found) = scan.claim(slow)
        {
            taken.extend(told(&found).0);
        }
    }
    taken.extend(got(&mut scan.ask(slow)).into_iter().flat_map(|(events, _)| events));
    assert_eq!((next, taken), (HEAD + 1, (1..=11).map(|event| event * 9001).collect()));
}

#[test]
fn nothing_is_read_that_nobody_waits_for() {
    let mut scan = Scan::default();
    let (id, mut receiver) = wait(&mut scan, 0);
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    assert_eq!(scan.claim(id).map(|found| told(&found)), Some((vec![5000], read.upto)));
    assert_eq!((got(&mut receiver), scan.next_read()), (None, None));
    let mut receiver = scan.ask(id);
    let next = scan.next_read().expect("a read");
    assert_eq!(next.from, read.upto + 1, "it goes on where it was");
    serve(&mut scan, next, page(next.from, next.upto, 5000, 20_000));
    assert_eq!(got(&mut receiver), Some((vec![10_000], 14_999)));
}

/// Clients with an event of 14,000 bytes each, of whom some wait for it.
fn crowd(clients: usize, waiting: usize) -> (Scan, Vec<(Id, Receiver<Answer>)>) {
    let mut scan = Scan::default();
    let mut all: Vec<_> = (0..clients).map(|_| wait(&mut scan, 0)).collect();
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    for (id, receiver) in &mut all[..clients - waiting] {
        *receiver = channel().1;
        assert_eq!(scan.claim(*id).map(|found| told(&found)), Some((vec![5000], read.upto)));
    }
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 10_000, 14_000));
    (scan, all)
}

#[test]
fn what_searches_have_found_is_bounded_and_handed_out() {
    let (scan, mut all) = crowd(2 * FOUND_BYTES / 14_000, 2 * FOUND_BYTES / 14_000);
    assert!(scan.found <= FOUND_BYTES, "{}", scan.found);
    let served = all.iter_mut().filter_map(|(_, receiver)| got(receiver));
    let served = served.filter(|(events, _)| *events == [5000, 10_000]).count();
    assert!(served > all.len() / 3, "{served} have what was found");
}

#[test]
fn what_slow_clients_have_found_is_bounded_and_found_again() {
    let (mut scan, all) = crowd(2 * FOUND_BYTES / 14_000, 1);
    assert!(scan.found <= FOUND_BYTES, "{}", scan.found);
    for (id, _) in &all[..all.len() - 1] {
        let mut receiver = scan.ask(*id);
        let told = got(&mut receiver).or_else(|| scan.claim(*id).map(|found| told(&found)));
        assert_eq!(told.map(|(events, _)| events), Some(vec![10_000]));
    }
}

#[test]
fn a_failed_read_fails_its_waiters_and_can_be_tried_again() {
    let mut scan = Scan::default();
    let (id, mut waiting) = wait(&mut scan, 9);
    let read = scan.next_read().expect("a read");
    scan.finish(read, Err(LogError::TimedOut));
    assert!(matches!(waiting.try_recv(), Ok(Err(LogError::TimedOut))));
    assert_eq!(scan.next_read(), None, "not before somebody asks again");
    let mut again = scan.ask(id);
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    let read = scan.next_read().expect("a read");
    scan.finish(read, Err(LogError::TimedOut));
    assert_eq!(got(&mut again), Some((vec![5000], read.from - 1)), "what was found before is not lost");
}

#[test]
fn who_leaves_leaves_no_trace() {
    let mut scan = Scan::default();
    let (id, _receiver) = wait(&mut scan, 9);
    assert!(scan.claim(id).is_none());
    scan.withdraw(id);
    assert_eq!((scan.places.len(), scan.riders.len(), scan.next_read()), (0, 0, None));
    let (id, _receiver) = wait(&mut scan, 9);
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    scan.withdraw(id);
    assert_eq!((scan.places.len(), scan.riders.len(), scan.found, scan.next_read()), (0, 0, 0, None));
}

#[test]
fn what_was_read_of_a_former_log_is_never_handed_out() {
    let mut scan = Scan::default();
    let mut before = wait(&mut scan, 9).1;
    let read = scan.next_read().expect("a read");
    scan.forget();
    assert!(matches!(before.try_recv(), Ok(Err(LogError::Remade))));
    let mut after = wait(&mut scan, 9).1;
    serve(&mut scan, read, page(read.from, read.upto, 1, 1));
    assert_eq!(got(&mut after), None);
    assert_eq!(got(&mut begin(&mut scan, 9).1), None, "nothing is kept of it");
    assert_ne!(scan.next_read().expect("a read").generation, read.generation);
}

#[test]
fn what_the_log_does_not_have_any_more_is_read_once() {
    let mut scan = Scan::default();
    let (mut one, mut other) = (wait(&mut scan, 9).1, wait(&mut scan, 14_999).1);
    let read = scan.next_read().expect("a read");
    let mut draft = Draft::new(read.from);
    draft.skip_to(read.upto + 1);
    serve(&mut scan, read, draft.finish("p", Some(20_000)));
    let trimmed = |answer: Answer| answer.ok().filter(|found| found.trimmed).map(|found| found.upto);
    assert_eq!(one.try_recv().ok().and_then(trimmed), Some(19_999));
    assert_eq!(other.try_recv().ok().and_then(trimmed), Some(19_999));
    assert_eq!(begin(&mut scan, 19_998).1.try_recv().ok().and_then(trimmed), Some(19_999));
    assert_eq!(got(&mut begin(&mut scan, 19_999).1), None);
}

#[test]
fn what_was_found_before_the_log_was_trimmed_comes_before_the_word_of_it() {
    let mut scan = Scan::default();
    let (id, mut waiting) = wait(&mut scan, 0);
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    let read = scan.next_read().expect("a read");
    let mut draft = Draft::new(read.from);
    draft.skip_to(read.upto + 1);
    serve(&mut scan, read, draft.finish("p", Some(20_000)));
    assert_eq!(got(&mut waiting), Some((vec![5000], read.from - 1)));
    assert!(matches!(scan.ask(id).try_recv(), Ok(Ok(found)) if found.trimmed && found.upto == 19_999));
    assert_eq!(scan.riders.len(), 0, "it ends with that");
}

/// Who has everything up to `after`, where the last event was `last`.
#[derive(Clone, Copy)]
struct Client {
    id: Id,
    after: u64,
    last: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Clients with random cursors that all follow the log to its end.
    #[test]
    fn random_cursors_cost_about_two_sweeps_and_nobody_misses_an_event(
        cursors in proptest::collection::vec(1u64..HEAD, 1..200),
        every in 1000u64..4000,
        lag in 0usize..6,
    ) {
        let mut scan = Scan::default();
        let (mut reads, mut turn) = (0u64, 0usize);
        let bulk = Bytes::from(vec![b'x'; KEPT_BYTES / 3]);
        let clients = cursors.iter().enumerate();
        // With what they have, until their turn comes.
        let mut busy: Vec<(usize, Client)> = clients
            .map(|(at, after)| (at % (lag + 1), Client { id: scan.begin(search(*after)), after: *after, last: *after }))
            .collect();
        let mut waiting: Vec<(Client, Receiver<Answer>)> = Vec::new();
        while !busy.is_empty() || !waiting.is_empty() {
            turn += 1;
            prop_assert!(turn < 10_000, "no end");
            let (due, later): (Vec<_>, Vec<_>) = busy.into_iter().partition(|(at, _)| *at <= turn);
            busy = later;
            for (_, mut client) in due {
                if !scan.riders.contains_key(&client.id) {
                    client.id = scan.begin(search(client.after));
                }
                let receiver = scan.ask(client.id);
                waiting.push((client, receiver));
            }
            if let Some(read) = scan.next_read() {
                reads += 1;
                scan.finish(read, Ok(bulky(read.from, read.upto, every, 100, &bulk)));
            }
            while scan.serve(7) {}
            let mut still = Vec::new();
            for (mut client, mut receiver) in waiting {
                // Some do not wait any longer.
                let claimed = || {
                    let found = scan.claim(client.id)?;
                    Some(told(&found))
                };
                let impatient = (turn + usize::try_from(client.id).expect("small")).is_multiple_of(5);
                let Some((events, upto)) = got(&mut receiver).or_else(|| impatient.then(claimed).flatten()) else {
                    still.push((client, if impatient { scan.ask(client.id) } else { receiver }));
                    continue;
                };
                prop_assert!(upto > client.after, "it does not come on");
                for sequence in events {
                    prop_assert_eq!(sequence, (client.last / every + 1) * every, "the next event");
                    client.last = sequence;
                }
                prop_assert!(upto < (client.last / every + 1) * every, "an event was passed over");
                client.after = upto;
                if upto < HEAD {
                    busy.push((turn + usize::try_from(upto).expect("small") % (lag + 1), client));
                }
            }
            waiting = still;
        }
        let sweep = HEAD / SPAN + 1;
        prop_assert!(reads <= 3 * sweep, "{reads} reads, a sweep has {sweep}");
    }
}
