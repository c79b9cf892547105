//! The way from the request path to the store: few at once, none for long, and none at all while it does not answer.
//!
//! Whatever does not get through is a miss. Invariant: a request waits for the store at most for the deadline, and after
//! five failures in a row not at all until one question in a second has been answered.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::store::StoreError;

/// Questions at one time.
const AT_ONCE: usize = 32;
/// Failures in a row after which the store is left alone.
const FAILURES: u32 = 5;
/// How long it is left alone, milliseconds.
const REST_MS: u64 = 1_000;

/// See the module.
pub(super) struct Gate {
    room: Semaphore,
    failures: AtomicU32,
    /// Milliseconds after `began` until which nothing is asked.
    shut_until: AtomicU64,
    began: Instant,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            room: Semaphore::new(AT_ONCE),
            failures: AtomicU32::new(0),
            shut_until: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    /// What the store answers within `deadline`; `None` if it does not, or is not asked.
    pub(super) async fn ask<T>(
        &self,
        deadline: Duration,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let now = self.now();
        if self.failures.load(Ordering::Relaxed) >= FAILURES {
            // One at a time probes: whoever moves the mark on.
            let until = self.shut_until.load(Ordering::Acquire);
            let moved = || {
                let next = now.saturating_add(REST_MS);
                self.shut_until.compare_exchange(until, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
            };
            if now < until || !moved() {
                return None;
            }
        }
        let _room = self.room.try_acquire().ok()?;
        if let Ok(Ok(answer)) = timeout(deadline, question).await {
            self.failures.store(0, Ordering::Relaxed);
            return Some(answer);
        }
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES {
            self.shut_until.store(self.now().saturating_add(REST_MS), Ordering::Release);
        }
        None
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_left_alone_after_five_failures() {
        let gate = Gate::new();
        let asked = AtomicU32::new(0);
        for _ in 0..20 {
            let silent = async {
                asked.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<Result<(), StoreError>>().await
            };
            assert_eq!(gate.ask(DEADLINE, silent).await, None);
        }
        assert_eq!(asked.load(Ordering::Relaxed), FAILURES);
    }

    #[tokio::test]
    async fn one_answer_opens_it_again() {
        let gate = Gate::new();
        for _ in 0..FAILURES {
            let broken = async { Err::<(), _>(StoreError::Closed) };
            assert_eq!(gate.ask(DEADLINE, broken).await, None);
        }
        gate.shut_until.store(0, Ordering::Release);
        assert_eq!(gate.ask(Duration::from_secs(5), async { Ok(1) }).await, Some(1));
        assert_eq!(gate.ask(Duration::from_secs(5), async { Ok(2) }).await, Some(2));
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_are_turned_away() {
        let gate = Gate::new();
        let _taken = gate.room.try_acquire_many(u32::try_from(AT_ONCE).unwrap()).unwrap();
        assert_eq!(gate.ask(DEADLINE, async { Ok(1) }).await, None);
    }
}
