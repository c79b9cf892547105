//! What one request holds, from before upstream is asked until its use is known.
//!
//! A hold is made before the first question is asked, so that a caller who leaves in the middle of it gives back what may
//! have been taken. It ends once: settled with what was used, or dropped, which is the same with nothing. Neither waits.

use std::sync::{Arc, Mutex};

use super::book::{Charge, Settlement, lock};
use super::limiter::Limiter;
use super::plan::{Kind, Plan};
use super::{Allowance, Used};
use crate::config::NanoUsd;

/// Where tokens and seats were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rates {
    #[default]
    None,
    Local,
    Redis,
}

/// Where money is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Money {
    #[default]
    None,
    Local,
    Redis,
    Counters,
    Offline,
}

/// Where things are, and where they may be because a question was not answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) rates: Rates,
    pub(super) money: Money,
    /// The plan with this replica's share of the limits, where tokens were taken by it.
    pub(super) share: Option<Plan>,
    pub(super) maybe_redis: bool,
    pub(super) maybe_counters: bool,
}

/// One request that holds something.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) plan: Plan,
    pub(super) places: Mutex<Places>,
}

/// What a request holds. Dropping it gives everything back.
pub struct Hold {
    limiter: Option<Arc<Limiter>>,
    record: Option<Arc<Record>>,
    allowance: Allowance,
}

impl Hold {
    /// For a request that nothing limits.
    pub(super) fn free() -> Self {
        Self { limiter: None, record: None, allowance: Allowance::default() }
    }

    /// Before anything is asked.
    pub(super) fn begin(limiter: &Arc<Limiter>, plan: Plan) -> (Self, Arc<Record>) {
        let record = Arc::new(Record { plan, places: Mutex::default() });
        let limiter = Some(Arc::clone(limiter));
        (Self { limiter, record: Some(Arc::clone(&record)), allowance: Allowance::default() }, record)
    }

    /// All was taken.
    pub(super) fn taken(mut self, allowance: Allowance) -> Self {
        if let (Some(limiter), Some(record)) = (&self.limiter, &self.record) {
            limiter.live.put(record);
        }
        self.allowance = allowance;
        self
    }

    /// For the headers.
    pub fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Whether a hard budget is met.
    pub fn is_hard(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.plan.budgets.iter().any(|budget| budget.hard))
    }

    /// Counts what was used, gives the rest back and lets the others have the seat. Never waits.
    pub fn settle(mut self, used: Used) {
        self.end(used);
    }

    /// What it holds.
    #[cfg(test)]
    pub(super) fn record_for_tests(&self) -> Arc<Record> {
        Arc::clone(self.record.as_ref().unwrap())
    }

    fn end(&mut self, used: Used) {
        if let (Some(limiter), Some(record)) = (self.limiter.take(), self.record.take()) {
            limiter.end(&record, used);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(Used { tokens: 0, cost: NanoUsd(0) });
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Record {
    pub(super) fn places(&self) -> Places {
        lock(&self.places).clone()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Places)) {
        change(&mut lock(&self.places));
    }
}

impl Plan {
    /// The end of what this plan took: `rates` if its tokens were taken where this is sent to.
    pub(super) fn settlement(&self, used: Used, rates: bool, money: bool) -> Settlement {
        let tokens = i64::try_from(used.tokens).unwrap_or(i64::MAX);
        let of_tokens = self.buckets.iter().filter(|ask| rates && ask.kind != Kind::Requests);
        let charges = self.budgets.iter().filter(|_| money);
        Settlement {
            tenant: self.tenant.clone(),
            key: self.key.clone(),
            request: self.request,
            buckets: of_tokens.map(|ask| (ask.whose, ask.kind, ask.rate, ask.want.saturating_sub(tokens))).collect(),
            seats: self.seats.iter().map(|seat| seat.whose).collect(),
            budgets: charges
                .map(|budget| Charge {
                    key: budget.ask.key.clone(),
                    slot: budget.span.charged(),
                    held: budget.ask.amount,
                    cost: used.cost.0.max(0),
                    kept: budget.span.kept(),
                })
                .collect(),
        }
    }
}
