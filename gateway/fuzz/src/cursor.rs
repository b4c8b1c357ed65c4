//! `Last-Event-ID`: anything that a client may send.

use sse_gateway::cursor::{Cursor, Epoch};

/// The grammar once more, written otherwise: `<8 hex>-<sequence>[-end]`.
fn understood(text: &str) -> Option<(u32, u64, bool)> {
    let (place, end) = text.strip_suffix("-end").map_or((text, false), |place| (place, true));
    let (epoch, sequence) = (place.get(..8)?, place.get(8..)?.strip_prefix('-')?);
    let parsed = (u32::from_str_radix(epoch, 16).ok()?, sequence.parse::<u64>().ok()?, end);
    let spelled = format!("{:08x}-{}", parsed.0, parsed.1);
    (spelled == place).then_some(parsed)
}

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let cursor = text.parse::<Cursor>().ok();
    let expected = understood(text);
    assert_eq!(cursor.map(|cursor| (cursor.epoch.0, cursor.sequence, cursor.end)), expected);
    if let Some(cursor) = cursor {
        assert_eq!(cursor.to_string(), text, "a place has one spelling");
        assert!(text.len() <= 33);
    }
    if let Ok(epoch) = text.parse::<Epoch>() {
        assert_eq!(epoch.to_string(), text);
    }
}
