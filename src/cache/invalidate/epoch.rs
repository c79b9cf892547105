//! What was invalidated of late, for answers that were under way meanwhile.
//!
//! An answer that was asked for before an invalidation and comes after it is as old as what was removed, so it must not
//! be stored. Each request notes the [`Epoch`] before it goes upstream; at the end its answer is compared with every
//! invalidation since.
//!
//! Invariant: an answer is compared and put on the shelf under one read lock, and an invalidation is entered under the
//! write lock before it looks at the shelf. So each answer is either compared with it or seen by it.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::filter::Selector;
use crate::cache::outcome::Reason;
use crate::clock::UnixMs;

/// How long an invalidation is remembered, milliseconds: longer than nearly every upstream call.
const KEPT_MS: u64 = 15 * 60 * 1_000;
/// Invalidations remembered at most.
const KEPT: usize = 512;

/// How many invalidations there had been when a request went upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// As a number; later ones are greater.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// See the module.
#[derive(Default)]
pub(in crate::cache) struct Invalidations(RwLock<Log>);

#[derive(Default)]
struct Log {
    last: u64,
    /// The newest that is not remembered any more. Nothing is known about what began before it.
    dropped: u64,
    /// When the newest of those was made.
    dropped_at: UnixMs,
    recent: VecDeque<Recent>,
}

struct Recent {
    epoch: u64,
    at: UnixMs,
    selector: Arc<Selector>,
}

/// While this is held no invalidation begins.
pub(in crate::cache) struct Admission<'a>(#[expect(dead_code, reason = "held for its lock")] RwLockReadGuard<'a, Log>);

impl Invalidations {
    /// The number of the latest.
    pub(super) fn now(&self) -> Epoch {
        Epoch(self.read().last)
    }

    /// Enters one. From now on nothing that it means can come from requests that began before.
    pub(in crate::cache) fn enter(&self, selector: Arc<Selector>, at: UnixMs) -> Epoch {
        let mut log = self.write();
        log.last += 1;
        let epoch = log.last;
        log.recent.push_back(Recent { epoch, at, selector });
        while log.recent.len() > KEPT || log.recent.front().is_some_and(|first| first.at.saturating_add(KEPT_MS) < at) {
            if let Some(first) = log.recent.pop_front() {
                (log.dropped, log.dropped_at) = (first.epoch.max(log.dropped), first.at.max(log.dropped_at));
            }
        }
        Epoch(epoch)
    }

    /// Invalidations were missed: nothing that began before `now` is let in.
    pub(in crate::cache) fn doubt(&self, now: UnixMs) {
        let mut log = self.write();
        log.last += 1;
        (log.dropped, log.dropped_at) = (log.last, now);
    }

    /// The latest for which `concerns` holds, or of which nothing is known any more.
    pub(super) fn latest(&self, concerns: impl Fn(&Selector) -> bool) -> Epoch {
        let log = self.read();
        let latest = log.recent.iter().rev().find(|recent| concerns(&recent.selector));
        Epoch(latest.map_or(0, |recent| recent.epoch).max(log.dropped))
    }

    /// Takes one back that was not carried out.
    pub(super) fn withdraw(&self, epoch: Epoch) {
        self.write().recent.retain(|recent| recent.epoch != epoch.0);
    }

    /// Lets an answer in whose request began at `began`. `means` tells whether an invalidation, made at that time, means
    /// the answer.
    ///
    /// # Errors
    /// [`Reason::Invalidated`]: one that came since means it, or it is not known any more whether one does.
    pub(super) fn admit(
        &self,
        began: Epoch,
        means: impl Fn(&Selector, UnixMs) -> bool,
    ) -> Result<Admission<'_>, Reason> {
        let log = self.read();
        let mut since = log.recent.iter().rev().take_while(|recent| recent.epoch > began.0);
        if began.0 < log.dropped || since.any(|recent| means(&recent.selector, recent.at)) {
            return Err(Reason::Invalidated);
        }
        Ok(Admission(log))
    }

    /// Whether one of those made at `since` or later is such that `means` holds, or may be.
    pub(in crate::cache) fn any_since(&self, since: UnixMs, means: impl Fn(&Selector) -> bool) -> bool {
        let log = self.read();
        let known = || log.recent.iter().any(|recent| recent.at >= since && means(&recent.selector));
        (log.dropped > 0 && log.dropped_at >= since) || known()
    }

    fn read(&self) -> RwLockReadGuard<'_, Log> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Log> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Filter;

    fn selector(model: &str) -> Arc<Selector> {
        let filter = Filter { model: Some(model.into()), ..Filter::default() };
        Arc::new(Selector::new(filter, None, String::new()))
    }

    fn admitted(log: &Invalidations, began: Epoch, model: &str) -> bool {
        log.admit(began, |selector, _| selector.filter.model.as_deref() == Some(model)).is_ok()
    }

    #[test]
    fn an_answer_is_compared_with_what_came_after_its_request_only() {
        let log = Invalidations::default();
        let before = log.now();
        log.enter(selector("a"), 1);
        let between = log.now();
        let withdrawn = log.enter(selector("b"), 2);
        assert!(!admitted(&log, before, "a") && !admitted(&log, between, "b") && admitted(&log, between, "a"));
        assert!(admitted(&log, before, "c"));
        log.withdraw(withdrawn);
        assert!(admitted(&log, before, "b") && !admitted(&log, before, "a"));
    }

    #[test]
    fn what_began_before_a_forgotten_invalidation_is_not_let_in() {
        let log = Invalidations::default();
        let before = log.now();
        log.enter(selector("a"), 1);
        let after = log.now();
        log.enter(selector("b"), 2 + KEPT_MS);
        assert!(!admitted(&log, before, "c") && admitted(&log, after, "c"));
        for _ in 0..=KEPT {
            log.enter(selector("d"), 2 + KEPT_MS);
        }
        assert_eq!(log.read().recent.len(), KEPT);
        assert!(!admitted(&log, after, "c") && admitted(&log, log.now(), "d"));
    }

    #[test]
    fn what_began_before_some_were_missed_is_not_let_in() {
        let log = Invalidations::default();
        let before = log.now();
        log.doubt(7);
        assert!(!admitted(&log, before, "a") && admitted(&log, log.now(), "a"));
        assert!(log.any_since(7, |_| false) && !log.any_since(8, |_| false));
        // Nor later, when older ones are forgotten.
        let log = Invalidations::default();
        log.enter(selector("b"), 1);
        let before = log.now();
        log.doubt(7);
        log.enter(selector("b"), 2 + KEPT_MS);
        assert!(!admitted(&log, before, "a") && admitted(&log, log.now(), "a"));
    }

    #[test]
    fn the_latest_is_that_which_concerns_or_the_last_that_is_forgotten() {
        let log = Invalidations::default();
        let latest = |model: &str| log.latest(|selector| selector.filter.model.as_deref() == Some(model));
        let none = latest("a");
        let first = log.enter(selector("a"), 1);
        log.enter(selector("b"), 2);
        assert!(latest("c") == none && latest("a") == first && first > none);
        for _ in 0..KEPT {
            log.enter(selector("b"), 3);
        }
        assert!(latest("a") > first && latest("a") == latest("c"));
    }
}
