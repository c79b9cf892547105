//! What hits are held to, for tenants that say so: budgets that are spent, and tokens.

use tokio::time::timeout;

use super::book::{Settlement, Standing, lock};
use super::bucket::MOST;
use super::limiter::Limiter;
use super::place::Place;
use super::plan::{Kind, Plan, Whose};
use super::verdict::poor;
use super::{Caller, Denied};
use crate::clock::UnixMs;

/// How old an answer to "is it spent" may be, milliseconds.
const LOOKED_MS: u64 = 1_000;

impl Limiter {
    /// Whether a hard budget that such a request would meet is spent. For hits, which hold nothing. An answer may be a
    /// second old; when the counters cannot be reached nothing is refused, because a hit costs nothing.
    ///
    /// # Errors
    /// One of them is.
    pub async fn spent(
        &self,
        caller: Caller<'_>,
        now: UnixMs,
        model: &str,
        tags: &[(String, String)],
    ) -> Result<(), Denied> {
        let mut plan = Plan::look(&caller, now, model, tags);
        if plan.is_empty() {
            return Ok(());
        }
        self.watch(caller.tenant, &caller.terms.tenant);
        let known: Option<Vec<Standing>> = {
            let looked = lock(&self.looked);
            let fresh = |(at, standing): &(UnixMs, Standing)| (now.abs_diff(*at) <= LOOKED_MS).then_some(*standing);
            plan.budgets.iter().map(|budget| looked.get(&budget.ask.key).and_then(fresh)).collect()
        };
        let standings = match known {
            Some(standings) => standings,
            None => {
                let standings = self.look(&caller, &mut plan, now).await;
                let mut looked = lock(&self.looked);
                looked.retain(|_, (at, _)| now.abs_diff(*at) <= LOOKED_MS);
                looked.extend(plan.budgets.iter().zip(&standings).map(|(b, s)| (b.ask.key.clone(), (now, *s))));
                standings
            }
        };
        let mut met = plan.budgets.iter().zip(&standings);
        // What is held may still come back, and a hit takes nothing of it.
        let spent = met.find(|(budget, standing)| standing.spent >= i128::from(budget.ask.limit));
        match spent {
            Some((budget, standing)) => self.note(&caller, Err(poor(&caller, budget, *standing, now))),
            None => Ok(()),
        }
    }

    /// How hard budgets stand; of those that are not known, as if nothing were spent.
    async fn look(&self, caller: &Caller<'_>, plan: &mut Plan, now: UnixMs) -> Vec<Standing> {
        let place = match (&self.door, &self.counters) {
            (Some(door), _) => Place::Redis(door),
            (None, Some(counters)) => {
                let mut standings = Vec::new();
                for budget in &plan.budgets {
                    let asked =
                        timeout(self.settings.deadline, counters.budget_use(&budget.ask.key, &budget.ask.slots, now))
                            .await;
                    let used = asked.ok().and_then(Result::ok).flatten().unwrap_or_default();
                    standings.push(Standing { spent: used.spent.into(), held: used.held.into(), first: None });
                }
                return standings;
            }
            (None, None) => Place::Local(&self.books),
        };
        match self.decide_seeded(place, caller, plan, now).await {
            Ok(answer) => answer.budgets,
            Err(_) => plan.budgets.iter().map(|_| Standing::default()).collect(),
        }
    }

    /// Takes the tokens of a hit from the buckets, whether they are there or not. Never waits.
    pub fn take_tokens(&self, caller: Caller<'_>, tokens: u64) {
        let tokens = i64::try_from(tokens).unwrap_or(MOST).min(MOST);
        let mut buckets = Vec::new();
        for kind in Kind::OF_TOKENS {
            for whose in Whose::BOTH {
                let rate = kind.rate(whose.limits(&caller), 1);
                buckets.extend(rate.map(|rate| (whose, kind, rate, -tokens)));
            }
        }
        if buckets.is_empty() {
            return;
        }
        let (tenant, key) = (caller.tenant.clone(), caller.key.clone());
        let end = Settlement { tenant, key, request: None, buckets, seats: Vec::new(), budgets: Vec::new() };
        match &self.door {
            Some(_) => self.to_redis.push(end),
            None => {
                self.books.with(caller.tenant, |book| book.settle(&end, self.clock.now_ms()));
            }
        }
    }
}
