//! Hard budgets while no counter can be reached: each key may spend a little, and then they are closed.
//!
//! What may be overspent is bounded by it: a share of the budget, at most a few dollars, for each key and replica. It
//! starts anew when the counters of that budget have been reached again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::book::lock;
use super::plan::{BudgetPlan, Plan};
use crate::config::RateSettings;
use crate::ids::KeyId;

/// Money held and spent out of a budget, by key.
type Spending = HashMap<String, HashMap<KeyId, i128>>;

/// See the module.
#[derive(Default)]
pub(super) struct Offline {
    used: AtomicBool,
    spending: Mutex<Spending>,
}

impl Offline {
    /// Takes the worst case of each hard budget, if all have room.
    pub(super) fn hold(&self, plan: &Plan, settings: &RateSettings) -> bool {
        let mut spending = lock(&self.spending);
        self.used.store(true, Ordering::Relaxed);
        let hard = || plan.budgets.iter().filter(|budget| budget.hard);
        let room = hard().all(|budget| {
            let used = spending.get(&budget.ask.key).and_then(|keys| keys.get(&plan.key)).copied().unwrap_or(0);
            used + i128::from(budget.ask.amount) <= allowance(budget.ask.limit, settings)
        });
        if room {
            for budget in hard() {
                let keys = spending.entry(budget.ask.key.clone()).or_default();
                *keys.entry(plan.key.clone()).or_insert(0) += i128::from(budget.ask.amount);
            }
        }
        room
    }

    /// What was held cost this much.
    pub(super) fn settle(&self, plan: &Plan, cost: i64) {
        let mut spending = lock(&self.spending);
        for budget in plan.budgets.iter().filter(|budget| budget.hard) {
            if let Some(used) = spending.get_mut(&budget.ask.key).and_then(|keys| keys.get_mut(&plan.key)) {
                *used = (*used - i128::from(budget.ask.amount) + i128::from(cost)).max(0);
            }
        }
    }

    /// The counters of these budgets have been read. Those of others may still be out of reach.
    pub(super) fn reset<'a>(&self, budgets: impl Iterator<Item = &'a BudgetPlan>) {
        if !self.used.load(Ordering::Relaxed) {
            return;
        }
        let mut spending = lock(&self.spending);
        for budget in budgets {
            spending.remove(&budget.ask.key);
        }
        self.used.store(!spending.is_empty(), Ordering::Relaxed);
    }
}

/// A share of the budget, in whole millionths of it, and no more than the cap.
fn allowance(limit: i64, settings: &RateSettings) -> i128 {
    #[expect(clippy::cast_possible_truncation, reason = "a share of 0 to 1 is at most a million millionths")]
    let millionths = (settings.offline_share * 1e6).round() as i64;
    (i128::from(limit) * i128::from(millionths) / 1_000_000).min(i128::from(settings.offline_usd.0))
}
