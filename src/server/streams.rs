//! The tasks of HTTP/2 streams, and the end of those whose client opens no window.
//!
//! A client can read its connection and still not take the bytes of one stream (flow control). The socket then never
//! stalls, so the write deadline of [`Paced`](super::paced::Paced) does not see it; this one does, and ends that
//! stream only.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Whether a frame of one stream is waiting for its client.
#[derive(Debug, Default)]
pub(super) struct StreamWatch {
    /// hyper took a frame and has not asked for the next. It asks as soon as the frame has room in the window.
    waiting: AtomicBool,
    /// Frames that hyper took so far.
    frames: AtomicU64,
}

tokio::task_local! {
    static WATCH: Arc<StreamWatch>;
}

impl StreamWatch {
    /// The watch of the stream whose task this is; none on HTTP/1.
    pub(super) fn current() -> Option<Arc<Self>> {
        WATCH.try_with(Arc::clone).ok()
    }

    /// Notes that hyper asked for a frame, and whether it got one.
    pub(super) fn polled(&self, frame: bool) {
        self.waiting.store(frame, Ordering::Relaxed);
        if frame {
            self.frames.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs the streams of HTTP/2 connections, each in a task of its own.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    /// How long a frame may wait for its client.
    pub(super) stall: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let watch = Arc::new(StreamWatch::default());
        tokio::spawn(WATCH.scope(Arc::clone(&watch), until_stalled(stream, watch, self.stall)));
    }
}

/// Runs the stream until it ends, or until a frame has waited too long. Dropping the stream resets it.
async fn until_stalled(stream: impl Future<Output = ()>, watch: Arc<StreamWatch>, stall: Duration) {
    let mut stream = pin!(stream);
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    let mut seen = 0;
    std::future::poll_fn(move |cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let frames = watch.frames.load(Ordering::Relaxed);
        if !watch.waiting.load(Ordering::Relaxed) || std::mem::replace(&mut seen, frames) != frames {
            alarm = None;
        }
        if !watch.waiting.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + stall)));
        let late = alarm.as_mut().poll(cx);
        if late.is_ready() {
            tracing::debug!("HTTP/2 stream ended: its client does not read");
        }
        late
    })
    .await;
}
