//! What the two halves of one connection tell each other: the byte side ([`Guard`](super::guard::Guard)) and the
//! request side ([`Front`](super::exchange::Front)).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::strict::Refusal;

/// Counts of one connection. Requests are numbered from 1 in the order of their heads.
#[derive(Debug, Default)]
pub(super) struct Tally {
    called: AtomicU64,
    finished: AtomicU64,
    writes: AtomicU64,
    refused_at: AtomicU64,
    refusal: AtomicU8,
    body_left: AtomicBool,
}

impl Tally {
    /// Counts a request that reached the service; its number.
    pub(super) fn call(&self) -> u64 {
        self.called.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Counts a request whose answer has been handed over to the last byte, or that was given up.
    pub(super) fn finish(&self) {
        self.finished.fetch_add(1, Ordering::AcqRel);
    }

    /// Requests that reached the service.
    pub(super) fn called(&self) -> u64 {
        self.called.load(Ordering::Acquire)
    }

    /// Requests that are over.
    pub(super) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Acquire)
    }

    /// Whether a request is with the service, or its answer on the way.
    pub(super) fn busy(&self) -> bool {
        self.called() != self.finished()
    }

    /// Counts a write that the socket took.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes that the socket took.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Says that the rest of a body will not be read. Over HTTP/1 nothing can come after it.
    pub(super) fn leave_body(&self) {
        self.body_left.store(true, Ordering::Release);
    }

    /// Whether the rest of a body will not be read.
    pub(super) fn body_left(&self) -> bool {
        self.body_left.load(Ordering::Acquire)
    }

    /// Says that the request of this number is a stand-in for a head that was refused. At most once a connection.
    pub(super) fn refuse(&self, number: u64, refusal: Refusal) {
        self.refusal.store(refusal as u8, Ordering::Relaxed);
        self.refused_at.store(number, Ordering::Release);
    }

    /// Why the request of this number is refused, if it is.
    pub(super) fn refusal(&self, number: u64) -> Option<Refusal> {
        if self.refused_at.load(Ordering::Acquire) != number {
            return None;
        }
        Refusal::from_code(self.refusal.load(Ordering::Relaxed))
    }
}
