//! The body of an answer: the service's, or our own few bytes. Knows when it is over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::stats::Stats;
use super::streams::StreamWatch;
use super::tally::Tally;

/// The largest frame that hyper gets at a time on HTTP/2. It hands a frame over whole as soon as the client's window
/// is open by one byte, and the stall watch does not see what is handed over; so that must not be a whole answer.
const PIECE: usize = 16 * 1024;

/// Any error of a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Counts one request as open until it is dropped.
pub(super) struct InFlight(pub(super) Arc<Tally>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.finish();
    }
}

enum Source<B> {
    Service(B),
    Own(Bytes),
}

/// The body that hyper sends. The request counts as open as long as it lives.
pub struct ReplyBody<B> {
    source: Source<B>,
    /// What is left of a frame that was too large for HTTP/2.
    rest: Bytes,
    stats: Arc<Stats>,
    watch: Option<Arc<StreamWatch>>,
    _in_flight: InFlight,
}

impl<B> ReplyBody<B> {
    fn new(source: Source<B>, stats: Arc<Stats>, in_flight: InFlight) -> Self {
        Self { source, rest: Bytes::new(), stats, watch: StreamWatch::current(), _in_flight: in_flight }
    }

    pub(super) fn service(body: B, stats: Arc<Stats>, in_flight: InFlight) -> Self {
        Self::new(Source::Service(body), stats, in_flight)
    }

    pub(super) fn own(body: Bytes, stats: Arc<Stats>, in_flight: InFlight) -> Self {
        Self::new(Source::Own(body), stats, in_flight)
    }

    /// The next piece of the frame that is left.
    fn piece(&mut self) -> Bytes {
        if self.rest.len() > PIECE {
            return self.rest.split_to(PIECE);
        }
        // A copy, so that a last piece that nobody reads does not keep the whole answer in memory.
        Bytes::copy_from_slice(&std::mem::take(&mut self.rest))
    }
}

impl<B> ReplyBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Source::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            // A panic here is after the head: all that can be done is to break off, this stream only.
            Source::Service(body) => match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
                Ok(polled) => polled.map_err(Into::into),
                Err(_) => {
                    self.stats.count_panic();
                    Poll::Ready(Some(Err("the answer ended in a panic".into())))
                }
            },
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.piece()))));
        }
        let polled = self.poll_source(cx);
        match polled {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| data.len() > PIECE) => {
                self.rest = frame.into_data().unwrap_or_default();
                Poll::Ready(Some(Ok(Frame::data(self.piece()))))
            }
            polled => polled,
        }
    }
}

impl<B> Body for ReplyBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.watch.is_none() {
            return this.poll_source(cx);
        }
        let polled = this.poll_piece(cx);
        if let Some(watch) = &this.watch {
            watch.polled(matches!(polled, Poll::Ready(Some(Ok(_)))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match &self.source {
                Source::Service(body) => body.is_end_stream(),
                Source::Own(bytes) => bytes.is_empty(),
            }
    }

    /// Asked for before the first frame only, when nothing is left of any.
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Service(body) => body.size_hint(),
            Source::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
