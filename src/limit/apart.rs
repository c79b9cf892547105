//! Limits in this process, money in the database: PostgreSQL without Redis, or while Redis is away.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::book::{Standing, lock};
use super::hold::{Money, Record};
use super::limiter::Limiter;
use super::place::{Away, Place};
use super::plan::{BudgetPlan, Plan};
use super::verdict::{poor, unavailable};
use super::{Allowance, Caller, Denied};
use crate::clock::UnixMs;
use crate::store::{BudgetAsk, CounterStore, HoldAsk, Holding};

/// Longest wait of a request for the counters in the database.
pub(super) const COUNTERS: Duration = Duration::from_millis(100);
/// Longest wait of a request until it is asked for, in a crowd ([`super::crowd`]).
pub(super) const TURN: Duration = Duration::from_secs(2);
/// How long counters in the database, or a ledger, that did not answer are left alone.
pub(super) const LEFT_ALONE: Duration = Duration::from_secs(1);
impl Limiter {
    /// Takes the share of the limits here, and the money there.
    pub(super) async fn take_apart(
        &self,
        caller: &Caller<'_>,
        record: &Record,
        counters: &dyn CounterStore,
        now: UnixMs,
    ) -> Result<Allowance, Denied> {
        let allowance = self.take_share(caller, record, now)?;
        let plan = &record.plan;
        if plan.budgets.is_empty() {
            return Ok(allowance);
        }
        if self.counters_are_away() {
            return self.take_offline(record).map(|()| allowance);
        }
        record.set(|places| places.maybe_counters = true);
        let asked = timeout(TURN, self.hold_in_counters(caller, plan, counters, now)).await;
        let Ok(asked) = asked else { return Err(unavailable()) };
        match asked {
            Ok(None) => {
                record.set(|places| places.money = Money::Counters);
                if self.door.is_none() {
                    self.offline.reset();
                }
                Ok(allowance)
            }
            Ok(Some((place, standing))) => {
                record.set(|places| places.maybe_counters = false);
                Err(plan.budgets.get(place).map_or_else(unavailable, |budget| poor(caller, budget, standing, now)))
            }
            Err(Away) => {
                *lock(&self.counters_away) = Some(Instant::now() + LEFT_ALONE);
                self.take_offline(record).map(|()| allowance)
            }
        }
    }

    fn counters_are_away(&self) -> bool {
        lock(&self.counters_away).is_some_and(|until| Instant::now() < until)
    }

    /// `None` if it is held, else the budget that has no room.
    async fn hold_in_counters(
        &self,
        caller: &Caller<'_>,
        plan: &Plan,
        counters: &dyn CounterStore,
        now: UnixMs,
    ) -> Result<Option<(usize, Standing)>, Away> {
        let asks: Vec<BudgetAsk> = plan.budgets.iter().map(|budget| budget.ask.clone()).collect();
        let Some(request) = plan.request else { return Err(Away) };
        let place = Place::Counters(counters);
        if self.door.is_some() {
            // What Redis counted until now is not in the database; the ledger has it.
            let stale: Vec<usize> = {
                let fresh = lock(&self.fresh);
                let stale = |budget: &BudgetPlan| !fresh.contains(&budget.ask.key);
                (0..).zip(&plan.budgets).filter(|(_, budget)| stale(budget)).map(|(at, _)| at).collect()
            };
            if !stale.is_empty() {
                self.seed(place, caller, plan, &stale, now).await?;
                lock(&self.fresh).extend(plan.budgets.iter().map(|budget| budget.ask.key.clone()));
            }
        }
        for _ in 0..2 {
            let expires = now.saturating_add(plan.hold_ms);
            let ask = HoldAsk { request, budgets: asks.clone(), expires_at: expires };
            match self.hold_together(caller.tenant, ask, counters, now).await? {
                Holding::Held(_) => return Ok(None),
                Holding::Short(at, used) => {
                    let standing = Standing { spent: used.spent.into(), held: used.held.into(), first: None };
                    return Ok(Some((at, standing)));
                }
                Holding::Unseeded(places) => self.seed(place, caller, plan, &places, now).await?,
            }
        }
        Err(Away)
    }
}
