//! Counters of budgets against the ledger, which decides.
//!
//! A counter that is below the ledger lost something (an emptied Redis, a process that was killed before its settlement
//! was sent) and is raised: at once where nobody else counts, and otherwise to what the ledger said a round ago, because the
//! settlement of a newer row may still wait at another replica. One that is above it may only be early, because rows of the
//! ledger are written a little after a request is settled. So what it said a round ago is compared with what the ledger says
//! now: an excess that is still there, round after round, is no row under way, and the least of it is taken off. That works
//! on budgets that are never quiet, too. Nothing is taken off while a replica is known to have rows that the ledger lacks.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::book::lock;
use super::door::BySlot;
use super::limiter::Limiter;
use super::period::Span;
use super::place::{Away, Place, from_ledger};
use super::plan::counter_key;
use super::verdict::narrow;
use crate::clock::UnixMs;
use crate::config::{Budget, NanoUsd, TenantSpec};
use crate::ids::TenantId;
use crate::telemetry::limits::BudgetSample;

/// Rounds in a row with an excess, until it is taken off.
const IN_A_ROW: u32 = 2;
/// Rounds for which the budgets of a tenant are compared after they were last used: enough to see an excess and take it
/// off. A budget that nobody uses costs nothing.
pub(super) const ROUNDS: u32 = 5;
/// Times that a counter is set while others change it.
const TRIES: u32 = 8;

/// How a budget stands.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetStanding {
    /// What it is.
    pub budget: Budget,
    /// Start of what counts now.
    pub from: UnixMs,
    /// When that counts no more.
    pub until: UnixMs,
    /// Spent.
    pub spent: NanoUsd,
    /// Held for requests under way.
    pub held: NanoUsd,
    /// By how much the counter is above the ledger.
    pub drift: NanoUsd,
}

/// A slot over the rounds.
#[derive(Clone, Copy)]
struct Seen {
    /// What the counter said in the round before.
    counter: i128,
    /// Rounds in a row in which that was more than the ledger says a round later.
    rounds: u32,
    /// The least that it was too much by.
    excess: i128,
}

/// What was seen in the rounds before.
#[derive(Default)]
pub(super) struct Rounds {
    above: Mutex<HashMap<(String, UnixMs), Seen>>,
    /// What the ledger said of slots that were below it.
    below: Mutex<HashMap<(String, UnixMs), i128>>,
}

impl Rounds {
    /// Forgets slots of before `first`, which count no more.
    fn forget(&self, key: &str, first: UnixMs) {
        lock(&self.above).retain(|(of, slot), _| of != key || *slot >= first);
        lock(&self.below).retain(|(of, slot), _| of != key || *slot >= first);
    }

    /// What was seen of an excess says nothing: rows are missing.
    fn no_excess(&self, key: &str, slot: UnixMs) {
        lock(&self.above).remove(&(key.to_owned(), slot));
    }

    /// Notes what both say now: up to where the counter is to be raised, if it is below that.
    fn floor(&self, key: &str, slot: UnixMs, counter: i128, ledger: i128) -> Option<i128> {
        let (mut below, of) = (lock(&self.below), (key.to_owned(), slot));
        let before = below.remove(&of);
        if counter < ledger {
            below.insert(of, ledger);
        }
        before.map(|before| before.min(ledger)).filter(|floor| counter < *floor)
    }

    /// Notes what both say now: what is to be taken off the counter.
    fn excess(&self, key: &str, slot: UnixMs, counter: i128, ledger: i128) -> i128 {
        let mut all = lock(&self.above);
        let Some(seen) = all.get_mut(&(key.to_owned(), slot)) else {
            if counter > ledger {
                all.insert((key.to_owned(), slot), Seen { counter, rounds: 0, excess: i128::MAX });
            }
            return 0;
        };
        let excess = seen.counter.min(counter) - ledger;
        if excess <= 0 {
            all.remove(&(key.to_owned(), slot));
            if counter > ledger {
                all.insert((key.to_owned(), slot), Seen { counter, rounds: 0, excess: i128::MAX });
            }
            return 0;
        }
        *seen = Seen { counter, rounds: seen.rounds + 1, excess: seen.excess.min(excess) };
        if seen.rounds < IN_A_ROW {
            return 0;
        }
        let least = seen.excess;
        all.remove(&(key.to_owned(), slot));
        least
    }
}

impl Limiter {
    /// How the budgets of a tenant stand now. Where no counter can be reached, spent is what the ledger says, and
    /// otherwise zero.
    pub async fn budgets(&self, tenant: &TenantId, spec: &TenantSpec, now: UnixMs) -> Vec<BudgetStanding> {
        let mut standings = Vec::with_capacity(spec.budgets.len());
        for budget in &spec.budgets {
            let span = Span::of(budget.period, now);
            let ledger = from_ledger(&*self.ledger, tenant, budget, &span, now).await.ok();
            let booked: Option<i128> = ledger.as_ref().map(|slots| slots.iter().map(|(_, s)| i128::from(*s)).sum());
            let found = self.read_anywhere(tenant, &counter_key(tenant, budget), &span, now).await;
            let held = found.as_ref().map_or(0, |found| found.held);
            let spent = found.map(|found| found.spent.iter().sum::<i128>()).or(booked).unwrap_or(0);
            standings.push(BudgetStanding {
                budget: budget.clone(),
                from: span.from,
                until: span.until,
                spent: narrow(spent),
                held: narrow(held),
                drift: narrow(booked.map_or(0, |booked| spent - booked)),
            });
        }
        standings
    }

    /// How a budget stands by its counters alone, without a question to the ledger; `None` where they are not there or
    /// cannot be reached.
    pub async fn counted(&self, tenant: &TenantId, budget: &Budget, now: UnixMs) -> Option<BudgetStanding> {
        let span = Span::of(budget.period, now);
        let found = self.read_anywhere(tenant, &counter_key(tenant, budget), &span, now).await?;
        Some(BudgetStanding {
            budget: budget.clone(),
            from: span.from,
            until: span.until,
            spent: narrow(found.spent.iter().sum()),
            held: narrow(found.held),
            drift: NanoUsd(0),
        })
    }

    /// Sets the counters of all budgets of a tenant to what the ledger says. What is held stays.
    ///
    /// # Errors
    /// The ledger or the counters cannot be reached, or change too fast; says which budget.
    pub async fn rebuild(&self, tenant: &TenantId, spec: &TenantSpec) -> Result<(), NotRebuilt> {
        let now = self.clock.now_ms();
        for budget in &spec.budgets {
            let failed = || NotRebuilt { budget: budget.name.clone() };
            let (span, key) = (Span::of(budget.period, now), counter_key(tenant, budget));
            let slots = from_ledger(&*self.ledger, tenant, budget, &span, now).await.map_err(|_| failed())?;
            let place = self.place();
            place.seed(tenant, &key, &span, &slots).await.map_err(|_| failed())?;
            for (at, (slot, booked)) in slots.iter().enumerate() {
                let mut set = false;
                for _ in 0..TRIES {
                    let found = place.read(tenant, &key, &span.slots, now).await.map_err(|_| failed())?;
                    let there = found.and_then(|found| found.spent.get(at).copied()).unwrap_or(0);
                    let corrected = place.correct(tenant, &key, *slot, narrow(there).0, *booked);
                    set = there == i128::from(*booked) || corrected.await.map_err(|_| failed())?;
                    if set {
                        break;
                    }
                }
                if !set {
                    return Err(failed());
                }
            }
        }
        Ok(())
    }

    /// Where money is counted when all is well.
    fn place(&self) -> Place<'_> {
        match (&self.door, &self.counters) {
            (Some(door), _) => Place::Redis(door),
            (None, Some(counters)) => Place::Counters(&**counters),
            (None, None) => Place::Local(&self.books),
        }
    }

    /// From where money is counted, or from the database where that is second best.
    async fn read_anywhere(&self, tenant: &TenantId, key: &str, span: &Span, now: UnixMs) -> Option<BySlot> {
        match (self.place().read(tenant, key, &span.slots, now).await, &self.counters) {
            (Ok(found), _) => found,
            (Err(_), Some(counters)) => {
                Place::Counters(&**counters).read(tenant, key, &span.slots, now).await.ok().flatten()
            }
            (Err(_), None) => None,
        }
    }

    /// One comparison of all budgets in use.
    pub(super) async fn reconcile(&self) {
        let mut watched = Vec::new();
        lock(&self.watched).retain(|tenant, (spec, rounds)| {
            watched.push((tenant.clone(), Arc::clone(spec)));
            *rounds -= 1;
            *rounds > 0
        });
        self.compare_all(&watched, true).await;
        self.metrics.task_done("budgets", self.clock.now_ms());
    }

    /// Those that have come into use: what was lost while nobody looked is made good soon.
    pub(super) fn take_newcomers(&self) -> Vec<(TenantId, Arc<TenantSpec>)> {
        let mut watched = Vec::new();
        for (tenant, (spec, rounds)) in lock(&self.watched).iter_mut().filter(|(_, (_, rounds))| *rounds > ROUNDS) {
            *rounds = ROUNDS;
            watched.push((tenant.clone(), Arc::clone(spec)));
        }
        watched
    }

    /// Compares; takes off only if this is one of the `rounds`, which are far enough apart for rows to be written.
    pub(super) async fn compare_all(&self, watched: &[(TenantId, Arc<TenantSpec>)], rounds: bool) {
        for (tenant, spec) in watched {
            for budget in &spec.budgets {
                // One that cannot be compared now is compared in the next round.
                let _ = self.compare(tenant, budget, rounds).await;
            }
        }
    }

    async fn compare(&self, tenant: &TenantId, budget: &Budget, rounds: bool) -> Result<(), Away> {
        let now = self.clock.now_ms();
        let (span, key, place) = (Span::of(budget.period, now), counter_key(tenant, budget), self.place());
        // The ledger first: what it has is settled already, or waits here.
        let waits = self.to_redis.waiting() + self.to_counters.waiting() > 0;
        let mut behind = (self.pending)();
        let slots = from_ledger(&*self.ledger, tenant, budget, &span, now).await?;
        behind |= (self.pending)() || self.behind.load(Ordering::Relaxed);
        let Some(found) = place.read(tenant, &key, &span.slots, now).await? else {
            // Nobody has asked for this budget since its counters went: they are seeded when somebody does.
            return Ok(());
        };
        self.rounds.forget(&key, span.from);
        let (mut spent, mut booked) = (0, 0);
        for ((slot, ledger), counter) in slots.iter().zip(&found.spent) {
            let (wide, mut counter) = (i128::from(*ledger), *counter);
            let floor = match place {
                Place::Local(_) => (counter < wide).then_some(wide),
                _ => self.rounds.floor(&key, *slot, counter, wide),
            };
            if let (Some(floor), false) = (floor, waits) {
                place.raise(tenant, &key, &span, &[(*slot, narrow(floor).0)]).await?;
                tracing::warn!(%tenant, budget = budget.name, "a budget's counter was below the ledger; raised");
                counter = floor;
            }
            let excess = match (behind, rounds) {
                (true, _) => {
                    self.rounds.no_excess(&key, *slot);
                    0
                }
                (false, true) => self.rounds.excess(&key, *slot, counter, wide),
                (false, false) => 0,
            };
            if excess > 0 && self.take_off(place, tenant, &key, (*slot, excess), now).await? {
                tracing::warn!(%tenant, budget = budget.name, "a budget's counter was above the ledger; corrected");
                counter -= excess;
            }
            spent += counter;
            booked += wide;
        }
        self.metrics.limits.budget(&BudgetSample {
            tenant: tenant.as_str(),
            budget: &budget.name,
            period: &budget.period.to_string(),
            limit: budget.usd.as_f64(),
            spent: narrow(spent).as_f64(),
            reserved: narrow(found.held).as_f64(),
            drift: narrow(spent - booked).as_f64(),
        });
        Ok(())
    }
}

impl Limiter {
    /// Lowers a slot, whatever it is now; whether it could be done among those who raise it.
    async fn take_off(
        &self,
        place: Place<'_>,
        tenant: &TenantId,
        key: &str,
        (slot, excess): (UnixMs, i128),
        now: UnixMs,
    ) -> Result<bool, Away> {
        for _ in 0..TRIES {
            let Some(found) = place.read(tenant, key, &[slot], now).await? else { return Ok(false) };
            let there = found.spent.first().copied().unwrap_or(0);
            if place.correct(tenant, key, slot, narrow(there).0, narrow(there - excess).0).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Counters could not be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the counters of budget `{budget}` could not be rebuilt from the ledger; see that the store and Redis can be reached, and try again"
)]
pub struct NotRebuilt {
    /// Name of the first that could not.
    pub budget: String,
}
