//! W3C's trace context: which trace a request belongs to, and what an expert is told of it.
//!
//! In: `traceparent` and `tracestate` as a client sent them. Out: the same as values, ids of our own, `traceparent` for an expert.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::controls::fresh_id;

/// Trace, parent and flags.
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it.
pub const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// The flag that says the caller records.
const SAMPLED: u8 = 1;

/// Names a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

/// Names a span of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// One nobody else has.
    #[must_use]
    pub fn fresh() -> Self {
        // Zero means none.
        Self(fresh_id().max(1).to_be_bytes())
    }

    /// The part samplers look at: all of OpenTelemetry's libraries the same, so that they come to the same verdict on a trace.
    #[must_use]
    pub fn low(self) -> u64 {
        u128::from_be_bytes(self.0) as u64
    }
}

impl SpanId {
    /// One nobody else has.
    #[must_use]
    pub fn fresh() -> Self {
        Self((fresh_id() as u64).max(1).to_be_bytes())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The caller's span, by `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's own span.
    pub span: SpanId,
    /// As sent.
    pub flags: u8,
}

impl Parent {
    /// Reads the header. One that is malformed, or there twice, is none: then the trace begins here.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&TRACE_PARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.to_str().ok()?)
    }

    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let lower = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if version.len() != 2 || version == "ff" || ![version, trace, span, flags].into_iter().all(lower) {
            return None;
        }
        // Version 00 has these four parts; a later one may have more.
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let (mut trace_bytes, mut span_bytes, mut flag_byte) = ([0; 16], [0; 8], [0; 1]);
        hex::decode_to_slice(trace, &mut trace_bytes).ok()?;
        hex::decode_to_slice(span, &mut span_bytes).ok()?;
        hex::decode_to_slice(flags, &mut flag_byte).ok()?;
        let known = trace_bytes != [0; 16] && span_bytes != [0; 8];
        known.then_some(Self { trace: TraceId(trace_bytes), span: SpanId(span_bytes), flags: flag_byte[0] })
    }

    /// The caller records.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// The flags that go on: other flags than ours stay as they came.
#[must_use]
pub fn flags(parent: Option<&Parent>, sampled: bool) -> u8 {
    parent.map_or(0, |parent| parent.flags) & !SAMPLED | if sampled { SAMPLED } else { 0 }
}

/// `traceparent` for an expert.
#[must_use]
pub fn header(trace: TraceId, span: SpanId, flags: u8) -> HeaderValue {
    HeaderValue::from_str(&format!("00-{trace}-{span}-{flags:02x}")).expect("hexadecimal digits and dashes make a header value")
}

/// `tracestate`, its parts joined. Longer ones than W3C asks to carry are left out of our spans; the header goes on as it came.
#[must_use]
pub fn state(headers: &HeaderMap) -> String {
    const LONGEST: usize = 512;
    let parts: Vec<_> = headers.get_all(&TRACE_STATE).iter().filter_map(|value| value.to_str().ok()).collect();
    let joined = parts.join(",");
    if joined.len() > LONGEST { String::new() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn check(value: &str, expect: Option<&str>) {
        let headers = HeaderMap::from_iter([(TRACE_PARENT, value.parse().unwrap())]);
        assert_eq!(Parent::of(&headers).map(|parent| parent.trace.to_string()).as_deref(), expect, "{value}");
    }

    #[test]
    fn a_trace_is_known_by_a_sound_traceparent_only() {
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01"), Some(TRACE));
        check(&format!("cc-{TRACE}-00f067aa0ba902b7-01-more"), Some(TRACE));
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01-more"), None);
        check(&format!("ff-{TRACE}-00f067aa0ba902b7-01"), None);
        check(&format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), None);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None);
        check(&format!("00-{TRACE}-0000000000000000-01"), None);
        check(&format!("00-{TRACE}-00f067aa0ba902b7-1"), None);
        check("x", None);
        assert_eq!(Parent::of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_traceparent_that_is_there_twice_is_none() {
        let value = HeaderValue::from_str(&format!("00-{TRACE}-00f067aa0ba902b7-01")).unwrap();
        assert_eq!(Parent::of(&HeaderMap::from_iter([(TRACE_PARENT, value.clone()), (TRACE_PARENT, value)])), None);
    }

    #[test]
    fn what_an_expert_is_told_reads_back_and_keeps_flags_of_others() {
        let parent = Parent::parse(&format!("00-{TRACE}-00f067aa0ba902b7-03")).unwrap();
        let span = SpanId::fresh();
        let told = Parent::parse(header(parent.trace, span, flags(Some(&parent), false)).to_str().unwrap()).unwrap();
        assert_eq!(told, Parent { trace: parent.trace, span, flags: 2 });
        assert_eq!((flags(Some(&parent), true), flags(None, true), flags(None, false)), (3, 1, 0));
    }

    #[test]
    fn ids_differ() {
        assert_ne!(TraceId::fresh(), TraceId::fresh());
        assert_ne!(SpanId::fresh(), SpanId::fresh());
    }
}
