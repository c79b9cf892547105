//! Counters of one listener, read by the metrics endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

use super::strict::Refusal;

/// All counters only grow, but for [`Stats::open`].
#[derive(Debug, Default)]
pub struct Stats {
    accepted: AtomicU64,
    closed: AtomicU64,
    full: AtomicU64,
    full_ip: AtomicU64,
    accept_errors: AtomicU64,
    tls_failed: AtomicU64,
    panics: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

macro_rules! counters {
    ($($(#[$doc:meta])* $get:ident, $count:ident, $field:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $get(&self) -> u64 {
                self.$field.load(Ordering::Relaxed)
            }

            pub(super) fn $count(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            }
        )*
    };
}

impl Stats {
    counters! {
        /// Connections that were taken in.
        accepted, count_accepted, accepted;
        /// Connections that were taken in and are closed.
        closed, count_closed, closed;
        /// Connections closed at once because there were `connections` of them.
        refused_total, count_refused_total, full;
        /// Connections closed at once because their address had `connections_per_ip` of them.
        refused_per_ip, count_refused_per_ip, full_ip;
        /// Failures of `accept` itself, as when file descriptors run out.
        accept_errors, count_accept_error, accept_errors;
        /// TLS handshakes that failed or took too long.
        tls_failed, count_tls_failed, tls_failed;
        /// Requests that ended in a panic, in the service or in the body of its answer.
        panics, count_panic, panics;
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.accepted().saturating_sub(self.closed())
    }

    /// Requests refused for this reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn count_refused(&self, reason: Refusal) {
        if let Some(count) = self.refused.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
