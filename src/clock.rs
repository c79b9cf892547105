//! Wall-clock time. Everything that stores or compares a time of day takes it from here, so that tests can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = u64;

/// The month in UTC that a time is in: its start and that of the next. `None` for times that no calendar has.
pub fn utc_month(at: UnixMs) -> Option<(UnixMs, UnixMs)> {
    let at = Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()?;
    let first = Offset::UTC.to_datetime(at).date().first_of_month();
    let start = |day: jiff::civil::Date| {
        u64::try_from(Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()?.as_millisecond()).ok()
    };
    Some((start(first)?, start(first.checked_add(1.month()).ok()?)?))
}

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
