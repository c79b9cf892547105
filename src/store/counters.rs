//! Counters of budgets that several replicas share: shapes and trait.
//!
//! What was spent is counted by *slot*, a part of a period: a day, a week and a month have one slot, a rolling window has
//! many. A hold is money that may be spent by a request under way; it is kept apart from what was spent, belongs to a
//! request and expires by itself. Money is in nano-dollars.

use super::BoxFuture;
use crate::clock::UnixMs;
use crate::ids::RequestId;

/// One budget as a request meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetAsk {
    /// The budget's counters, as in `acme/month`.
    pub key: String,
    /// Slots that count now, by their start in milliseconds since the Unix epoch, oldest first. The last is charged.
    pub slots: Vec<UnixMs>,
    /// How much may be spent in all of them, nano-dollars. `i64::MAX` for a budget that only warns.
    pub limit: i64,
    /// How much this request may cost, nano-dollars.
    pub amount: i64,
}

/// What a budget's counters say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUse {
    /// Spent in the slots asked for, nano-dollars.
    pub spent: i64,
    /// Held for requests under way, nano-dollars.
    pub held: i64,
}

/// What one request wants to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAsk {
    /// The request.
    pub request: RequestId,
    /// The budgets that it meets.
    pub budgets: Vec<BudgetAsk>,
    /// When its hold runs out.
    pub expires_at: UnixMs,
}

/// The answer to one [`HoldAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// All budgets had room: held in each, and what each had when it was asked, in the order asked.
    Held(Vec<BudgetUse>),
    /// The first budget that had no room, by its place in the list. Nothing is held.
    Short(usize, BudgetUse),
    /// Budgets whose counters are not there for some slot, by their places in the list. Nothing is held: seed them first.
    Unseeded(Vec<usize>),
}

/// Budgets shared through the database.
pub trait CounterStore: Send + Sync {
    /// For each request in turn: holds the amount of each of its budgets, if spent + held (not expired at `now`) + amount ≤
    /// limit in each of them. All requests are answered in one transaction, so that any number of replicas together never
    /// hold more than there is. Holding again for the same request changes nothing.
    fn hold<'a>(&'a self, asks: &'a [HoldAsk], now: UnixMs) -> BoxFuture<'a, Vec<Holding>>;

    /// Ends the holds of a request and counts what it cost: `amount` into `slot` of each budget. A second call for the same
    /// request changes nothing, also after the holds have expired.
    fn settle<'a>(
        &'a self,
        request: RequestId,
        budgets: &'a [(String, UnixMs)],
        amount: i64,
        now: UnixMs,
    ) -> BoxFuture<'a, ()>;

    /// Puts the expiry of the holds of these requests off; those that are gone stay gone.
    fn renew<'a>(&'a self, requests: &'a [RequestId], expires_at: UnixMs) -> BoxFuture<'a, ()>;

    /// Makes counters that are not there, and brings those that were never seeded up to at least `spent`. What was seeded
    /// before stays as it is.
    fn seed<'a>(&'a self, key: &'a str, slots: &'a [(UnixMs, i64)]) -> BoxFuture<'a, ()>;

    /// Brings slots that are seeded up to at least `spent`. Never lowers one.
    fn raise<'a>(&'a self, key: &'a str, slots: &'a [(UnixMs, i64)]) -> BoxFuture<'a, ()>;

    /// Sets what was spent in a slot to exactly `spent` if it is `seen` now; returns whether it was.
    fn correct<'a>(&'a self, key: &'a str, slot: UnixMs, seen: i64, spent: i64) -> BoxFuture<'a, bool>;

    /// What the counters say; `None` if they are not there for some slot.
    fn budget_use<'a>(&'a self, key: &'a str, slots: &'a [UnixMs], now: UnixMs) -> BoxFuture<'a, Option<BudgetUse>>;

    /// Deletes slots of before `slots`, and holds that expired and settlements that were made before `requests`.
    fn forget_counters(&self, slots: UnixMs, requests: UnixMs) -> BoxFuture<'_, ()>;
}
