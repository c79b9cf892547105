//! What goes back to the client: bodies that tell the request's record before the last byte leaves, so that there is never
//! a reply without its row, and the headers that say what the cache did.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::meter::Meter;
use super::refusal::Refusal;
use super::{End, Head};
use crate::account::Record;
use crate::cache::flight::{Next, Seat};
use crate::cache::outcome::{Outcome, Reason, Tier};
use crate::config::NanoUsd;
use crate::ids::EntryId;
use crate::price::{Price, PromptCache, Service};
use crate::store::Tokens;
use crate::upstream::UpstreamError;

/// A reply with its body.
pub(super) type Reply = Response<Body>;

/// The upstream broke off a body that is passed through; the connection to the client is cut so that it can tell.
#[derive(Debug, thiserror::Error)]
#[error("the upstream broke off its answer")]
pub struct BrokenOff;

/// The body of a reply.
pub struct Body {
    source: Source,
    record: Record,
    /// Another request pays for it.
    shared: Option<Shared>,
    /// What it cost and saved is told after its end.
    trailers: bool,
    /// Resolves when the program must not wait any longer for the end of a stream.
    last_call: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// A stream that another request pays for.
pub(super) struct Shared {
    /// What it is billed for, once it has ended.
    pub(super) usage: Arc<OnceLock<Tokens>>,
    pub(super) price: Option<Arc<Price>>,
    pub(super) service: Service,
    pub(super) cache: PromptCache,
}

enum Source {
    Whole(Bytes),
    Stream {
        seat: Seat<Head, End>,
        plain: bool,
    },
    Passed {
        incoming: Incoming,
        idle: Duration,
        wait: Pin<Box<Sleep>>,
        /// Whether `wait` runs: only while upstream is waited for, not while the client is.
        waiting: bool,
        /// Looks for the usage in what passes.
        meter: Option<Box<Meter>>,
        _permit: OwnedSemaphorePermit,
    },
    Ended,
}

impl Body {
    /// A body that is there already.
    pub(super) fn whole(bytes: Bytes, record: Record) -> Self {
        Self { source: Source::Whole(bytes), record, shared: None, trailers: false, last_call: None }
    }

    /// The events of a flight. `plain` is for a client that did not ask for usage.
    pub(super) fn stream(
        seat: Seat<Head, End>,
        plain: bool,
        record: Record,
        last_call: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let source = Source::Stream { seat, plain };
        Self { source, record, shared: None, trailers: false, last_call: Some(Box::pin(last_call)) }
    }

    /// The same for a caller who does not pay for it.
    #[must_use]
    pub(super) fn sharing(mut self, shared: Shared) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Upstream's body byte for byte.
    pub(super) fn passed(
        incoming: Incoming,
        permit: OwnedSemaphorePermit,
        idle: Duration,
        record: Record,
        meter: Option<Meter>,
    ) -> Self {
        let wait = Box::pin(sleep_until(Instant::now() + idle));
        let meter = meter.map(Box::new);
        let source = Source::Passed { incoming, idle, wait, waiting: false, meter, _permit: permit };
        Self { source, record, shared: None, trailers: false, last_call: None }
    }

    /// Whether it is known that no byte will come.
    pub(super) fn is_empty(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn end(&mut self) {
        self.source = Source::Ended;
        self.finished();
    }

    fn finished(&mut self) {
        if let Some(Shared { usage, price, service, cache }) = self.shared.take() {
            self.record.replayed(usage.get().copied(), price.as_deref(), service, cache);
        }
        self.record.finished();
    }

    /// One last event that says what went wrong, then the end; without `[DONE]`, so that no client takes it for a whole
    /// answer.
    fn fail(&mut self, refusal: &Refusal) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.record.with(|row| {
            row.outcome = Outcome::Failed.as_str().into();
            row.reason = Some(refusal.code().into());
        });
        // Half an answer has saved nothing.
        self.shared = None;
        self.end();
        Poll::Ready(Some(Ok(Frame::data(refusal.event()))))
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            let Source::Stream { seat, plain } = &self.source else { return Poll::Ready(None) };
            let next = match seat.poll_next(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    if self.last_call.as_mut().is_some_and(|call| call.as_mut().poll(cx).is_ready()) {
                        self.last_call = None;
                        return self.fail(&Refusal::shutdown());
                    }
                    return Poll::Pending;
                }
            };
            match next {
                Next::Frame(frame) => {
                    let bytes = if *plain { frame.plain.unwrap_or(frame.raw) } else { frame.raw };
                    if !bytes.is_empty() {
                        self.record.first_byte();
                        if frame.closing {
                            self.finished();
                        }
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Next::End(End::Complete) => {
                    self.end();
                    if !self.trailers {
                        return Poll::Ready(None);
                    }
                    let mut trailers = HeaderMap::with_capacity(2);
                    write_money(&mut trailers, &self.record);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Next::End(End::Broken(error)) => return self.fail(&error.into()),
                Next::Failed => return self.fail(&UpstreamError::BrokenOff.into()),
            }
        }
    }

    fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Source::Passed { incoming, idle, wait, waiting, meter, .. } = &mut self.source else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
            if !std::mem::replace(waiting, true) {
                wait.as_mut().reset(Instant::now() + *idle);
            }
            ready!(wait.as_mut().poll(cx));
            self.record.with(|row| row.outcome = Outcome::Failed.as_str().into());
            self.end();
            return Poll::Ready(Some(Err(BrokenOff)));
        };
        *waiting = false;
        match frame {
            Some(Ok(frame)) => {
                self.record.first_byte();
                if let (Some(meter), Some(bytes)) = (meter.as_mut(), frame.data_ref()) {
                    meter.push(bytes);
                }
                if incoming.is_end_stream() {
                    end(meter);
                    self.record.finished();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                meter.iter_mut().for_each(|meter| meter.broke_off());
                self.record.with(|row| row.outcome = Outcome::Failed.as_str().into());
                self.end();
                Poll::Ready(Some(Err(BrokenOff)))
            }
            None => {
                end(meter);
                self.end();
                Poll::Ready(None)
            }
        }
    }
}

/// An answer that was passed on has ended in order.
fn end(meter: &mut Option<Box<Meter>>) {
    if let Some(meter) = meter.take() {
        meter.end();
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.source {
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.record.first_byte();
                self.end();
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Source::Stream { .. } => self.poll_stream(cx),
            Source::Passed { .. } => self.poll_passed(cx),
            Source::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ended => true,
            Source::Whole(_) | Source::Stream { .. } => false,
            Source::Passed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Passed { incoming, .. } => incoming.size_hint(),
            Source::Stream { .. } => SizeHint::default(),
            Source::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Body {
    /// hyper does not poll a body that says it is at its end; one passed through is done all the same.
    fn drop(&mut self) {
        if let Source::Passed { incoming, meter, .. } = &mut self.source
            && incoming.is_end_stream()
        {
            end(meter);
            self.record.finished();
        }
    }
}

/// What the cache did, for the reply's headers.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    pub(super) outcome: Option<Outcome>,
    pub(super) tier: Option<Tier>,
    pub(super) reason: Option<Reason>,
    pub(super) entry: Option<EntryId>,
    /// Whether the answer was stored; `None` while that is not known.
    pub(super) stored: Option<bool>,
    pub(super) age: Option<Duration>,
    pub(super) ttl: Option<Duration>,
    /// Cosine, for keys that may see it.
    pub(super) similarity: Option<f32>,
}

const X_CACHE: HeaderName = HeaderName::from_static("x-remora-cache");
const X_TIER: HeaderName = HeaderName::from_static("x-remora-tier");
const X_REASON: HeaderName = HeaderName::from_static("x-remora-reason");
const X_ENTRY: HeaderName = HeaderName::from_static("x-remora-entry");
const X_SIMILARITY: HeaderName = HeaderName::from_static("x-remora-similarity");
const X_REMORA_REQUEST_ID: HeaderName = HeaderName::from_static("x-remora-request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_COST: HeaderName = HeaderName::from_static("x-remora-cost-usd");
const X_SAVED: HeaderName = HeaderName::from_static("x-remora-saved-usd");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

impl Served {
    /// Writes `Cache-Status` (RFC 9211), `Age` and the `x-remora-*` headers.
    pub(super) fn write(&self, headers: &mut HeaderMap, record: &Record) {
        let id = HeaderValue::from_str(&record.id().to_string());
        if let Ok(id) = id {
            headers.insert(X_REMORA_REQUEST_ID, id.clone());
            headers.insert(X_REQUEST_ID, id);
        }
        let Some(outcome) = self.outcome else { return };
        let word = match outcome {
            Outcome::Hit => "HIT",
            Outcome::Miss => "MISS",
            Outcome::Refresh => "REFRESH",
            Outcome::Coalesced => "COALESCED",
            Outcome::Shadow => "SHADOW",
            Outcome::Audit | Outcome::Bypass | Outcome::Refused | Outcome::Failed | Outcome::Cancelled => "BYPASS",
        };
        headers.insert(X_CACHE, HeaderValue::from_static(word));
        if let Some(tier) = self.tier {
            headers.insert(X_TIER, HeaderValue::from_static(tier.as_str()));
        }
        if let Some(reason) = self.reason {
            headers.insert(X_REASON, HeaderValue::from_static(reason.as_str()));
        }
        if let Some(value) = self.entry.and_then(|id| HeaderValue::from_str(&id.to_string()).ok()) {
            headers.insert(X_ENTRY, value);
        }
        if let Some(value) = self.similarity.and_then(|s| HeaderValue::from_str(&format!("{s:.4}")).ok()) {
            headers.insert(X_SIMILARITY, value);
        }
        if let Some(age) = self.age {
            headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        }
        if let Ok(value) = HeaderValue::from_str(&self.cache_status(outcome)) {
            headers.insert(CACHE_STATUS, value);
        }
    }

    fn cache_status(&self, outcome: Outcome) -> String {
        let mut text = String::with_capacity(64);
        text.push_str("remora");
        match outcome {
            Outcome::Hit => text.push_str("; hit"),
            Outcome::Miss | Outcome::Shadow => text.push_str("; fwd=miss"),
            Outcome::Refresh => text.push_str("; fwd=request"),
            Outcome::Coalesced => text.push_str("; fwd=miss; collapsed"),
            _ => text.push_str("; fwd=bypass"),
        }
        if let Some(ttl) = self.ttl {
            text.push_str(&format!("; ttl={}", ttl.as_secs()));
        }
        if self.stored == Some(true) {
            text.push_str("; stored");
        }
        let tier = self.tier.map(Tier::as_str);
        if let Some(detail) = self.reason.map(Reason::as_str).or(tier) {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        text
    }
}

/// Says what the request cost and what it saved net: in the head where the answer is whole, after the end of a stream for a client
/// that reads trailers.
pub(super) fn tell_money(reply: &mut Reply, trailers: bool, record: &Record) {
    match &reply.body().source {
        Source::Whole(_) => write_money(reply.headers_mut(), record),
        Source::Stream { .. } if trailers => {
            reply.body_mut().trailers = true;
            let names = HeaderValue::from_static("x-remora-cost-usd, x-remora-saved-usd");
            reply.headers_mut().insert(header::TRAILER, names);
        }
        Source::Stream { .. } | Source::Passed { .. } | Source::Ended => {}
    }
}

/// Whether a client reads trailers: one of HTTP/2, or of HTTP/1.1 that says so.
pub(super) fn reads_trailers(version: http::Version, headers: &HeaderMap) -> bool {
    let told = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    version == http::Version::HTTP_2
        || told.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Dollars; nothing of what is not known.
fn write_money(headers: &mut HeaderMap, record: &Record) {
    let (cost, saved) = record.money();
    for (name, nano_usd) in [(X_COST, cost), (X_SAVED, saved)] {
        let value = nano_usd.and_then(|nano_usd| HeaderValue::from_str(&NanoUsd(nano_usd).to_string()).ok());
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// A reply with a whole JSON body.
pub(super) fn json(status: StatusCode, body: Bytes, record: &Record) -> Reply {
    let mut reply = Response::new(Body::whole(body, record.clone()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Headers of an event stream that nothing on the way may hold back.
pub(super) fn stream_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
}

/// Head of an answer that is passed on.
#[derive(Debug, Clone)]
pub(super) struct AnswerHead {
    /// Upstream's status.
    pub(super) status: StatusCode,
    /// What of upstream's headers the client gets.
    pub(super) headers: HeaderMap,
    /// What the answer was billed for, known at the end of a stream.
    pub(super) usage: Arc<OnceLock<Tokens>>,
}

/// A whole answer of upstream.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    /// Its head.
    pub(super) head: AnswerHead,
    /// Its body.
    pub(super) body: Bytes,
    /// The entry it was stored as.
    pub(super) stored: Option<EntryId>,
    /// Why it was not stored.
    pub(super) not_stored: Option<Reason>,
    /// What it was billed for.
    pub(super) usage: Option<Tokens>,
}

/// Answers shared by several replies.
pub(super) type SharedWhole = Arc<Whole>;
