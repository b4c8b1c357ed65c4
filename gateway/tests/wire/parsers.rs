//! Three parsers that nobody here wrote. They deviate from the standard in this:
//!
//! - `eventsource-stream` panics at a byte order mark in front of the stream. A gateway's stream begins
//!   with `:` or a field, so no input is spared for it; a mark inside of data or a name is tested.
//! - `eventsource-stream` and `sseer` show `retry:` only with an event. `sse-stream` shows every block as
//!   it stands: the blocks that dispatch nothing are checked with it alone.

use std::convert::Infallible;

use bytes::Bytes;
use eventsource_stream::Eventsource as _;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};

use crate::script::Dispatched;

/// A parser, and what it makes of a stream that comes in these pieces.
type Parser = (&'static str, fn(Vec<Bytes>) -> Vec<Dispatched>);

pub const ALL: [Parser; 3] = [
    ("eventsource-stream", eventsource_stream),
    ("sseer", sseer),
    ("sse-stream", |pieces| sse_stream(pieces).0),
];

/// Cuts a stream into pieces of these sizes, over and over.
pub fn cut(stream: &[u8], sizes: &[usize]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(stream);
    let mut sizes = sizes.iter().copied().cycle();
    std::iter::from_fn(|| {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len().max(1));
        (!rest.is_empty()).then(|| rest.split_to(size))
    })
    .collect()
}

fn arriving(pieces: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    stream::iter(pieces.into_iter().map(Ok))
}

/// Everything that comes: a stream of what is there already never waits.
fn all<T>(stream: impl Stream<Item = T>) -> Vec<T> {
    stream.collect().now_or_never().expect("all of it is there")
}

fn eventsource_stream(pieces: Vec<Bytes>) -> Vec<Dispatched> {
    let events = all(arriving(pieces).eventsource());
    let event = |event: Result<eventsource_stream::Event, _>| event.expect("an event");
    let events = events.into_iter().map(event);
    events.map(|event| Dispatched { name: event.event, data: event.data, id: event.id }).collect()
}

fn sseer(pieces: Vec<Bytes>) -> Vec<Dispatched> {
    let events = all(sseer::event_stream::EventStream::new(arriving(pieces)));
    let event = |event: Result<sseer::event::Event, _>| event.expect("an event");
    let text = |text: &str| text.to_owned();
    let events = events.into_iter().map(event);
    events
        .map(|event| Dispatched { name: text(&event.event), data: text(&event.data), id: text(&event.id) })
        .collect()
}

/// The events, the reconnection times, and the id that a client would come back with.
pub fn sse_stream(pieces: Vec<Bytes>) -> (Vec<Dispatched>, Vec<u64>, String) {
    let (mut events, mut retries, mut last_id) = (Vec::new(), Vec::new(), String::new());
    for block in all(sse_stream::SseByteStream::new(arriving(pieces))) {
        let block = block.expect("a block");
        retries.extend(block.retry);
        if let Some(id) = block.id {
            last_id = id;
        }
        if let Some(data) = block.data {
            let name = block.event.filter(|name| !name.is_empty()).unwrap_or_else(|| "message".into());
            events.push(Dispatched { name, data, id: last_id.clone() });
        }
    }
    (events, retries, last_id)
}
