//! The headers of a message that mean something here, found in one look at those that are there: a look for
//! each that may be there costs ten times as much, with every event on the stream.

use async_nats::{HeaderMap, HeaderValue};

/// Values of headers; of one that comes several times the first, if nothing else is said.
#[derive(Default)]
pub struct Headers<'a> {
    pub event: Option<&'a str>,
    pub retry: Option<&'a str>,
    pub complete: Option<&'a str>,
    /// Every value.
    pub users: &'a [HeaderValue],
    /// Every value.
    pub topics: &'a [HeaderValue],
    pub ce_type: Option<&'a str>,
    content_type: Option<&'a str>,
    content_type_small: Option<&'a str>,
    traceparent: Option<&'a str>,
    ce_traceparent: Option<&'a str>,
    /// Where the server stored it: the last value, which is the server's.
    pub sequence: Option<&'a str>,
    /// Under which subject: the last value.
    pub subject: Option<&'a str>,
    /// When: the last value.
    pub stored: Option<&'a str>,
    /// Whether the server marks a deletion.
    pub marker: bool,
    /// Most values that a header has which only the server may set.
    pub servers: usize,
}

impl<'a> Headers<'a> {
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, values) in headers.iter() {
            let first = values.first().map(HeaderValue::as_str);
            match name.as_ref() {
                "Sse-Event" => found.event = first,
                "Sse-Retry" => found.retry = first,
                "Sse-Complete" => found.complete = first,
                "Sse-Users" => found.users = values,
                "Sse-Topics" => found.topics = values,
                "ce-type" => found.ce_type = first,
                "Content-Type" => found.content_type = first,
                "content-type" => found.content_type_small = first,
                "traceparent" => found.traceparent = first,
                "ce-traceparent" => found.ce_traceparent = first,
                "Nats-Marker-Reason" => found.marker = true,
                servers @ ("Nats-Sequence" | "Nats-Last-Sequence" | "Nats-Subject" | "Nats-Stream"
                | "Nats-Time-Stamp") => {
                    let last = values.last().map(HeaderValue::as_str);
                    match servers {
                        "Nats-Sequence" => found.sequence = last,
                        "Nats-Subject" => found.subject = last,
                        "Nats-Time-Stamp" => found.stored = last,
                        _ => {}
                    }
                    found.servers = found.servers.max(values.len());
                }
                _ => {}
            }
        }
        found
    }

    /// What the payload is, as its publisher says.
    pub fn content_type(&self) -> Option<&'a str> {
        self.content_type.or(self.content_type_small)
    }

    /// The trace that its publisher made it in.
    pub fn traceparent(&self) -> Option<&'a str> {
        self.traceparent.or(self.ce_traceparent)
    }
}
