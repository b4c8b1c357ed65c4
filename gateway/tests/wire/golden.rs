//! The bytes of every kind of block.

use sse_gateway::cursor::{Cursor, Epoch};
use sse_gateway::wire::{self, Block, Field, Frame, Reset};

const PLACE: Cursor = Cursor::new(Epoch(0x6f1c_2a9b), 1042);

fn block(id: Option<Cursor>, event: Option<&str>, retry: Option<u32>, data: &str) -> Frame {
    let event = event.map(|name| Field::new(name).expect("a name of one line"));
    Block { id, event, retry, data }.encode()
}

#[track_caller]
fn assert_bytes(frame: &Frame, golden: &str) {
    assert_eq!(frame.as_bytes(), golden.as_bytes(), "{:?}", String::from_utf8_lossy(frame.as_bytes()));
    let chunk = format!("{:x}\r\n{golden}\r\n", golden.len());
    assert_eq!(frame.chunk(), chunk.as_bytes(), "{:?}", String::from_utf8_lossy(frame.chunk()));
}

#[test]
fn an_event_has_a_line_for_each_thing_that_was_said_in_the_order_of_the_contract() {
    assert_bytes(&block(Some(PLACE), None, None, "hi"), "id: 6f1c2a9b-1042\ndata: hi\n\n");
    assert_bytes(
        &block(Some(PLACE), Some("order.shipped"), Some(3000), r#"{"orderId":42}"#),
        "id: 6f1c2a9b-1042\nevent: order.shipped\nretry: 3000\ndata: {\"orderId\":42}\n\n",
    );
    assert_bytes(
        &block(Some(PLACE), Some("message"), None, ""),
        "id: 6f1c2a9b-1042\nevent: message\ndata: \n\n",
    );
    assert_bytes(&block(None, None, Some(0), "no log"), "retry: 0\ndata: no log\n\n");
}

#[test]
fn an_event_that_completes_its_stream_says_so_in_its_id() {
    let end = Cursor { end: true, ..PLACE };
    assert_bytes(
        &block(Some(end), Some("done"), None, "bye"),
        "id: 6f1c2a9b-1042-end\nevent: done\ndata: bye\n\n",
    );
}

#[test]
fn a_place_has_eight_digits_of_epoch_and_no_zero_before_its_sequence() {
    assert_bytes(&wire::position(Cursor::new(Epoch(1), 0)), "id: 00000001-0\n\n");
    let last = Cursor { epoch: Epoch(u32::MAX), sequence: u64::MAX, end: true };
    assert_bytes(&wire::position(last), "id: ffffffff-18446744073709551615-end\n\n");
}

#[test]
fn an_empty_payload_is_one_empty_line_of_data() {
    assert_bytes(&block(None, None, None, ""), "data: \n\n");
}

#[test]
fn each_line_end_begins_a_line_of_data() {
    for (payload, golden) in [
        ("a\nb", "data: a\ndata: b\n\n"),
        ("a\rb", "data: a\ndata: b\n\n"),
        ("a\r\nb", "data: a\ndata: b\n\n"),
        ("a\n\rb", "data: a\ndata: \ndata: b\n\n"),
        ("a\r\r\nb\n\nc", "data: a\ndata: \ndata: b\ndata: \ndata: c\n\n"),
        ("\n", "data: \ndata: \n\n"),
        ("\r\n", "data: \ndata: \n\n"),
        ("a\n", "data: a\ndata: \n\n"),
        ("\ra", "data: \ndata: a\n\n"),
    ] {
        assert_bytes(&block(None, None, None, payload), golden);
    }
}

#[test]
fn what_is_no_line_end_of_the_standard_stays_in_its_line() {
    let odd = "\u{85}\u{b}\u{c}\u{2028}\u{2029}\0";
    assert_bytes(&block(None, None, None, odd), &format!("data: {odd}\n\n"));
}

#[test]
fn a_payload_is_not_changed_but_at_its_line_ends() {
    for payload in [" two  blanks", ":colon", "data: data", "id: 1", "\u{feff}mark", "grüße, 世界 🎈", "\t"]
    {
        assert_bytes(&block(None, None, None, payload), &format!("data: {payload}\n\n"));
    }
    assert_bytes(&block(None, Some(" ärger: 🎈"), None, "x"), "event:  ärger: 🎈\ndata: x\n\n");
}

#[test]
fn a_field_that_needs_more_than_a_line_is_none() {
    for bad in ["a\nb", "a\rb", "\r\n", "a\0b", "\n", "\0"] {
        assert_eq!(Field::new(bad), None, "{bad:?}");
    }
}

#[test]
fn heartbeats_are_a_comment_or_an_event_at_the_position() {
    assert_bytes(&wire::heartbeat(), ":heartbeat\n\n");
    let data = r#"{"type":"heartbeat","timestamp":"2026-11-21T07:00:00.000Z"}"#;
    assert_bytes(
        &block(Some(PLACE), Some("heartbeat"), None, data),
        "id: 6f1c2a9b-1042\nevent: heartbeat\ndata: {\"type\":\"heartbeat\",\"timestamp\":\"2026-11-21T07:00:00.000Z\"}\n\n",
    );
}

#[test]
fn a_reset_names_its_reason_and_has_no_id() {
    assert_bytes(&wire::reset(Reset::Expired), "event: reset\ndata: {\"reason\":\"expired\"}\n\n");
    assert_bytes(&wire::reset(Reset::Epoch), "event: reset\ndata: {\"reason\":\"epoch\"}\n\n");
    assert_bytes(&wire::reset(Reset::Invalid), "event: reset\ndata: {\"reason\":\"invalid\"}\n\n");
}

#[test]
fn a_stream_begins_with_a_comment_a_place_a_pause_and_a_welcome() {
    assert_bytes(&wire::connected(), ":connected\n\n");
    assert_bytes(&wire::position(PLACE), "id: 6f1c2a9b-1042\n\n");
    assert_bytes(&wire::retry(3000), "retry: 3000\n\n");
    assert_bytes(&wire::retry(u32::MAX), "retry: 4294967295\n\n");
    assert_bytes(
        &block(None, Some("connected"), None, r#"{"connectionId":"0123456789abcdef"}"#),
        "event: connected\ndata: {\"connectionId\":\"0123456789abcdef\"}\n\n",
    );
}
