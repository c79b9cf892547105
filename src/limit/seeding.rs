//! Counters of budgets that are not there are made from the ledger.
//!
//! For a tenant one request at a time does so, while the others wait: a sum over the ledger is dear, and what one of them
//! has brought up the others need not ask for. So whoever gets the turn brings up only what nobody has since it looked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout};

use super::Caller;
use super::apart::{LEFT_ALONE, TURN};
use super::book::{Answer, Outcome, lock};
use super::limiter::Limiter;
use super::place::{Away, Place, from_ledger};
use super::plan::{BudgetPlan, Plan};
use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::shared::Unanswered;

/// Longest wait for this replica's own settlements before the ledger is read, which has their rows.
const OWN: Duration = Duration::from_millis(250);
/// Looks, each after others or this one have brought up what was missing.
pub(super) const LOOKS: usize = 4;

/// Who brings up the budgets of a tenant, and how often each was.
#[derive(Default)]
pub(super) struct Seeding {
    turn: tokio::sync::Mutex<()>,
    done: Mutex<HashMap<String, u64>>,
}

impl Seeding {
    /// The right to bring up.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, ()>, Away> {
        timeout(TURN, self.turn.lock()).await.map_err(|_| Away { gone: false })
    }

    /// How often each budget of a plan was brought up until now.
    pub(super) fn seen(&self, plan: &Plan) -> Vec<u64> {
        let done = lock(&self.done);
        plan.budgets.iter().map(|budget| done.get(&budget.ask.key).copied().unwrap_or(0)).collect()
    }

    pub(super) fn note(&self, key: &str) {
        *lock(&self.done).entry(key.to_owned()).or_default() += 1;
    }
}

impl Limiter {
    pub(super) fn seeding(&self, tenant: &TenantId) -> Arc<Seeding> {
        Arc::clone(lock(&self.seedings).entry(tenant.clone()).or_default())
    }

    /// Decides where `place` is; where counters of budgets are not there, they are seeded from the ledger first.
    pub(super) async fn decide_seeded(
        &self,
        place: Place<'_>,
        caller: &Caller<'_>,
        plan: &mut Plan,
        now: UnixMs,
    ) -> Result<Answer, Unanswered> {
        let nothing_done = Unanswered { may_be_done: false, hopeless: false };
        for _ in 0..LOOKS {
            let seeding = (!plan.budgets.is_empty()).then(|| self.seeding(caller.tenant));
            let seen = seeding.as_ref().map(|seeding| seeding.seen(plan)).unwrap_or_default();
            let answer = match place {
                Place::Redis(door) => self.decide_shared(door, plan, now).await?,
                _ => self.books.with(caller.tenant, |book| book.decide(plan, now)),
            };
            for ask in &mut plan.buckets {
                ask.credit = 0;
            }
            let (Outcome::Unseeded(places), Some(seeding)) = (&answer.outcome, seeding) else { return Ok(answer) };
            self.seed(place, caller, plan, places, (&seeding, &seen), now).await.map_err(|_| nothing_done)?;
        }
        Err(nothing_done)
    }

    /// Brings these budgets up to what the ledger says, but for those that somebody has brought up since they were `seen`.
    pub(super) async fn seed(
        &self,
        place: Place<'_>,
        caller: &Caller<'_>,
        plan: &Plan,
        places: &[usize],
        (seeding, seen): (&Seeding, &[u64]),
        now: UnixMs,
    ) -> Result<(), Away> {
        let _turn = seeding.turn().await?;
        let since = seeding.seen(plan);
        let missing: Vec<usize> = places.iter().copied().filter(|at| since.get(*at) == seen.get(*at)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.own_settled(place).await;
        for budget in missing.iter().filter_map(|at| plan.budgets.get(*at)) {
            let slots = self.booked(caller, budget, now).await?;
            place.seed(caller.tenant, &budget.ask.key, &budget.span, &slots).await.map_err(|away| self.noted(away))?;
            seeding.note(&budget.ask.key);
        }
        Ok(())
    }

    /// Waits a little until what has ended here is counted there, so that it is not counted again with its row.
    pub(super) async fn own_settled(&self, place: Place<'_>) {
        let sent = |outbox: (u64, u64)| outbox.0;
        let state = || match place {
            Place::Redis(_) => self.to_redis.progress(),
            Place::Counters(_) => self.to_counters.progress(),
            Place::Local(_) => (0, 0),
        };
        let (_, wanted) = state();
        let until = Instant::now() + OWN;
        while sent(state()) < wanted && Instant::now() < until {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// What the ledger says was spent of a budget. A ledger that has just failed does not hold up those who wait, one after
    /// another.
    pub(super) async fn booked(
        &self,
        caller: &Caller<'_>,
        budget: &BudgetPlan,
        now: UnixMs,
    ) -> Result<Vec<(UnixMs, i64)>, Away> {
        let Some(spec) = budget.spec(caller) else { return Err(Away { gone: false }) };
        if lock(&self.ledger_away).is_some_and(|until| Instant::now() < until) {
            return Err(Away { gone: false });
        }
        let booked = from_ledger(&*self.ledger, caller.tenant, spec, &budget.span, now).await;
        booked.map_err(|away| {
            if away.gone {
                *lock(&self.ledger_away) = Some(Instant::now() + LEFT_ALONE);
            }
            Away { gone: false }
        })
    }

    /// Leaves the counters in the database alone for a while if they are gone.
    pub(super) fn noted(&self, away: Away) -> Away {
        if away.gone && self.counters.is_some() {
            *lock(&self.counters_away) = Some(Instant::now() + LEFT_ALONE);
        }
        away
    }
}
