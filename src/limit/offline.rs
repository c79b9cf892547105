//! Hard budgets while no counter can be reached: each key may spend a little, and then they are closed.
//!
//! What may be overspent is bounded by it: a share of the budget, at most a few dollars, for each key and replica. It
//! starts anew when the counters have been reached again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::book::lock;
use super::plan::Plan;
use crate::config::RateSettings;
use crate::ids::KeyId;

/// Money held and spent by a key out of a budget.
type Spending = HashMap<(String, KeyId), i128>;

/// See the module.
#[derive(Default)]
pub(super) struct Offline {
    used: AtomicBool,
    spending: Mutex<Spending>,
}

impl Offline {
    /// Takes the worst case of each hard budget, if all have room.
    pub(super) fn hold(&self, plan: &Plan, settings: &RateSettings) -> bool {
        self.used.store(true, Ordering::Relaxed);
        let mut spending = lock(&self.spending);
        let hard = || plan.budgets.iter().filter(|budget| budget.hard);
        let room = hard().all(|budget| {
            let key = (budget.ask.key.clone(), plan.key.clone());
            let used = spending.get(&key).copied().unwrap_or(0);
            used + i128::from(budget.ask.amount) <= allowance(budget.ask.limit, settings)
        });
        if room {
            for budget in hard() {
                *spending.entry((budget.ask.key.clone(), plan.key.clone())).or_insert(0) +=
                    i128::from(budget.ask.amount);
            }
        }
        room
    }

    /// What was held cost this much.
    pub(super) fn settle(&self, plan: &Plan, cost: i64) {
        let mut spending = lock(&self.spending);
        for budget in plan.budgets.iter().filter(|budget| budget.hard) {
            if let Some(used) = spending.get_mut(&(budget.ask.key.clone(), plan.key.clone())) {
                *used = (*used - i128::from(budget.ask.amount) + i128::from(cost)).max(0);
            }
        }
    }

    /// The counters have been reached.
    pub(super) fn reset(&self) {
        if self.used.swap(false, Ordering::Relaxed) {
            lock(&self.spending).clear();
        }
    }
}

/// A share of the budget, in whole millionths of it, and no more than the cap.
fn allowance(limit: i64, settings: &RateSettings) -> i128 {
    #[expect(clippy::cast_possible_truncation, reason = "a share of 0 to 1 is at most a million millionths")]
    let millionths = (settings.offline_share * 1e6).round() as i64;
    (i128::from(limit) * i128::from(millionths) / 1_000_000).min(i128::from(settings.offline_usd.0))
}
