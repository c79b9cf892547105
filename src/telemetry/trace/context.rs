//! Which trace a request belongs to: W3C Trace Context, `traceparent` and `tracestate`.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::ids::RequestId;

/// Id of a trace.
pub type TraceId = [u8; 16];
/// Id of a span.
pub type SpanId = [u8; 8];

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest `tracestate` that is kept, bytes: what the standard asks everybody to pass on at least.
const LONGEST_STATE: usize = 512;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace: TraceId,
    /// The span of the request itself.
    pub(super) span: SpanId,
    /// The caller's span.
    pub(super) parent: Option<SpanId>,
    /// What other tracing systems noted.
    pub(super) state: String,
}

impl Context {
    /// A trace that begins here. Its id is the request's, so that one leads to the other without any index.
    pub(super) fn root(request: RequestId) -> Self {
        Self { trace: request.to_bytes(), span: span_id(), parent: None, state: String::new() }
    }

    /// The caller's trace and whether it is sampled. `None` if there is none or it cannot be read: then a new one begins.
    pub(super) fn of_caller(headers: &HeaderMap) -> Option<(Self, bool)> {
        let mut told = headers.get_all(TRACEPARENT).iter();
        let (first, None) = (told.next()?, told.next()) else { return None };
        let (trace, parent, flags) = parse(first.to_str().ok()?)?;
        let mut state = String::new();
        for part in headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()) {
            if state.len() + part.len() < LONGEST_STATE {
                state.push_str(if state.is_empty() { "" } else { "," });
                state.push_str(part);
            }
        }
        Some((Self { trace, span: span_id(), parent: Some(parent), state }, flags & 1 == 1))
    }

    /// Writes the headers for whoever is called from `span`.
    pub(super) fn write(&self, span: SpanId, headers: &mut HeaderMap) {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(span));
        if let Ok(value) = HeaderValue::from_str(&format!("00-{trace:032x}-{span:016x}-01")) {
            headers.insert(TRACEPARENT, value);
        }
        if let (Ok(value), false) = (HeaderValue::from_str(&self.state), self.state.is_empty()) {
            headers.insert(TRACESTATE, value);
        }
    }
}

/// Hands on the caller's headers as they are.
pub fn pass_on(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [TRACEPARENT, TRACESTATE] {
        for value in from.get_all(&name) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// A new id, never zero.
pub(super) fn span_id() -> SpanId {
    fastrand::u64(1..).to_be_bytes()
}

fn parse(text: &str) -> Option<(TraceId, SpanId, u8)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let sizes = [version, trace, span, flags].map(str::len) == [2, 32, 16, 2];
    // What comes after the four belongs to later versions, of which the four stay what they are.
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    if !sizes || !known || ![version, trace, span, flags].into_iter().all(lower) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?.to_be_bytes();
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?.to_be_bytes();
    Some((trace, span, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_trace_is_read_as_the_standard_says() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        const SPAN: &str = "00f067aa0ba902b7";
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-ever"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            ("+0-rubbish".to_owned(), None),
            (String::new(), None),
        ] {
            let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_str(&text).unwrap())]);
            let read = Context::of_caller(&headers);
            assert_eq!(read.as_ref().map(|(_, sampled)| *sampled), sampled, "{text}");
            if let Some((context, _)) = read {
                let mut onward = HeaderMap::new();
                context.write([1; 8], &mut onward);
                assert_eq!(onward["traceparent"], format!("00-{TRACE}-0101010101010101-01"));
            }
        }
        let twice = [(TRACEPARENT, HeaderValue::from_str(&format!("00-{TRACE}-{SPAN}-01")).unwrap())];
        let mut headers = HeaderMap::from_iter(twice.clone());
        headers.append(TRACEPARENT, twice[0].1.clone());
        assert_eq!(Context::of_caller(&headers), None, "two are none");
    }
}
