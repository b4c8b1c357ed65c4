//! What a connection gets, whichever way it falls behind.

use super::*;
use crate::cursor::Epoch;
use crate::telemetry::Telemetry;
use crate::wire;

fn outbox(capacity: usize, policy: OverflowPolicy) -> Arc<Outbox> {
    Outbox::new(capacity, policy, Telemetry::counting().observer())
}

fn event(sequence: u64) -> Arc<Delivery> {
    Arc::new(Delivery { sequence, frame: wire::heartbeat(), complete: false, stored: None, origin: None })
}

fn sequences(next: &Next) -> Vec<u64> {
    let Next::Write(items) = next else { panic!("{next:?}") };
    let sequence = |item: &Item| match item {
        Item::Event(delivery) => Some(delivery.sequence),
        Item::Reset(..) | Item::Gap(_) => None,
    };
    items.iter().filter_map(sequence).collect()
}

fn filled(policy: OverflowPolicy) -> Arc<Outbox> {
    let outbox = outbox(3, policy);
    [10, 20, 30, 40, 50].into_iter().for_each(|sequence| {
        outbox.offer(&event(sequence), false);
    });
    outbox
}

#[test]
fn a_full_buffer_catches_up_from_right_after_what_it_holds() {
    let outbox = filled(OverflowPolicy::CatchUp);
    assert_eq!(sequences(&outbox.next(0)), [10, 20, 30]);
    assert_eq!(outbox.next(0), Next::Fetch(39));
    assert!(outbox.go_live(39, 50));
    assert_eq!(outbox.next(0), Next::Wait);
}

#[test]
fn large_events_fill_a_buffer_before_their_number_does() {
    let outbox = outbox(100, OverflowPolicy::CatchUp);
    let data = "x".repeat(100 * 1024);
    let frame = wire::Block { id: None, event: None, retry: None, data: &data }.encode();
    for sequence in 1..=5 {
        outbox.offer(
            &Arc::new(Delivery {
                sequence,
                frame: frame.clone(),
                complete: false,
                stored: None,
                origin: None,
            }),
            false,
        );
    }
    assert_eq!(sequences(&outbox.next(0)), [1, 2, 3]);
    assert_eq!(outbox.next(0), Next::Fetch(3));
}

#[test]
fn the_other_policies() {
    // That events are missing is told where they are.
    let Next::Write(items) = filled(OverflowPolicy::DropOldest).next(0) else { panic!("nothing to write") };
    assert_eq!(items[0], Item::Gap(Reset::Expired));
    assert_eq!(sequences(&Next::Write(items[1..].to_vec())), [30, 40, 50]);
    assert_eq!(filled(OverflowPolicy::Disconnect).next(0), Next::End(End::Overflow));
}

#[test]
fn an_event_that_comes_in_two_ways_is_taken_once() {
    let outbox = outbox(3, OverflowPolicy::CatchUp);
    [10, 10, 20, 10, 20].into_iter().for_each(|sequence| {
        outbox.offer(&event(sequence), false);
    });
    assert_eq!(sequences(&outbox.next(0)), [10, 20]);
}

#[test]
fn the_first_reason_to_end_counts_and_comes_before_all_else() {
    let outbox = filled(OverflowPolicy::CatchUp);
    outbox.ping();
    outbox.end(End::Control);
    outbox.end(End::Overflow);
    assert_eq!(outbox.next(0), Next::End(End::Control));
}

#[test]
fn a_gap_is_told_in_its_place_and_changes_nothing_else() {
    let outbox = filled(OverflowPolicy::CatchUp);
    (0..5).for_each(|_| outbox.gap(Reset::Expired));
    let Next::Write(items) = outbox.next(0) else { panic!("nothing to write") };
    assert_eq!((items.len(), items.last()), (4, Some(&Item::Gap(Reset::Expired))));
    assert_eq!(outbox.next(0), Next::Fetch(39));
}

#[test]
fn a_reset_voids_what_is_being_fetched() {
    let outbox = outbox(3, OverflowPolicy::CatchUp);
    outbox.fall_behind(7);
    let position = Cursor::new(Epoch(2), 0);
    outbox.reset(Reset::Epoch, position);
    assert!(!outbox.progress(7, 9));
    assert!(!outbox.go_live(7, 9));
    assert_eq!(outbox.next(0), Next::Write(vec![Item::Reset(Reset::Epoch, position)]));
    assert_eq!(outbox.next(0), Next::Wait);
}
