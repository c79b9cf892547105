//! A byte stream whose reader must keep up: a write that waits longer than the deadline is an error.
//!
//! Without it a client that opens a stream and stops reading would hold its request, and the upstream's, for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::tally::Tally;

/// A stream with bytes put back in front, and the write deadline.
pub(super) struct Paced<T> {
    io: T,
    first: Bytes,
    stall: Duration,
    waiting: bool,
    sleep: Option<Pin<Box<Sleep>>>,
    tally: Arc<Tally>,
}

impl<T> Paced<T> {
    /// `first` is read before anything from `io`.
    pub(super) fn new(io: T, first: Bytes, stall: Duration, tally: Arc<Tally>) -> Self {
        Self { io, first, stall, waiting: false, sleep: None, tally }
    }

    fn judge<R>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.waiting = false;
            self.tally.wrote();
            return result;
        }
        let until = Instant::now() + self.stall;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(self.stall)));
        if !std::mem::replace(&mut self.waiting, true) {
            sleep.as_mut().reset(until);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let len = this.first.len().min(buf.remaining());
        buf.put_slice(this.first.get(..len).unwrap_or_default());
        this.first.advance(len);
        if this.first.is_empty() {
            // Lets go of the buffer, which an idle connection would otherwise keep.
            this.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.judge(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.judge(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_flush(cx);
        // A flush that has nothing to do is no sign of a reader.
        if result.is_ready() && !this.waiting {
            return result;
        }
        this.judge(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_shutdown(cx);
        this.judge(cx, result)
    }
}
