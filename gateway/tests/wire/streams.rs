//! Whatever is published, in whatever order, and however the network cuts it: each parser sees these
//! events and no other.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sse_gateway::cursor::{Cursor, Epoch};
use sse_gateway::wire::Reset;

use crate::parsers::{self, cut};
use crate::script::{self, Sent};

/// Text that tries to be something else than text.
fn hostile(most: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "\\PC{0,8}",
        4 => prop::sample::select(vec!["\r", "\n", "\r\n", "\n\n", "\r\n\r\n", "\n\r"]).prop_map(str::to_owned),
        3 => prop::sample::select(vec![" ", "  ", ":", ": ", "\t", "\0", "\u{feff}", "\u{2028}", "\u{85}"])
            .prop_map(str::to_owned),
        2 => prop::sample::select(vec!["data: x", "data", "id: 7", "event: reset", "retry: 1", ":heartbeat"])
            .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

/// A name that a [`Field`](sse_gateway::wire::Field) can hold; the rules refuse an empty one.
fn name() -> impl Strategy<Value = String> {
    let one_line = |text: String| text.replace(['\r', '\n', '\0'], "");
    hostile(4).prop_map(one_line).prop_filter("no name", |name| !name.is_empty())
}

fn cursor() -> impl Strategy<Value = Cursor> {
    let sequence = prop_oneof![0..3_u64, any::<u64>(), Just(u64::MAX)];
    (any::<u32>(), sequence, any::<bool>()).prop_map(|(epoch, sequence, end)| Cursor {
        epoch: Epoch(epoch),
        sequence,
        end,
    })
}

fn event(data: impl Strategy<Value = String>) -> impl Strategy<Value = Sent> {
    (option::of(cursor()), option::of(name()), option::of(any::<u32>()), data)
        .prop_map(|(id, name, retry, data)| Sent::Event { id, name, retry, data })
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        1 => Just(Sent::Connected),
        1 => Just(Sent::Heartbeat),
        1 => cursor().prop_map(Sent::Position),
        1 => any::<u32>().prop_map(Sent::Retry),
        1 => prop::sample::select(vec![Reset::Expired, Reset::Epoch, Reset::Invalid]).prop_map(Sent::Reset),
        6 => event(hostile(10)),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn every_parser_sees_the_events_that_were_sent_and_no_other(
        script in vec(sent(), 0..12),
        sizes in vec(1..40_usize, 1..6),
    ) {
        let stream = script::bytes(&script);
        for (parser, parse) in parsers::ALL {
            prop_assert_eq!(parse(cut(&stream, &sizes)), script::dispatched(&script), "{}", parser);
        }
    }

    #[test]
    fn what_dispatches_nothing_is_understood_too(script in vec(sent(), 0..12), place in cursor()) {
        let mut script = script;
        script.push(Sent::Position(place));
        let (_, retries, last_id) = parsers::sse_stream(cut(&script::bytes(&script), &[7]));
        prop_assert_eq!(retries, script::retries(&script));
        prop_assert_eq!(last_id, place.to_string());
    }

    #[test]
    fn a_frame_ends_with_its_only_blank_line(sent in sent()) {
        let frame = sent.frame();
        let bytes = frame.as_bytes();
        prop_assert!(!bytes.contains(&b'\r'));
        let blank = bytes.windows(2).position(|pair| pair == b"\n\n");
        prop_assert_eq!(blank, Some(bytes.len() - 2));
        prop_assert_ne!(bytes[0], b'\n');
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn a_long_payload_is_one_event(
        line in hostile(6),
        times in 1..4000_usize,
        sizes in vec(4096..65_536_usize, 1..4),
        around in vec(sent(), 0..3),
    ) {
        let long = Sent::Event { id: None, name: None, retry: None, data: line.repeat(times) };
        let script = [around.clone(), vec![long], around].concat();
        let stream = script::bytes(&script);
        for (parser, parse) in parsers::ALL {
            prop_assert!(parse(cut(&stream, &sizes)) == script::dispatched(&script), "{}", parser);
        }
    }
}
