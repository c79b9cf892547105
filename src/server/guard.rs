//! What hyper reads an HTTP/1 connection through: complete, unambiguous heads only, and none too late.
//!
//! hyper reads straight into its own buffer, and the bytes are checked there; only a head that arrives in pieces is
//! kept back until it is whole. A head that must be refused is replaced by a stand-in, and its number is left in the
//! [`Tally`]; the service then answers that number with the refusal. So answers stay in order, and a client cannot
//! forge a refusal or hide one.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::stats::Stats;
use super::strict::{Framing, HeadLimits, Refusal, Then};
use super::tally::Tally;

/// What hyper reads in place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// How long a closing connection goes on reading what the client has sent already. Closing with unread bytes makes
/// the kernel reset the connection, and the client would lose the answer it has not read yet.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// The stand-in has taken the place of all further bytes.
    Refused,
    /// A body turned out malformed; the next read fails.
    Broken,
}

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The client: the rest of a head, or its first one.
    Head,
    /// The client: another request.
    NextRequest,
    /// The client: its body, whose deadlines `RequestBody` keeps.
    Body,
    /// The service.
    Answer,
}

/// Deadlines of the reading side.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadDeadlines {
    /// When the first head must be complete.
    pub(super) first_head: Instant,
    /// For a later head, from its first byte.
    pub(super) head: Duration,
    /// From the end of an answer to the first byte of the next head.
    pub(super) keep_alive: Duration,
}

/// The reading side of one HTTP/1 connection; writes go through untouched.
pub(super) struct Guard<T> {
    io: T,
    framing: Framing,
    mode: Mode,
    /// An incomplete head; its first `ready` bytes may go to hyper.
    held: BytesMut,
    ready: usize,
    tally: Arc<Tally>,
    stats: Arc<Stats>,
    deadlines: ReadDeadlines,
    /// What `deadline` was set for; none when something came since.
    wait: Option<Wait>,
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Guard<T> {
    pub(super) fn new(
        io: T,
        limits: HeadLimits,
        deadlines: ReadDeadlines,
        tally: Arc<Tally>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            io,
            framing: Framing::new(limits),
            mode: Mode::Open,
            held: BytesMut::new(),
            ready: 0,
            tally,
            stats,
            deadlines,
            wait: Some(Wait::Head),
            deadline: deadlines.first_head,
            sleep: None,
            linger: None,
        }
    }

    /// Gives hyper what may go to it; whether there was anything.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = self.ready.min(buf.remaining());
        buf.put_slice(self.held.get(..len).unwrap_or_default());
        self.held.advance(len);
        self.ready -= len;
        if len > 0 && self.held.is_empty() {
            // Lets go of the buffer, which an idle connection would otherwise keep.
            self.held = BytesMut::new();
        }
        len > 0
    }

    /// Judges the bytes of `buf` from `before` on. What may not go to hyper yet, or at all, is taken out of it.
    fn take_in(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let in_place = self.held.is_empty();
        let scan = if in_place {
            self.framing.scan(fresh)
        } else {
            self.held.extend_from_slice(fresh);
            self.framing.scan(&self.held)
        };
        if scan.pass > 0 {
            self.wait = None;
        }
        if in_place {
            if scan.then == Then::Hold {
                self.held.extend_from_slice(fresh.get(scan.pass..).unwrap_or_default());
            }
            buf.set_filled(before + scan.pass);
        } else {
            self.ready = scan.pass;
            buf.set_filled(before);
        }
        match scan.then {
            Then::All | Then::Hold => {}
            Then::Refuse(refusal) => self.refuse(refusal),
            Then::Broken => {
                self.stats.count_refused(Refusal::Chunk);
                self.held.truncate(self.ready);
                self.mode = Mode::Broken;
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.mode = Mode::Refused;
        self.tally.refuse(self.framing.heads() + 1, refusal);
        self.held.truncate(self.ready);
        self.held.extend_from_slice(STAND_IN);
        self.ready = self.held.len();
    }

    fn wait_now(&self) -> Wait {
        if !self.framing.at_head() {
            Wait::Body
        } else if self.framing.heads() != self.tally.finished() {
            Wait::Answer
        } else if self.framing.heads() == 0 || !self.held.is_empty() {
            Wait::Head
        } else {
            Wait::NextRequest
        }
    }

    /// Whether the client is late with what it owes.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let wait = self.wait_now();
            if self.wait != Some(wait) {
                self.wait = Some(wait);
                let allowed = if wait == Wait::Head { self.deadlines.head } else { self.deadlines.keep_alive };
                self.deadline = Instant::now() + allowed;
            }
            if wait == Wait::Body {
                return Poll::Pending;
            }
            ready!(self.poll_deadline(cx));
            if wait != Wait::Answer {
                return Poll::Ready(());
            }
            // hyper does not always read again when an answer ends, so this looks again by itself. An idle
            // connection may therefore live for twice the keep-alive deadline.
            self.wait = None;
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // A timer that rings too early is set anew then; that is cheaper than setting it for every request.
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }

    /// Reads and throws away; the number of bytes, 0 at the end.
    fn poll_scrap(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scrap = [0u8; 2048];
        let mut buf = ReadBuf::new(&mut scrap);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Whether the client may still be sending something that we will not read.
    fn has_unread(&self) -> bool {
        self.mode != Mode::Open || !self.framing.at_head() || !self.held.is_empty()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.deliver(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.mode {
                Mode::Open => {}
                // hyper closes after the answer to the stand-in. Until then it must not take this for the client's
                // end, which would cost the answers before it.
                Mode::Refused => return Poll::Pending,
                Mode::Broken => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Refusal::Chunk.message())));
                }
            }
            let before = buf.filled().len();
            match Pin::new(&mut this.io).poll_read(cx, buf) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    ready!(this.poll_late(cx));
                    if this.held.is_empty() {
                        // Nothing was begun, so there is nothing to answer: hyper takes this for the client's end.
                        return Poll::Ready(Ok(()));
                    }
                    this.refuse(Refusal::HeadTimeout);
                    continue;
                }
            }
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.take_in(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.has_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            match ready!(this.poll_scrap(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(_) => {}
            }
        }
    }
}
