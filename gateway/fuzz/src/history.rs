//! Answers of a history service, one page a line: what is taken of them is in order, once, below the log, and each
//! event is one to whoever reads it.

use sse_gateway::cursor::{Cursor, Epoch};
use sse_gateway::event::Rules;
use sse_gateway::history::{Reply, Seam};

use crate::encoder::assert_whole;
use crate::parsers;

/// The life of the log that there is.
const NOW: Epoch = Epoch(7);
/// Events that one page may have.
const MOST: usize = 10;

pub fn check(input: &[u8]) {
    let (default_event_type, max_payload) = ("note".into(), 100);
    let rules = Rules { prefix: "sse".into(), default_event_type, max_payload, platform: false, ids: true };
    let before = Cursor::new(NOW, 100);
    // A first line that is a cursor is the client's.
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let cursor = lines.first().and_then(|line| std::str::from_utf8(line).ok()?.parse::<Cursor>().ok());
    let cursor = cursor.filter(|cursor| cursor.epoch != NOW || cursor.sequence < before.sequence);
    let mut seam = Seam::new(cursor, before);
    let mut places: Vec<Cursor> = cursor.into_iter().collect();
    for line in lines {
        let Ok(reply) = Reply::read(line) else { continue };
        let page = seam.take(&reply, MOST, &rules);
        assert!(page.events.len() <= MOST && page.events.len() + page.skipped.len() <= reply.events.len());
        assert!(!(page.more && page.last.is_none()), "asked for the same again");
        for (id, delivery) in page.events {
            assert!(id.epoch != NOW || id.sequence < before.sequence, "the log has it");
            assert_whole(delivery.frame.as_bytes());
            for (parser, parse) in parsers::ALL {
                let mut events = parse(vec![delivery.frame.clone().into_bytes()]);
                let event = events.pop().expect("an event");
                assert!(events.is_empty(), "{parser} sees more than one event");
                assert_eq!(event.id, id.to_string(), "{parser}");
            }
            places.push(id);
        }
    }
    for (at, later) in places.iter().enumerate().skip(1) {
        let last = places[at - 1];
        if last.epoch == later.epoch {
            assert!(last.sequence < later.sequence, "{later} after {last}");
        } else {
            assert!(!places[..at].iter().any(|place| place.epoch == later.epoch), "{later} came back");
            assert!(last.epoch != NOW, "{later} after the present");
        }
    }
}
