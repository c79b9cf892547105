//! The body of a request, within its size and its deadlines.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::tally::Tally;
use crate::config::{Deadlines, Limits};

/// Why a request body cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than `body_bytes` or than the reader's own limit.
    #[error("the request body is too large")]
    TooLarge,
    /// Nothing came for `body_idle`.
    #[error("the request body stopped arriving")]
    Idle,
    /// Not complete within `body`.
    #[error("the request body took too long")]
    Timeout,
    /// The chunked framing is broken.
    #[error("the request body is malformed")]
    Malformed,
    /// The client went away or reset the stream.
    #[error("the client went away while sending the request body")]
    Disconnected,
}

impl BodyError {
    /// Metric label, log field and `code` of the error body.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::Idle => "body_idle",
            Self::Timeout => "body_timeout",
            Self::Malformed => "bad_chunk",
            Self::Disconnected => "disconnected",
        }
    }
}

/// A request body that ends, one way or the other: at its end, at its cap or at a deadline. Trailers are dropped.
///
/// After an error it is at its end. Dropping it before the end closes an HTTP/1 connection after the answer, which says so.
pub struct RequestBody {
    source: Source,
    left: usize,
    idle: Duration,
    total: Duration,
    waits: Option<Waits>,
    sleep: Option<Pin<Box<Sleep>>>,
    tally: Option<Arc<Tally>>,
}

enum Source {
    Stream(Incoming),
    Memory(Bytes),
    Ended,
}

#[derive(Clone, Copy)]
struct Waits {
    total: Instant,
    idle: Option<Instant>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, limits: &Limits, deadlines: &Deadlines, tally: Arc<Tally>) -> Self {
        Self {
            source: Source::Stream(incoming),
            left: limits.body_bytes,
            idle: deadlines.body_idle,
            total: deadlines.body,
            waits: None,
            sleep: None,
            tally: Some(tally),
        }
    }

    /// A body that is there already, for callers that build their own requests.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self {
            left: bytes.len(),
            source: Source::Memory(bytes),
            idle: Duration::MAX,
            total: Duration::MAX,
            waits: None,
            sleep: None,
            tally: None,
        }
    }

    /// The whole body, if it is no longer than `limit` bytes (and than `body_bytes`).
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        self.left = self.left.min(limit);
        let Some(first) = self.data().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.data().await? else { return Ok(first) };
        let expected = self.source_len().map_or(0, |rest| rest.min(self.left as u64));
        let rest = usize::try_from(expected).unwrap_or(0);
        let mut whole = BytesMut::with_capacity(first.len() + second.len() + rest);
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(data) = self.data().await? {
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await.transpose()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let result = ready!(self.poll_source(cx));
        if !matches!(result, Some(Ok(_))) {
            if result.is_some() {
                self.leave();
            }
            // Dropping the stream tells hyper that nobody will read on.
            self.source = Source::Ended;
        }
        Poll::Ready(result)
    }

    /// Tells the connection that there is more of the body, which nobody will read.
    fn leave(&self) {
        let rest = matches!(&self.source, Source::Stream(incoming) if !incoming.is_end_stream());
        if let (true, Some(tally)) = (rest, &self.tally) {
            tally.leave_body();
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.source_len().is_some_and(|len| len > self.left as u64) {
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        }
        loop {
            let frame = match &mut self.source {
                Source::Ended => return Poll::Ready(None),
                Source::Memory(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.left -= bytes.len();
                    return Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)));
                }
                Source::Stream(incoming) => match Pin::new(incoming).poll_frame(cx) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => return self.poll_late(cx).map(|late| Some(Err(late))),
                },
            };
            if let Some(waits) = &mut self.waits {
                waits.idle = None;
            }
            match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(classify(&error)))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        let left = self.left.checked_sub(data.len());
                        self.left = left.unwrap_or(0);
                        return Poll::Ready(Some(left.map(|_| data).ok_or(BodyError::TooLarge)));
                    }
                }
            }
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Self { idle, total, waits, sleep, .. } = self;
        let waits = waits.get_or_insert_with(|| Waits { total: Instant::now() + *total, idle: None });
        let idle_until = *waits.idle.get_or_insert_with(|| Instant::now() + *idle);
        let until = idle_until.min(waits.total);
        let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                break;
            }
            sleep.as_mut().reset(until);
        }
        Poll::Ready(if until == waits.total { BodyError::Timeout } else { BodyError::Idle })
    }

    /// Bytes that are still to come, where that is known.
    fn source_len(&self) -> Option<u64> {
        match &self.source {
            Source::Stream(incoming) => incoming.size_hint().exact(),
            Source::Memory(bytes) => Some(bytes.len() as u64),
            Source::Ended => Some(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll_data(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Stream(incoming) => incoming.is_end_stream(),
            Source::Memory(bytes) => bytes.is_empty(),
            Source::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.source_len().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn classify(error: &hyper::Error) -> BodyError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => BodyError::Malformed,
                _ => BodyError::Disconnected,
            };
        }
        source = cause.source();
    }
    BodyError::Disconnected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_from_memory_is_held_to_the_readers_limit() {
        let body = || RequestBody::from_bytes(Bytes::from_static(b"1234"));
        assert_eq!(body().collect(4).await.unwrap(), "1234");
        assert_eq!(body().collect(3).await, Err(BodyError::TooLarge));
        assert_eq!(RequestBody::from_bytes(Bytes::new()).collect(0).await.unwrap(), "");
    }
}
