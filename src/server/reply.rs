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
    stats: Arc<Stats>,
    watch: Option<Arc<StreamWatch>>,
    _in_flight: InFlight,
}

impl<B> ReplyBody<B> {
    pub(super) fn service(body: B, stats: Arc<Stats>, in_flight: InFlight) -> Self {
        Self { source: Source::Service(body), stats, watch: StreamWatch::current(), _in_flight: in_flight }
    }

    pub(super) fn own(body: Bytes, stats: Arc<Stats>, in_flight: InFlight) -> Self {
        Self { source: Source::Own(body), stats, watch: StreamWatch::current(), _in_flight: in_flight }
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
        let polled = match &mut this.source {
            Source::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            // A panic here is after the head: all that can be done is to break off, this stream only.
            Source::Service(body) => match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
                Ok(polled) => polled.map_err(Into::into),
                Err(_) => {
                    this.stats.count_panic();
                    Poll::Ready(Some(Err("the answer ended in a panic".into())))
                }
            },
        };
        if let Some(watch) = &this.watch {
            watch.polled(matches!(polled, Poll::Ready(Some(Ok(_)))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Service(body) => body.is_end_stream(),
            Source::Own(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Service(body) => body.size_hint(),
            Source::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
