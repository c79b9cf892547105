//! The bytes of a response: a whole body, or a stream of server-sent events, with the ordered faults of framing and timing.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::connection::ResetSwitch;
use super::events::Events;
use super::fault::{BreakKind, Fault};
use super::stats::Flight;

/// How long a stalled stream or an unanswered request is kept before the simulator gives up too.
pub(super) const STALL: Duration = Duration::from_secs(600);
/// Events without a delay between them are sent together, up to about so many bytes.
const FRAME_BYTES: usize = 16 * 1024;
/// The gap between the two halves of a split event: enough for two TCP segments.
const SPLIT_GAP: Duration = Duration::from_millis(1);
/// The wait before a break: hyper drops what it has not yet written when a body fails.
const BREAK_GAP: Duration = Duration::from_millis(2);

/// What happens after the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Clean,
    Cut,
    Reset,
    Stall,
}

impl End {
    /// The end that an ordered break leads to.
    pub(super) fn of(kind: BreakKind) -> Self {
        match kind {
            BreakKind::Cut => Self::Cut,
            BreakKind::Reset => Self::Reset,
            BreakKind::Stall => Self::Stall,
            BreakKind::ErrorEvent => Self::Clean,
        }
    }
}

/// A response body. It owns the request's [`Flight`] until its last byte.
pub(super) struct ReplyBody {
    source: Source,
    end: End,
    flight: Option<Flight>,
    switch: ResetSwitch,
    pause: Option<Pin<Box<Sleep>>>,
    /// What was written before a break has had its time to leave.
    flushed: bool,
}

enum Source {
    Whole(Bytes),
    Feed(Box<Feed>),
}

impl ReplyBody {
    /// A whole body.
    pub(super) fn whole(bytes: Bytes, end: End, flight: Option<Flight>, switch: ResetSwitch) -> Self {
        let mut body = Self { source: Source::Whole(bytes), end, flight, switch, pause: None, flushed: false };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// A stream of events.
    pub(super) fn feed(feed: Feed, end: End, flight: Flight, switch: ResetSwitch) -> Self {
        Self { source: Source::Feed(Box::new(feed)), end, flight: Some(flight), switch, pause: None, flushed: false }
    }

    fn next_bytes(&mut self) -> Option<Bytes> {
        match &mut self.source {
            Source::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Source::Feed(feed) => {
                let (bytes, events) = feed.next_frame()?;
                if let Some(flight) = &mut self.flight {
                    flight.sent(events);
                }
                Some(bytes)
            }
        }
    }

    fn exhausted(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Feed(feed) => feed.next.is_none() && feed.rest.is_empty(),
        }
    }

    fn arm(&mut self, wait: Duration) {
        match &mut self.pause {
            Some(pause) => pause.as_mut().reset(Instant::now() + wait),
            None => self.pause = Some(Box::pin(sleep(wait))),
        }
    }

    fn finish(&mut self) {
        if let Some(mut flight) = self.flight.take() {
            flight.finish();
        }
    }

    fn broken(&mut self) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.finish();
        Poll::Ready(Some(Err(io::Error::other("simulated break"))))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(pause) = &mut self.pause {
            // A finished pause stays ready until it is armed again.
            ready!(pause.as_mut().poll(cx));
        }
        if let Some(bytes) = self.next_bytes() {
            let wait = match &self.source {
                Source::Feed(feed) => feed.gap(),
                Source::Whole(_) => Duration::ZERO,
            };
            if self.is_end_stream() {
                self.finish();
            } else if !wait.is_zero() {
                self.arm(wait);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.end != End::Clean && !std::mem::replace(&mut self.flushed, true) {
            self.arm(BREAK_GAP);
            return self.poll_frame(cx);
        }
        match self.end {
            End::Clean => {
                self.finish();
                Poll::Ready(None)
            }
            End::Cut => self.broken(),
            End::Reset => {
                self.switch.press();
                self.broken()
            }
            End::Stall => {
                self.end = End::Cut;
                self.arm(STALL);
                self.poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.end == End::Clean && self.exhausted()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) if self.end == End::Clean => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

/// Where the payloads of a stream come from.
pub(super) enum Script {
    /// Made one by one, `[DONE]` after the last.
    Made(Box<Events>),
    /// All made before, each with its name before its data.
    Named(VecDeque<Vec<u8>>),
}

/// Server-sent events, framed as ordered.
pub(super) struct Feed {
    events: Script,
    fault: Fault,
    delay: Duration,
    made: u32,
    over: bool,
    /// The payload to send next, made ahead so that the last one is known to be the last.
    next: Option<Vec<u8>>,
    /// The second half of a split event.
    rest: Bytes,
}

impl Feed {
    /// A feed with `delay` between two events.
    pub(super) fn new(events: Script, delay: Duration, fault: Fault) -> Self {
        let mut feed = Self { events, fault, delay, made: 0, over: false, next: None, rest: Bytes::new() };
        feed.next = feed.produce();
        feed
    }

    /// The wait before the next frame.
    fn gap(&self) -> Duration {
        if self.fault.split { self.delay.max(SPLIT_GAP) } else { self.delay }
    }

    /// The next bytes to write, and how many events begin in them.
    fn next_frame(&mut self) -> Option<(Bytes, u64)> {
        if !self.rest.is_empty() {
            return Some((std::mem::take(&mut self.rest), 0));
        }
        let mut out = Vec::new();
        let mut events = 0;
        while let Some(payload) = self.next.take() {
            self.next = self.produce();
            self.frame(&payload, &mut out);
            events += 1;
            if !self.gap().is_zero() || out.len() >= FRAME_BYTES {
                break;
            }
        }
        if events == 0 {
            return None;
        }
        let mut bytes = Bytes::from(out);
        if self.fault.split {
            self.rest = bytes.split_off(split_point(&bytes));
        }
        Some((bytes, events))
    }

    fn frame(&self, payload: &[u8], out: &mut Vec<u8>) {
        let newline: &[u8] = if self.fault.crlf { b"\r\n" } else { b"\n" };
        if self.fault.comments {
            out.extend_from_slice(b": simulated comment");
            out.extend_from_slice(newline);
            out.extend_from_slice(newline);
        }
        if matches!(self.events, Script::Made(_)) {
            out.extend_from_slice(b"data: ");
        }
        out.extend_from_slice(payload);
        out.extend_from_slice(newline);
        if !(self.fault.no_final_blank && self.next.is_none()) {
            out.extend_from_slice(newline);
        }
    }

    fn produce(&mut self) -> Option<Vec<u8>> {
        if self.over {
            return None;
        }
        if let Some((kind, after)) = self.fault.breaks
            && self.made >= after
        {
            self.over = true;
            return (kind == BreakKind::ErrorEvent).then(|| ERROR_EVENT.to_vec());
        }
        self.made = self.made.saturating_add(1);
        match &mut self.events {
            Script::Made(events) => {
                let mut payload = Vec::with_capacity(320);
                if events.write_next(&mut payload) {
                    return Some(payload);
                }
            }
            Script::Named(events) => {
                let next = events.pop_front();
                self.over = next.is_none();
                return next;
            }
        }
        self.over = true;
        (!self.fault.no_done).then(|| b"[DONE]".to_vec())
    }
}

const ERROR_EVENT: &[u8] = br#"{"error":{"message":"The server had an error while processing your request. (simulated)","type":"server_error","param":null,"code":null}}"#;

/// After the first byte of the first multi-byte character, else in the middle.
fn split_point(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte >= 0xC0).map_or(bytes.len() / 2, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_falls_inside_a_character() {
        assert_eq!(split_point("data: é".as_bytes()), 7);
        assert_eq!(split_point(b"abcd"), 2);
    }
}
