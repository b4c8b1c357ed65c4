//! Scripts of what a gateway writes. Records end with 0x1E; the first byte of each says what it is, and
//! in an event 0x1F stands between name and data. The first byte of all is the size of the pieces.

use sse_gateway::cursor::{Cursor, Epoch};
use sse_gateway::wire::{Field, Reset};

use crate::parsers::{self, cut};
use crate::script::{self, Sent};

fn record((at, bytes): (usize, &[u8])) -> Option<Sent> {
    let (kind, rest) = bytes.split_first()?;
    let sequence = u64::from_ne_bytes([*kind; 8]) / (at as u64 + 1);
    let cursor = Cursor { epoch: Epoch(u32::from(*kind)), sequence, end: *kind == b'E' };
    let retry = u32::try_from(rest.len()).unwrap_or(u32::MAX);
    Some(match kind {
        b'c' => Sent::Connected,
        b'h' => Sent::Heartbeat,
        b'p' => Sent::Position(cursor),
        b'r' => Sent::Retry(retry),
        b'x' => Sent::Reset(Reset::Expired),
        b'y' => Sent::Reset(Reset::Epoch),
        b'z' => Sent::Reset(Reset::Invalid),
        _ => {
            let text = String::from_utf8_lossy(rest);
            let (name, data) =
                text.split_once('\u{1f}').map_or((None, &*text), |(name, data)| (Some(name), data));
            let one_line = |name: &&str| !name.contains(['\r', '\n', '\0']);
            assert_eq!(name.and_then(Field::new).is_some(), name.is_some_and(|name| one_line(&name)));
            Sent::Event {
                id: (*kind != b'n').then_some(cursor),
                // An empty name is refused before.
                name: name.filter(one_line).filter(|name| !name.is_empty()).map(str::to_owned),
                retry: (*kind == b'E').then_some(retry),
                data: data.to_owned(),
            }
        }
    })
}

pub fn check(input: &[u8]) {
    let Some((size, records)) = input.split_first() else { return };
    let script: Vec<Sent> = records.split(|b| *b == 0x1e).enumerate().filter_map(record).collect();
    for sent in &script {
        let frame = sent.frame();
        assert_whole(frame.as_bytes());
    }
    let stream = script::bytes(&script);
    // The parsers read a line anew with each of its pieces.
    let size = usize::from(*size) + stream.len() / 256;
    for (parser, parse) in parsers::ALL {
        assert_eq!(parse(cut(&stream, &[size])), script::dispatched(&script), "{parser}");
    }
    let (_, retries, _) = parsers::sse_stream(cut(&stream, &[size]));
    assert_eq!(retries, script::retries(&script));
}

/// A frame ends with its only blank line.
pub fn assert_whole(frame: &[u8]) {
    assert!(!frame.contains(&b'\r'));
    assert_eq!(frame.windows(2).position(|pair| pair == b"\n\n"), Some(frame.len() - 2));
    assert_ne!(frame[0], b'\n');
}
