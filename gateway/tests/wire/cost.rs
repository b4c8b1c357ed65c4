//! What a frame costs: its bytes once, the count of its owners once, and nothing for a receiver.

use std::hint::black_box;
use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use async_nats::HeaderMap;
use bytes::Bytes;
use sse_gateway::cursor::{Cursor, Epoch};
use sse_gateway::event::{Entry, Message, Rules, Source};
use sse_gateway::wire::{Block, Field, Frame};

const RECEIVERS: usize = 1000;

fn measured<T>(make: impl FnOnce() -> T) -> (T, AllocationInfo) {
    let mut made = None;
    let info = measure(|| made = Some(make()));
    (made.expect("it ran"), info)
}

#[test]
fn an_encoder_allocates_the_bytes_and_the_count_of_their_owners() {
    let longest = Cursor { epoch: Epoch(u32::MAX), sequence: u64::MAX, end: true };
    let long = "x".repeat(300);
    let names = ["x", "order.shipped", long.as_str()].map(|name| Field::new(name).expect("a name"));
    let payloads =
        [String::new(), "x".repeat(16_384), "\n".repeat(999), "\r\n".repeat(999), "é\r".repeat(99)];
    for data in &payloads {
        for id in [None, Some(Cursor::new(Epoch(0), 0)), Some(longest)] {
            for event in [None, Some(names[0]), Some(names[1]), Some(names[2])] {
                for retry in [None, Some(0), Some(u32::MAX)] {
                    let block = Block { id, event, retry, data };
                    let (frame, info) = measured(|| block.encode());
                    assert_eq!(info.count_total, 2, "{block:?} grew its buffer");
                    let (copies, info) = measured(|| clones(&frame));
                    assert_eq!(info.count_total, 1, "{block:?}: only the list of the copies");
                    drop(copies);
                }
            }
        }
    }
}

fn clones(frame: &Frame) -> Vec<Frame> {
    let mut copies = Vec::with_capacity(RECEIVERS);
    copies.extend((0..RECEIVERS).map(|_| frame.clone()));
    copies
}

#[test]
fn an_event_is_encoded_once_for_all_its_receivers() {
    let rules = Rules {
        prefix: "sse".into(),
        default_event_type: "message".into(),
        max_payload: 16_384,
        platform: false,
        ids: true,
    };
    let payload = Bytes::from_static(br#"{"orderId":42}"#);
    let subject = "sse.acme.user.alice".into();
    let entry = Entry::new(Message::new(7, subject, &HeaderMap::new(), payload, Source::Annotated));
    let (first, info) = measured(|| entry.delivery(&rules, Epoch(1)).cloned().expect("an event"));
    assert_eq!(info.count_total, 3, "the bytes, their owners, the delivery that all share");
    let (others, info) = measured(|| {
        let mut others = Vec::with_capacity(RECEIVERS);
        others.extend((0..RECEIVERS).filter_map(|_| entry.delivery(&rules, Epoch(1)).cloned()));
        others
    });
    assert_eq!(info.count_total, 1, "only the list of them");
    assert_eq!(others.len(), RECEIVERS);
    assert!(others.iter().all(|other| Arc::ptr_eq(other, &first)));
    let (bytes, info) = measured(|| black_box(first.frame.clone()).into_bytes());
    assert_eq!(info.count_total, 0, "what the socket gets is the same bytes");
    assert_eq!(bytes.as_ptr(), first.frame.as_bytes().as_ptr());
}
