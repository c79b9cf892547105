//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn inc(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of one [`super::Shared`].
#[derive(Default)]
pub(super) struct Counters {
    pub(super) asked: Counter,
    pub(super) connects: Counter,
    pub(super) opened: Counter,
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) timeouts: Counter,
    pub(super) lost: Counter,
    pub(super) refused: Counter,
    pub(super) wrong_type: Counter,
    pub(super) corrupted: Counter,
    pub(super) away: Counter,
    pub(super) busy: Counter,
    pub(super) dropped: Counter,
    pub(super) leases_held: Counter,
    pub(super) leases_taken: Counter,
    pub(super) leases_lost: Counter,
    pub(super) wakes_sent: Counter,
    pub(super) wakes_heard: Counter,
}

/// How Redis is doing. Counts are since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedStats {
    /// Whether operations are sent: there is a connection, and the breaker is closed.
    pub up: bool,
    /// Whether the breaker is open: Redis failed too often and is left alone until a probe in the background succeeds.
    pub open: bool,
    /// Times the breaker opened.
    pub opened: u64,
    /// Connections made, probes included.
    pub connects: u64,
    /// Operations sent, a `PING` a second included.
    pub asked: u64,
    /// Operations that are under way.
    pub in_flight: usize,
    /// Background writes that wait.
    pub queued: usize,
    /// Values found.
    pub hits: u64,
    /// Values not there. An operation that failed is none.
    pub misses: u64,
    /// Operations without an answer within the deadline.
    pub timeouts: u64,
    /// Operations whose connection broke.
    pub lost: u64,
    /// Operations that the server answered with an error: out of memory, read-only, moved, loading …
    pub refused: u64,
    /// Keys of another type, which were deleted.
    pub wrong_type: u64,
    /// Values that were cut, changed or written by another version, and were deleted.
    pub corrupted: u64,
    /// Operations that were not sent because Redis is away.
    pub away: u64,
    /// Operations that were not sent because too many were under way.
    pub busy: u64,
    /// Background writes that were given up: the queue was full, or Redis was away or failed.
    pub dropped: u64,
    /// Leases taken by this process.
    pub leases_held: u64,
    /// Leases that another replica had, or whose value was there already.
    pub leases_taken: u64,
    /// Leases that ran out while this process thought it had them.
    pub leases_lost: u64,
    /// Wake-ups sent.
    pub wakes_sent: u64,
    /// Wake-ups of other processes.
    pub wakes_heard: u64,
}

impl Counters {
    /// The counts; the caller adds the states.
    pub(super) fn snapshot(&self) -> SharedStats {
        SharedStats {
            up: false,
            open: false,
            in_flight: 0,
            queued: 0,
            opened: self.opened.get(),
            connects: self.connects.get(),
            asked: self.asked.get(),
            hits: self.hits.get(),
            misses: self.misses.get(),
            timeouts: self.timeouts.get(),
            lost: self.lost.get(),
            refused: self.refused.get(),
            wrong_type: self.wrong_type.get(),
            corrupted: self.corrupted.get(),
            away: self.away.get(),
            busy: self.busy.get(),
            dropped: self.dropped.get(),
            leases_held: self.leases_held.get(),
            leases_taken: self.leases_taken.get(),
            leases_lost: self.leases_lost.get(),
            wakes_sent: self.wakes_sent.get(),
            wakes_heard: self.wakes_heard.get(),
        }
    }
}
