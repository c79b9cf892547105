//! Counters in the memory of this process: of one that is alone, and of one that cannot reach the others.
//!
//! The same decisions as `script.lua` makes in Redis, on the same data, with the time passed in. Holds and seats expire by
//! themselves; what was spent is counted apart from what is held, so that a hold that is lost can only be too careful.
//! Sums are wide: no amounts of money that fit in 64 bits make them overflow.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::{Bucket, Rate};
use super::expiring::Expiring;
use super::plan::{BucketAsk, Kind, Plan, Whose};
use crate::clock::UnixMs;
use crate::ids::{KeyId, RequestId, TenantId};

/// How long a settlement is remembered, so that a second one is known. Longer than any renewal that is under way.
const REMEMBER_MS: u64 = 60 * 1_000;

/// What became of a plan. Nothing is taken unless it is `Admitted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Admitted,
    /// A bucket has too few tokens.
    Short,
    /// No seat of the limit at this place.
    Full(usize),
    /// The counters of the budgets at these places are not there.
    Unseeded(Vec<usize>),
    /// The budget at this place has no room.
    Poor(usize),
}

/// What a budget's counters said before the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) spent: i128,
    pub(super) held: i128,
    /// The first slot with something spent, by its place.
    pub(super) first: Option<usize>,
}

/// A decision with what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// Each bucket after the decision, and how much was taken.
    pub(super) buckets: Vec<(Bucket, i64)>,
    /// As many as were looked at.
    pub(super) budgets: Vec<Standing>,
}

/// What to change when a request has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) tenant: TenantId,
    pub(super) key: KeyId,
    /// `None` for what may be done twice.
    pub(super) request: Option<RequestId>,
    /// Tokens to put back, or to take if negative.
    pub(super) buckets: Vec<(Whose, Kind, Rate, i64)>,
    pub(super) seats: Vec<Whose>,
    pub(super) budgets: Vec<Charge>,
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    /// The budget's counters.
    pub(super) key: String,
    /// The slot that pays.
    pub(super) slot: UnixMs,
    /// What was held.
    pub(super) held: i64,
    /// What it cost.
    pub(super) cost: i64,
    /// How long a slot is of use, milliseconds.
    pub(super) kept: u64,
}

/// Buckets and seats of a tenant or of a key.
#[derive(Default)]
struct Side {
    buckets: HashMap<Kind, (Rate, Bucket)>,
    seats: Expiring,
}

/// Counters of one budget.
#[derive(Default)]
struct Account {
    /// All slots from here on are known.
    from: Option<UnixMs>,
    slots: BTreeMap<UnixMs, i128>,
    holds: Expiring,
}

/// Counters of one tenant.
#[derive(Default)]
pub(super) struct Book {
    tenant: Side,
    keys: HashMap<KeyId, Side>,
    budgets: HashMap<String, Account>,
    done: HashMap<RequestId, UnixMs>,
}

/// Counters of all tenants.
#[derive(Default)]
pub(super) struct Books(Mutex<HashMap<TenantId, Arc<Mutex<Book>>>>);

impl Books {
    /// Works on the counters of one tenant; nobody else does meanwhile.
    pub(super) fn with<T>(&self, tenant: &TenantId, work: impl FnOnce(&mut Book) -> T) -> T {
        let book = {
            let mut all = lock(&self.0);
            match all.get(tenant) {
                Some(book) => Arc::clone(book),
                None => Arc::clone(all.entry(tenant.clone()).or_default()),
            }
        };
        work(&mut lock(&book))
    }

    /// Forgets what says nothing: full buckets and expired holds. Whether nothing is left.
    pub(super) fn sweep(&self, now: UnixMs) -> bool {
        let mut all = lock(&self.0);
        all.retain(|_, book| Arc::strong_count(book) > 1 || !lock(book).sweep(now));
        all.is_empty()
    }
}

/// A poisoned lock is taken all the same: each change below is complete in itself.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    fn side(&mut self, whose: Whose, key: &KeyId) -> &mut Side {
        match whose {
            Whose::Tenant => &mut self.tenant,
            Whose::Key => self.keys.entry(key.clone()).or_default(),
        }
    }

    /// Decides and, if all has room, takes.
    pub(super) fn decide(&mut self, plan: &Plan, now: UnixMs) -> Answer {
        let mut short = false;
        let mut buckets = Vec::with_capacity(plan.buckets.len());
        for ask in &plan.buckets {
            let mut bucket = self.bucket(ask, &plan.key, now);
            bucket.add(ask.credit, ask.rate.limit);
            short |= bucket.level < ask.least;
            buckets.push((bucket, 0));
        }
        let mut budgets = Vec::with_capacity(plan.budgets.len());
        let outcome = if short { Outcome::Short } else { self.room(plan, now, &mut budgets) };
        if outcome == Outcome::Admitted {
            for (ask, (bucket, taken)) in plan.buckets.iter().zip(&mut buckets) {
                *taken = ask.want.min(bucket.level).max(0);
                bucket.add(-*taken, ask.rate.limit);
            }
            self.hold(plan, now);
        }
        for (ask, (bucket, _)) in plan.buckets.iter().zip(&buckets) {
            self.side(ask.whose, &plan.key).buckets.insert(ask.kind, (ask.rate, *bucket));
        }
        Answer { outcome, buckets, budgets }
    }

    fn bucket(&mut self, ask: &BucketAsk, key: &KeyId, now: UnixMs) -> Bucket {
        let known = self.side(ask.whose, key).buckets.get(&ask.kind);
        known.map_or_else(|| Bucket::full(ask.rate, now), |(_, bucket)| bucket.refilled(ask.rate, now))
    }

    /// Seats first, then the budgets.
    fn room(&mut self, plan: &Plan, now: UnixMs, budgets: &mut Vec<Standing>) -> Outcome {
        for (place, seat) in plan.seats.iter().enumerate() {
            let taken = &mut self.side(seat.whose, &plan.key).seats;
            taken.expire(now);
            let sits = plan.request.is_some_and(|request| taken.has(request));
            if !sits && taken.count() >= seat.limit {
                return Outcome::Full(place);
            }
        }
        let mut unseeded = Vec::new();
        for (place, budget) in plan.budgets.iter().enumerate() {
            match self.standing(&budget.ask.key, &budget.ask.slots, now) {
                Some(standing) => budgets.push(standing),
                None => {
                    budgets.push(Standing::default());
                    unseeded.push(place);
                }
            }
        }
        if !unseeded.is_empty() {
            return Outcome::Unseeded(unseeded);
        }
        let poor = plan.budgets.iter().zip(&*budgets).position(|(budget, standing)| {
            let account = self.budgets.get(&budget.ask.key);
            let holds = account.zip(plan.request).is_some_and(|(account, request)| account.holds.has(request));
            let amount = if holds { 0 } else { i128::from(budget.ask.amount) };
            budget.hard && standing.spent + standing.held + amount > i128::from(budget.ask.limit)
        });
        poor.map_or(Outcome::Admitted, Outcome::Poor)
    }

    fn hold(&mut self, plan: &Plan, now: UnixMs) {
        let Some(request) = plan.request.filter(|request| !self.done.contains_key(request)) else { return };
        let expires = now.saturating_add(plan.hold_ms);
        for seat in &plan.seats {
            self.side(seat.whose, &plan.key).seats.put(request, 0, expires);
        }
        for budget in &plan.budgets {
            self.account(&budget.ask.key).holds.put(request, budget.ask.amount, expires);
        }
    }

    fn account(&mut self, key: &str) -> &mut Account {
        self.budgets.entry(key.to_owned()).or_default()
    }

    /// What the counters say; `None` if they do not know all the slots.
    pub(super) fn standing(&mut self, key: &str, slots: &[UnixMs], now: UnixMs) -> Option<Standing> {
        let account = self.budgets.get_mut(key)?;
        account.holds.expire(now);
        let from = account.from?;
        if slots.first().is_none_or(|first| *first < from) {
            return None;
        }
        let mut standing = Standing { held: account.holds.sum(), ..Standing::default() };
        for (place, slot) in slots.iter().enumerate() {
            let spent = account.slots.get(slot).copied().unwrap_or(0);
            standing.spent += spent;
            if spent > 0 && standing.first.is_none() {
                standing.first = Some(place);
            }
        }
        Some(standing)
    }

    /// What was spent slot by slot.
    pub(super) fn by_slot(&self, key: &str, slots: &[UnixMs]) -> Vec<i128> {
        let spent = |slot| self.budgets.get(key).and_then(|account| account.slots.get(slot)).copied();
        slots.iter().map(|slot| spent(slot).unwrap_or(0)).collect()
    }

    /// Ends what a request holds and counts what it took; whether this was the first time.
    pub(super) fn settle(&mut self, settlement: &Settlement, now: UnixMs) -> bool {
        if let Some(request) = settlement.request {
            if self.done.contains_key(&request) {
                return false;
            }
            self.done.insert(request, now);
        }
        for (whose, kind, rate, tokens) in &settlement.buckets {
            let side = self.side(*whose, &settlement.key);
            let known = side.buckets.get(kind).map(|(_, bucket)| *bucket);
            let mut bucket = known.map_or_else(|| Bucket::full(*rate, now), |bucket| bucket.refilled(*rate, now));
            bucket.add(*tokens, rate.limit);
            side.buckets.insert(*kind, (*rate, bucket));
        }
        for whose in &settlement.seats {
            if let Some(request) = &settlement.request {
                self.side(*whose, &settlement.key).seats.remove(*request);
            }
        }
        for charge in &settlement.budgets {
            let account = self.account(&charge.key);
            if let Some(request) = settlement.request {
                account.holds.remove(request);
            }
            *account.slots.entry(charge.slot).or_insert(0) += i128::from(charge.cost);
            let oldest = charge.slot.saturating_sub(charge.kept);
            account.slots = account.slots.split_off(&oldest);
        }
        true
    }

    /// Puts the expiry of what a request holds off, and holds it again if it is gone, unless it is settled.
    pub(super) fn renew(&mut self, plan: &Plan, now: UnixMs) {
        self.hold(plan, now);
    }

    /// Brings slots up to at least what is given, and knows all from the first on.
    pub(super) fn seed(&mut self, key: &str, slots: &[(UnixMs, i64)]) {
        let account = self.account(key);
        for (slot, spent) in slots {
            let there = account.slots.entry(*slot).or_insert(0);
            *there = (*there).max(i128::from(*spent));
        }
        if let Some((first, _)) = slots.first() {
            account.from = Some(account.from.map_or(*first, |from| from.min(*first)));
        }
    }

    /// Sets a slot if it is `seen` now.
    pub(super) fn correct(&mut self, key: &str, slot: UnixMs, seen: i64, spent: i64) -> bool {
        let there = self.account(key).slots.entry(slot).or_insert(0);
        let as_seen = *there == i128::from(seen);
        if as_seen {
            *there = i128::from(spent);
        }
        as_seen
    }

    /// Puts a bucket in, unless there is one.
    pub(super) fn put_bucket(&mut self, ask: &BucketAsk, key: &KeyId, make: impl FnOnce() -> Bucket) {
        self.side(ask.whose, key).buckets.entry(ask.kind).or_insert_with(|| (ask.rate, make()));
    }

    /// Takes a bucket out; with it, how many tokens it lacks.
    pub(super) fn take_bucket(&mut self, ask: &BucketAsk, key: &KeyId, now: UnixMs) -> Option<(Rate, Bucket, i64)> {
        let side = match ask.whose {
            Whose::Tenant => Some(&mut self.tenant),
            Whose::Key => self.keys.get_mut(key),
        };
        let (rate, bucket) = side?.buckets.remove(&ask.kind)?;
        let bucket = bucket.refilled(rate, now);
        Some((rate, bucket, rate.limit.saturating_sub(bucket.level)))
    }

    /// Puts one back that was taken out; what it lacked, one that was made meanwhile lacks too.
    pub(super) fn return_bucket(&mut self, ask: &BucketAsk, key: &KeyId, (rate, bucket, lacks): (Rate, Bucket, i64)) {
        match self.side(ask.whose, key).buckets.entry(ask.kind) {
            Entry::Occupied(mut made) => made.get_mut().1.add(-lacks, rate.limit),
            Entry::Vacant(none) => drop(none.insert((rate, bucket))),
        }
    }

    /// Whether nothing is left.
    fn sweep(&mut self, now: UnixMs) -> bool {
        self.tenant.sweep(now);
        self.keys.retain(|_, side| !side.sweep(now));
        self.done.retain(|_, at| at.saturating_add(REMEMBER_MS) > now);
        for account in self.budgets.values_mut() {
            account.holds.expire(now);
        }
        self.tenant.buckets.is_empty()
            && self.tenant.seats.count() == 0
            && self.keys.is_empty()
            && self.budgets.is_empty()
            && self.done.is_empty()
    }
}

impl Side {
    /// Whether nothing is left.
    fn sweep(&mut self, now: UnixMs) -> bool {
        self.seats.expire(now);
        self.buckets.retain(|_, (rate, bucket)| bucket.refilled(*rate, now).level < rate.limit);
        self.seats.count() == 0 && self.buckets.is_empty()
    }
}
