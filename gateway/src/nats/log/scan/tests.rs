use async_nats::HeaderMap;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cursor::Epoch;
use crate::event::{Delivery, Entry, Message, Rules, Source};
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

/// A page with an event of so many bytes at each sequence that is a multiple of `every`.
fn page(from: u64, upto: u64, every: u64, bytes: usize) -> Page {
    let mut draft = Draft::new(from);
    let payload = Bytes::from(vec![b'x'; bytes]);
    for sequence in (from..=upto).filter(|sequence| sequence.is_multiple_of(every)) {
        let message =
            Message::new(sequence, "p.t.all".into(), &HeaderMap::new(), payload.clone(), Source::Annotated);
        draft.push(Entry::new(message));
    }
    draft.skip_to(upto + 1);
    draft.finish("p", None)
}

fn wait(scan: &mut Scan, after: u64) -> (Id, Receiver<Answer>) {
    match scan.ask(search(after)) {
        Asked::Wait(id, receiver) => (id, receiver),
        Asked::Found(found) => panic!("{after}: {found:?}"),
    }
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
    assert!(matches!(scan.ask(search(5000)), Asked::Found(found) if told(&found).0 == [5001]));
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
    assert_eq!((scan.found, scan.places.len(), scan.waiting.len()), (0, 0, 0));
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
        assert!(matches!(scan.ask(search(999)), Asked::Found(_)), "what is used stays");
        held = held.max(scan.kept.bytes);
    }
    assert!(held <= KEPT_BYTES + 3 * 1024 * 1024, "{held}");
    assert!(matches!(scan.ask(search(1999)), Asked::Wait(..)));
}

#[test]
fn what_searches_have_found_is_bounded_and_handed_out() {
    let mut scan = Scan::default();
    let mut receivers: Vec<_> = (0..2000).map(|_| wait(&mut scan, 0).1).collect();
    let mut most = 0;
    while let Some(read) = scan.next_read() {
        let from = read.from;
        serve(&mut scan, read, page(read.from, read.upto, 10_000, 14_000));
        most = most.max(scan.found);
        if from > 10_000 {
            break;
        }
    }
    assert!(most <= FOUND_BYTES, "{most}");
    let served = receivers.iter_mut().filter_map(got).filter(|(events, _)| *events == [10_000]).count();
    assert!((1000..2000).contains(&served), "{served} have what was found");
}

#[test]
fn a_failed_read_fails_its_waiters_and_can_be_tried_again() {
    let mut scan = Scan::default();
    let mut waiting = wait(&mut scan, 9).1;
    let read = scan.next_read().expect("a read");
    scan.finish(read, Err(LogError::TimedOut));
    assert!(matches!(waiting.try_recv(), Ok(Err(LogError::TimedOut))));
    let mut again = wait(&mut scan, 9).1;
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    let read = scan.next_read().expect("a read");
    scan.finish(read, Err(LogError::TimedOut));
    assert_eq!(got(&mut again), Some((vec![5000], read.from - 1)), "what was found before is not lost");
}

#[test]
fn who_leaves_leaves_no_trace_and_takes_what_was_found() {
    let mut scan = Scan::default();
    let (id, _receiver) = wait(&mut scan, 9);
    assert!(scan.withdraw(id).is_none());
    assert_eq!((scan.places.len(), scan.waiting.len(), scan.next_read()), (0, 0, None));
    let (id, _receiver) = wait(&mut scan, 9);
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    assert_eq!(scan.withdraw(id).map(|found| told(&found)), Some((vec![5000], read.upto)));
    assert_eq!((scan.places.len(), scan.waiting.len(), scan.found), (0, 0, 0));
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
    assert!(matches!(scan.ask(search(9)), Asked::Wait(..)), "nothing is kept of it");
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
    assert!(matches!(scan.ask(search(19_998)), Asked::Found(found) if found.trimmed && found.upto == 19_999));
    assert!(matches!(scan.ask(search(19_999)), Asked::Wait(..)));
}

#[test]
fn what_was_found_before_the_log_was_trimmed_comes_before_the_word_of_it() {
    let mut scan = Scan::default();
    let mut waiting = wait(&mut scan, 0).1;
    let read = scan.next_read().expect("a read");
    serve(&mut scan, read, page(read.from, read.upto, 5000, 10));
    let read = scan.next_read().expect("a read");
    let mut draft = Draft::new(read.from);
    draft.skip_to(read.upto + 1);
    serve(&mut scan, read, draft.finish("p", Some(20_000)));
    assert_eq!(got(&mut waiting), Some((vec![5000], read.from - 1)));
    assert!(matches!(scan.ask(search(read.from - 1)), Asked::Found(found) if found.trimmed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Clients with random cursors that all follow the log to its end.
    #[test]
    fn random_cursors_cost_about_two_sweeps_and_nobody_misses_an_event(
        cursors in proptest::collection::vec(1u64..HEAD, 1..200),
        every in 200u64..2000,
        lag in 0usize..50,
    ) {
        let mut scan = Scan::default();
        let (mut reads, mut turn) = (0u64, 0usize);
        // Clients that are at work on what they got, until their turn comes, and what they look for next.
        let mut busy: Vec<(usize, u64, u64)> =
            cursors.iter().enumerate().map(|(at, cursor)| (at % (lag + 1), *cursor, *cursor)).collect();
        let mut waiting: Vec<(u64, u64, Receiver<Answer>)> = Vec::new();
        while !busy.is_empty() || !waiting.is_empty() {
            turn += 1;
            prop_assert!(turn < 10_000, "no end");
            let (due, later): (Vec<_>, Vec<_>) = busy.into_iter().partition(|(at, ..)| *at <= turn);
            busy = later;
            let mut answers = Vec::new();
            for (_, after, last) in due {
                match scan.ask(search(after)) {
                    Asked::Found(found) => answers.push((after, last, told(&found))),
                    Asked::Wait(_, receiver) => waiting.push((after, last, receiver)),
                }
            }
            if let Some(read) = scan.next_read() {
                reads += 1;
                scan.finish(read, Ok(page(read.from, read.upto, every, 100)));
            }
            while scan.serve(7) {}
            let mut still = Vec::new();
            for (after, last, mut receiver) in waiting {
                match got(&mut receiver) {
                    Some(answer) => answers.push((after, last, answer)),
                    None => still.push((after, last, receiver)),
                }
            }
            waiting = still;
            for (after, mut last, (events, upto)) in answers {
                prop_assert!(upto > after, "it does not come on");
                for sequence in events {
                    prop_assert_eq!(sequence, (last / every + 1) * every, "the next event");
                    last = sequence;
                }
                prop_assert!(upto < (last / every + 1) * every, "an event was passed over");
                if upto < HEAD {
                    busy.push((turn + usize::try_from(after).expect("small") % (lag + 1), upto, last));
                }
            }
        }
        let sweep = HEAD / SPAN + 1;
        prop_assert!(reads <= 3 * sweep, "{reads} reads, a sweep has {sweep}");
    }
}
