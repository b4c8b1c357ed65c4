use async_nats::HeaderMap;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::event::{Message, Source};
use crate::nats::log::page::Draft;

const HEAD: u64 = 100_000;

/// A page with an event of so many bytes at each sequence.
fn page(from: u64, upto: u64, bytes: usize) -> Page {
    let mut draft = Draft::new(from);
    let payload = Bytes::from(vec![b'x'; bytes]);
    for sequence in from..=upto {
        let message =
            Message::new(sequence, "p.t.all".into(), &HeaderMap::new(), payload.clone(), Source::Annotated);
        draft.push(message);
    }
    draft.finish("p", None)
}

fn wait(scan: &mut Scan, sequence: u64) -> (Key, Receiver<Answer>) {
    match scan.ask(sequence, HEAD) {
        Asked::Wait(key, receiver) => (key, receiver),
        Asked::Page(page) => panic!("{sequence} is on {}..={}", page.from, page.upto),
    }
}

fn got(receiver: &mut Receiver<Answer>) -> Option<(u64, u64)> {
    receiver.try_recv().ok().and_then(Result::ok).map(|page| (page.from, page.upto))
}

#[test]
fn all_who_want_a_part_share_one_read_of_it() {
    let mut scan = Scan::default();
    let mut waiting: Vec<_> = [5010, 5000, 5500].map(|at| wait(&mut scan, at).1).into();
    let read = scan.next_read().expect("a read");
    assert_eq!((read.from, read.upto), (5000, 5000 + SPAN - 1));
    waiting.push(wait(&mut scan, 5999).1);
    assert_eq!(scan.next_read(), None, "what is being read is not read twice");
    scan.finish(read, Ok(page(read.from, read.upto, 1)));
    assert!(waiting.iter_mut().all(|receiver| got(receiver) == Some((read.from, read.upto))));
    assert!(matches!(scan.ask(5001, HEAD), Asked::Page(_)));
}

#[test]
fn the_scan_goes_up_and_then_begins_again_at_the_oldest() {
    let mut scan = Scan::default();
    let _first = wait(&mut scan, 50_000);
    let mut order = Vec::new();
    let mut receivers = Vec::new();
    for step in 0..4 {
        let read = scan.next_read().expect("a read");
        order.push(read.from);
        if step == 0 {
            receivers.extend([10_000, 90_000, 70_000].map(|at| wait(&mut scan, at)));
        }
        scan.finish(read, Ok(page(read.from, read.upto, 1)));
    }
    assert_eq!(order, [50_000, 70_000, 90_000, 10_000]);
}

#[test]
fn a_page_that_ends_early_serves_only_whom_it_reaches() {
    let mut scan = Scan::default();
    let (mut near, mut far) = (wait(&mut scan, 100).1, wait(&mut scan, 300).1);
    let read = scan.next_read().expect("a read");
    scan.finish(read, Ok(page(100, 149, 20_000)));
    assert_eq!((got(&mut near), got(&mut far)), (Some((100, 149)), None));
    let next = scan.next_read().expect("a read");
    assert_eq!((next.from, next.upto), (300, 349), "pages become as long as events allow");
}

#[test]
fn what_is_kept_is_bounded_in_bytes_and_the_unused_goes_first() {
    let mut scan = Scan::default();
    let mut held = 0;
    for at in 1..=80u64 {
        let _waiting = wait(&mut scan, at * 1000);
        let read = scan.next_read().expect("a read");
        scan.finish(read, Ok(page(at * 1000, at * 1000, 1024 * 1024)));
        assert!(matches!(scan.ask(1000, HEAD), Asked::Page(_)), "what is used stays");
        held = held.max(scan.kept.bytes);
    }
    assert!(held <= KEPT_BYTES + 3 * 1024 * 1024, "{held}");
    assert!(matches!(scan.ask(2000, HEAD), Asked::Wait(..)));
}

#[test]
fn a_failed_read_fails_its_waiters_and_can_be_tried_again() {
    let mut scan = Scan::default();
    let mut waiting = wait(&mut scan, 10).1;
    let read = scan.next_read().expect("a read");
    scan.finish(read, Err(LogError::TimedOut));
    assert!(matches!(waiting.try_recv(), Ok(Err(LogError::TimedOut))));
    let _again = wait(&mut scan, 10);
    assert!(scan.next_read().is_some());
}

#[test]
fn who_leaves_leaves_no_trace() {
    let mut scan = Scan::default();
    let (key, _receiver) = wait(&mut scan, 10);
    scan.withdraw(key);
    assert!(scan.demands.is_empty());
    assert_eq!(scan.next_read(), None);
}

#[test]
fn what_was_read_of_a_former_log_is_never_handed_out() {
    let mut scan = Scan::default();
    let mut before = wait(&mut scan, 10).1;
    let read = scan.next_read().expect("a read");
    scan.forget();
    assert!(matches!(before.try_recv(), Ok(Err(LogError::Remade))));
    let mut after = wait(&mut scan, 10).1;
    scan.finish(read, Ok(page(read.from, read.upto, 1)));
    assert_eq!(got(&mut after), None);
    assert!(matches!(scan.ask(10, HEAD), Asked::Wait(..)), "nothing is kept of it");
    assert_ne!(scan.next_read().expect("a read").generation, read.generation);
}

#[test]
fn what_the_log_does_not_have_any_more_is_read_once() {
    let mut scan = Scan::default();
    let (mut one, mut other) = (wait(&mut scan, 10).1, wait(&mut scan, 15_000).1);
    let read = scan.next_read().expect("a read");
    let mut draft = Draft::new(read.from);
    draft.skip_to(read.upto + 1);
    scan.finish(read, Ok(draft.finish("p", Some(20_000))));
    let trimmed = |answer: Answer| answer.ok().and_then(|page| page.trimmed_to);
    assert_eq!(one.try_recv().ok().and_then(trimmed), Some(20_000));
    assert_eq!(other.try_recv().ok().and_then(trimmed), Some(20_000));
    assert!(matches!(scan.ask(19_999, HEAD), Asked::Page(page) if page.trimmed_to == Some(20_000)));
    assert!(matches!(scan.ask(20_000, HEAD), Asked::Wait(..)));
}

/// A page without events: quick to make.
fn bare(from: u64, upto: u64) -> Page {
    let mut draft = Draft::new(from);
    draft.skip_to(upto + 1);
    draft.finish("p", None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Clients with random cursors that all follow the log to its end.
    #[test]
    fn random_cursors_cost_about_two_sweeps_and_nobody_misses_a_sequence(
        cursors in proptest::collection::vec(1u64..HEAD, 1..200),
        lag in 0usize..50,
    ) {
        let mut scan = Scan::default();
        let (mut reads, mut turn) = (0u64, 0usize);
        // Clients that are at work on a page, until their turn comes.
        let mut busy: Vec<(usize, u64)> =
            cursors.iter().enumerate().map(|(at, cursor)| (at % (lag + 1), *cursor)).collect();
        let mut waiting: Vec<(u64, Receiver<Answer>)> = Vec::new();
        while !busy.is_empty() || !waiting.is_empty() {
            turn += 1;
            let (due, later): (Vec<_>, Vec<_>) = busy.into_iter().partition(|(at, _)| *at <= turn);
            busy = later;
            for (_, mut next) in due {
                while next <= HEAD {
                    match scan.ask(next, HEAD) {
                        Asked::Page(page) => {
                            prop_assert!((page.from..=page.upto).contains(&next));
                            next = page.upto + 1;
                        }
                        Asked::Wait(_, receiver) => {
                            waiting.push((next, receiver));
                            break;
                        }
                    }
                }
            }
            if let Some(read) = scan.next_read() {
                reads += 1;
                scan.finish(read, Ok(bare(read.from, read.upto)));
            }
            let mut still = Vec::new();
            for (next, mut receiver) in waiting {
                match got(&mut receiver) {
                    Some((from, upto)) => {
                        prop_assert!((from..=upto).contains(&next));
                        if upto < HEAD {
                            busy.push((turn + usize::try_from(next).expect("small") % (lag + 1), upto + 1));
                        }
                    }
                    None => still.push((next, receiver)),
                }
            }
            waiting = still;
        }
        let sweep = HEAD / SPAN + 1;
        prop_assert!(reads <= 3 * sweep, "{reads} reads, a sweep has {sweep}");
    }
}
