//! The spans of a stream, as docs/telemetry.md says.
//!
//! `sse.connect` is a span of `tracing`, around the handler. The two others are made when they end, with the
//! times that they had: an open stream holds a few ids, whatever goes through it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, SamplingDecision, SamplingResult, SdkTracer, ShouldSample,
};

use crate::event::Delivery;

/// The attribute that a tag of a connection is.
pub(super) fn tag(name: &str) -> String {
    format!("sse.tag.{name}")
}

/// Where something outside began, as a `traceparent` tells it (W3C Trace Context).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", TraceId::from_bytes(self.trace))
    }
}

impl Origin {
    /// Reads a `traceparent`. What is not one counts for nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let [version, trace, span, flags] =
            [(); 4].map(|()| parts.next().unwrap_or_default()).map(|part| part.is_ascii().then_some(part));
        let version = hex::<1>(version?)?[0];
        // A later version may have more to say.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let origin = Self { trace: hex(trace?)?, span: hex(span?)?, sampled: hex::<1>(flags?)?[0] & 1 == 1 };
        (origin.trace != [0; 16] && origin.span != [0; 8]).then_some(origin)
    }

    /// The span that it names, elsewhere.
    #[must_use]
    pub fn context(self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        let (trace, span) = (TraceId::from_bytes(self.trace), SpanId::from_bytes(self.span));
        SpanContext::new(trace, span, flags, true, TraceState::NONE)
    }
}

/// Lowercase hex digits, exactly.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

thread_local! {
    /// Ids that were chosen before their span is made.
    static CHOSEN: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Makes ids, unless they were chosen.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        CHOSEN.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        CHOSEN.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// Which spans are kept: handshakes by their share, and what belongs to a handshake that was kept.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Of 2^63.
    bound: u64,
}

impl Share {
    pub fn of(percent: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share"
        )]
        let bound = ((percent / 100.0).clamp(0.0, 1.0) * (1u64 << 63) as f64) as u64;
        Self { bound }
    }

    /// By the trace's id, as other services with the same share decide.
    fn has(&self, trace: TraceId) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half, which is random")]
        let random = u128::from_be_bytes(trace.to_bytes()) as u64;
        random >> 1 < self.bound
    }
}

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        _: &str,
        kind: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().clone()).filter(SpanContext::is_valid);
        let wanted = parent.as_ref().is_none_or(SpanContext::is_sampled);
        // Only what is made for a handshake that was kept is no handshake.
        let kept = *kind != SpanKind::Server || (wanted && self.has(trace));
        let decision = if kept { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        let trace_state = parent.map(|parent| parent.trace_state().clone()).unwrap_or_default();
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}

/// Makes the spans of streams that are traced.
pub struct Tracer {
    pub(super) tracer: SdkTracer,
    pub(super) deliveries: Share,
}

/// What a traced stream holds.
pub struct StreamTrace {
    connect: SpanContext,
    connection: SpanContext,
    opened: SystemTime,
    /// What all its spans say.
    about: [KeyValue; 2],
    resumed: bool,
    version: &'static str,
}

/// How a stream went.
pub struct Totals {
    pub reason: &'static str,
    pub delivered: u64,
    pub replayed: u64,
    pub bytes: u64,
}

impl StreamTrace {
    /// The trace of a stream whose handshake is traced by this span.
    pub(super) fn new(
        connect: SpanContext,
        tenant: String,
        connection: String,
        resumed: bool,
        version: &'static str,
    ) -> Self {
        let (trace, span) =
            (RandomIdGenerator::default().new_trace_id(), RandomIdGenerator::default().new_span_id());
        let about = [KeyValue::new("sse.tenant", tenant), KeyValue::new("sse.connection.id", connection)];
        let own = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE);
        Self { connect, connection: own, opened: SystemTime::now(), about, resumed, version }
    }

    /// Where the stream's deliveries and its end are told.
    pub(super) const fn connection(&self) -> &SpanContext {
        &self.connection
    }

    /// Trace of the handshake, as log lines name it.
    #[must_use]
    pub fn id(&self) -> String {
        self.connect.trace_id().to_string()
    }
}

impl Tracer {
    /// Traces one delivery, if it is its turn; answers which trace it is in.
    pub(super) fn deliver(
        &self,
        stream: &StreamTrace,
        delivery: &Delivery,
        replayed: bool,
    ) -> Option<String> {
        if !self.deliveries.has(TraceId::from(rand::random::<u128>())) {
            return None;
        }
        let now = SystemTime::now();
        let stored =
            delivery.stored.map_or(now, |stored| UNIX_EPOCH + Duration::from_micros(stored.micros)).min(now);
        let mut attributes = stream.about.to_vec();
        attributes.extend([
            KeyValue::new("messaging.system", "nats"),
            KeyValue::new("sse.event.sequence", i64::try_from(delivery.sequence).unwrap_or(i64::MAX)),
            KeyValue::new("sse.event.replayed", replayed),
        ]);
        let links = delivery.origin.map(|origin| Link::with_context(origin.context()));
        let builder = self
            .tracer
            .span_builder("sse.deliver")
            .with_kind(SpanKind::Consumer)
            .with_start_time(stored)
            .with_attributes(attributes)
            .with_links(links.into_iter().collect());
        let parent = Context::new().with_remote_span_context(stream.connection.clone());
        self.tracer.build_with_context(builder, &parent).end_with_timestamp(now);
        Some(stream.connection.trace_id().to_string())
    }

    /// Traces a stream that has ended.
    pub(super) fn ended(&self, stream: &StreamTrace, totals: &Totals, tags: &BTreeMap<String, String>) {
        let mut attributes = stream.about.to_vec();
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        attributes.extend([
            KeyValue::new("sse.resumed", stream.resumed),
            KeyValue::new("network.protocol.version", stream.version),
            KeyValue::new("sse.close.reason", totals.reason),
            KeyValue::new("sse.events.delivered", count(totals.delivered)),
            KeyValue::new("sse.events.replayed", count(totals.replayed)),
            KeyValue::new("sse.bytes", count(totals.bytes)),
        ]);
        attributes.extend(tags.iter().map(|(name, value)| KeyValue::new(tag(name), value.clone())));
        let builder = self
            .tracer
            .span_builder("sse.connection")
            .with_kind(SpanKind::Internal)
            .with_start_time(stream.opened)
            .with_attributes(attributes)
            .with_links(vec![Link::with_context(stream.connect.clone())]);
        CHOSEN.set(Some((stream.connection.trace_id(), stream.connection.span_id())));
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        CHOSEN.set(None);
        span.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_w3c_says() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let origin = Origin::parse(good).expect("a traceparent").context();
        assert_eq!(origin.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(origin.span_id().to_string(), "b7ad6b7169203331");
        assert!(origin.is_sampled() && origin.is_remote());
        assert!(Origin::parse(&good.replace("-01", "-00")).is_some_and(|origin| !origin.sampled));
        assert!(Origin::parse(&format!("cc{}-more", &good[2..])).is_some(), "a later version");
        for bad in [
            "",
            "00",
            &format!("{good}-more"),
            &good.replace("00-", "ff-"),
            &good.to_uppercase(),
            &good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &good.replace("b7ad6b7169203331", &"0".repeat(16)),
            &good.replace("b7ad", "b7aé"),
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_share_is_kept() {
        let kept = |percent| {
            let share = Share::of(percent);
            (0..10_000).filter(|_| share.has(TraceId::from(rand::random::<u128>()))).count()
        };
        assert_eq!((kept(0.0), kept(100.0)), (0, 10_000));
        assert!((800..1200).contains(&kept(10.0)));
    }
}
