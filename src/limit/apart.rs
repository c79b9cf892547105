//! Limits in this process, money in the database: PostgreSQL without Redis, or while Redis is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::book::{Standing, lock};
use super::door::Door;
use super::hold::{Money, Record};
use super::limiter::Limiter;
use super::period::Span;
use super::place::{Away, Place, within};
use super::plan::{BudgetPlan, Plan};
use super::seeding::LOOKS;
use super::verdict::{poor, unavailable};
use super::{Allowance, Caller, Denied};
use crate::clock::UnixMs;
use crate::store::{BudgetAsk, CounterStore, HoldAsk, Holding};

/// Longest wait of a request until it is asked for, in a crowd ([`super::crowd`]).
pub(super) const TURN: Duration = Duration::from_secs(2);
/// How long counters in the database, or a ledger, that did not answer are left alone.
pub(super) const LEFT_ALONE: Duration = Duration::from_secs(1);
/// Requests that are held for at once, when Redis has gone.
const AT_ONCE: usize = 128;

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
        self.apart.store(self.door.is_some(), Ordering::Relaxed);
        let plan = &record.plan;
        if plan.budgets.is_empty() {
            return Ok(allowance);
        }
        if self.counters_are_away() {
            return self.take_offline(record).map(|()| allowance);
        }
        record.set(|places| places.maybe_counters = true);
        let asked = self.hold_in_counters(caller, plan, counters, now).await;
        match asked {
            Ok(None) => {
                record.set(|places| places.money = Money::Counters);
                if self.door.is_none() {
                    self.offline.reset(plan.budgets.iter());
                }
                Ok(allowance)
            }
            Ok(Some((place, standing))) => {
                record.set(|places| places.maybe_counters = false);
                Err(plan.budgets.get(place).map_or_else(unavailable, |budget| poor(caller, budget, standing, now)))
            }
            Err(_) => self.take_offline(record).map(|()| allowance),
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
        let nothing = Away { gone: false };
        let Some(request) = plan.request else { return Err(nothing) };
        if self.door.is_some() {
            self.freshen(caller, plan, counters, now).await?;
        }
        for _ in 0..LOOKS {
            let seeding = self.seeding(caller.tenant);
            let seen = seeding.seen(plan);
            let expires = now.saturating_add(plan.hold_ms);
            let ask = HoldAsk { request, budgets: asks.clone(), expires_at: expires };
            let held = timeout(TURN, self.hold_together(caller.tenant, ask, counters, now)).await;
            match held.map_err(|_| nothing)?? {
                Holding::Held(_) => return Ok(None),
                Holding::Short(at, used) => {
                    let standing = Standing { spent: used.spent.into(), held: used.held.into(), first: None };
                    return Ok(Some((at, standing)));
                }
                Holding::Unseeded(places) => {
                    let place = Place::Counters(counters);
                    self.seed(place, caller, plan, &places, (&seeding, &seen), now).await?;
                }
            }
        }
        Err(nothing)
    }

    /// Brings the budgets of a plan up to the ledger in the database, once since Redis went away: what Redis counted until
    /// then is not there, and the ledger has it. What was held in Redis and lives is held there, too.
    async fn freshen(
        &self,
        caller: &Caller<'_>,
        plan: &Plan,
        counters: &dyn CounterStore,
        now: UnixMs,
    ) -> Result<(), Away> {
        let fresh = |budget: &BudgetPlan| lock(&self.fresh).contains(&budget.ask.key);
        if plan.budgets.iter().all(fresh) {
            return Ok(());
        }
        let seeding = self.seeding(caller.tenant);
        let _turn = seeding.turn().await?;
        let mut stale: Vec<BudgetPlan> = plan.budgets.iter().filter(|budget| !fresh(budget)).cloned().collect();
        if stale.is_empty() {
            return Ok(());
        }
        let in_redis =
            |record: &Arc<Record>| record.plan.tenant == *caller.tenant && record.places().money == Money::Redis;
        let live: Vec<Arc<Record>> = self.live.all().into_iter().filter(in_redis).collect();
        for budget in live.iter().flat_map(|record| &record.plan.budgets) {
            let known = fresh(budget) || stale.iter().any(|other| other.ask.key == budget.ask.key);
            if let (false, Some(spec)) = (known, budget.spec(caller)) {
                let span = Span::of(spec.period, now);
                let ask = BudgetAsk { slots: span.slots.clone(), ..budget.ask.clone() };
                stale.push(BudgetPlan { ask, span, ..budget.clone() });
            }
        }
        let place = Place::Counters(counters);
        self.own_settled(place).await;
        for budget in &stale {
            let (key, slots) = (&budget.ask.key, self.booked(caller, budget, now).await?);
            let brought = async {
                place.seed(caller.tenant, key, &budget.span, &slots).await?;
                place.raise(caller.tenant, key, &budget.span, &slots).await
            };
            brought.await.map_err(|away| self.noted(away))?;
            seeding.note(key);
        }
        self.hold_live(&live, &stale, counters, now).await.map_err(|away| self.noted(away))?;
        lock(&self.fresh).extend(stale.into_iter().map(|budget| budget.ask.key));
        Ok(())
    }

    /// Holds in the database, whether there is room or not, what these requests hold in Redis.
    async fn hold_live(
        &self,
        live: &[Arc<Record>],
        budgets: &[BudgetPlan],
        counters: &dyn CounterStore,
        now: UnixMs,
    ) -> Result<(), Away> {
        for some in live.chunks(AT_ONCE) {
            let mut asks = Vec::with_capacity(some.len());
            for record in some {
                let Some(request) = record.plan.request else { continue };
                let theirs = record.plan.budgets.iter().filter_map(|held| {
                    let budget = budgets.iter().find(|budget| budget.ask.key == held.ask.key)?;
                    Some(BudgetAsk { limit: i64::MAX, amount: held.ask.amount, ..budget.ask.clone() })
                });
                let budgets: Vec<BudgetAsk> = theirs.collect();
                if !budgets.is_empty() {
                    record.set(|places| places.maybe_counters = true);
                    asks.push(HoldAsk { request, budgets, expires_at: now.saturating_add(record.plan.hold_ms) });
                }
            }
            within(counters.hold(&asks, now)).await?;
        }
        Ok(())
    }

    /// Before Redis decides about money again: it gets what has ended since it went away, and what lives.
    pub(super) async fn come_back(self: &Arc<Self>, door: &Door) {
        if self.apart.load(Ordering::Relaxed) && door.is_up() && self.apart.swap(false, Ordering::Relaxed) {
            self.own_settled(Place::Redis(door)).await;
            self.renew_in_redis(self.live.all()).await;
        }
    }
}
