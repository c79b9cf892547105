//! Wall-clock time. Everything that stores or compares a time of day takes it from here, so that tests can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = u64;

/// The one source of wall-clock time: the system's, or one that a test sets by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The system clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `start` until [`Clock::advance_ms`] moves it. Clones share it.
    pub fn manual(start: UnixMs) -> Self {
        Self(Some(Arc::new(AtomicU64::new(start))))
    }

    /// The time now.
    pub fn now_ms(&self) -> UnixMs {
        match &self.0 {
            Some(manual) => manual.load(Ordering::Relaxed),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Moves a manual clock forward; the system clock is left alone.
    pub fn advance_ms(&self, by: u64) {
        if let Some(manual) = &self.0 {
            manual.fetch_add(by, Ordering::Relaxed);
        }
    }
}
