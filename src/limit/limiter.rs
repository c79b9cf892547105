//! Decides, in the best place that can be reached.
//!
//! With Redis, everything is decided there, in one round trip, or none for a request on lease. Without it, limits are this
//! replica's share and are kept in process; money is held in PostgreSQL, where there is one, and otherwise in process (one
//! program alone) or not at all (Redis is away: hard budgets close after a small allowance). What is decided in one place
//! is settled in all of them that count it, so that each knows the truth when its turn comes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::book::{Answer, Books, Outcome, Settlement, Standing, lock};
use super::crowd::Crowd;
use super::door::Door;
use super::hold::{Hold, Money, Rates, Record};
use super::live::Live;
use super::mirror::Mirror;
use super::offline::Offline;
use super::outbox::Outbox;
use super::period::ms;
use super::place::Place;
use super::plan::{BudgetPlan, Plan};
use super::reconcile::{ROUNDS, Rounds};
use super::seeding::Seeding;
use super::verdict::{allowance, told, unavailable};
use super::{Allowance, Caller, Denied, Used, Wish};
use crate::clock::{Clock, UnixMs};
use crate::config::{RateSettings, TenantSpec};
use crate::ids::{RequestId, TenantId};
use crate::shared::{Shared, Unanswered};
use crate::store::{CounterStore, LedgerStore};
use crate::telemetry::metrics::Metrics;

/// Settlements under way at once: those for Redis share one connection, and so go out together; those for the database
/// take turns with requests.
const TO_REDIS: usize = 16;
const TO_COUNTERS: usize = 4;

/// What a limiter is made of.
pub struct LimiterParts {
    /// Shared counters of everything.
    pub redis: Option<Shared>,
    /// Shared counters of budgets, in the database.
    pub counters: Option<Arc<dyn CounterStore>>,
    /// Where money counters start from, and what they are compared with.
    pub ledger: Arc<dyn LedgerStore>,
    /// Time.
    pub clock: Clock,
    /// Series.
    pub metrics: Arc<Metrics>,
    /// `[limits]`
    pub settings: RateSettings,
    /// Whether rows of requests that have been counted here may be missing in the ledger for long.
    pub pending: Pending,
}

/// See [`LimiterParts::pending`].
pub type Pending = Arc<dyn Fn() -> bool + Send + Sync>;

/// A settlement for the counters in the database.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) request: RequestId,
    pub(super) budgets: Vec<(String, UnixMs)>,
    pub(super) cost: i64,
}

/// See the module.
pub struct Limiter {
    pub(super) door: Option<Door>,
    pub(super) counters: Option<Arc<dyn CounterStore>>,
    pub(super) ledger: Arc<dyn LedgerStore>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: RateSettings,
    /// Counters of this process: all of them, or its share while Redis is away.
    pub(super) books: Books,
    pub(super) mirror: Mirror,
    pub(super) offline: Offline,
    pub(super) live: Live,
    pub(super) to_redis: Outbox<Settlement>,
    pub(super) to_counters: Outbox<Counted>,
    /// This replica among those seen.
    pub(super) name: String,
    pub(super) pending: Pending,
    /// Some replica had rows that the ledger lacked when this one last gave a sign of life.
    pub(super) behind: AtomicBool,
    /// Replicas seen last.
    pub(super) replicas: AtomicU64,
    /// Redis did not answer, and this replica took its share by itself since.
    pub(super) alone: AtomicBool,
    /// Something was decided without Redis since it decided last.
    pub(super) apart: AtomicBool,
    /// Budgets that were brought up to the ledger in the database since Redis went away.
    pub(super) fresh: Mutex<HashSet<String>>,
    /// The counters in the database did not answer, and are left alone until then.
    pub(super) counters_away: Mutex<Option<Instant>>,
    /// The ledger could not be read, and is left alone until then.
    pub(super) ledger_away: Mutex<Option<Instant>>,
    /// One at a time brings up the budgets of a tenant.
    pub(super) seedings: Mutex<HashMap<TenantId, Arc<Seeding>>>,
    /// One at a time holds in the database for a tenant.
    turns: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
    /// Those who wait for it.
    pub(super) crowd: Crowd,
    /// Tenants whose budgets are in use, and for how many rounds they are still compared with the ledger.
    pub(super) watched: Mutex<HashMap<TenantId, (Arc<TenantSpec>, u32)>>,
    /// Some have been in use only since the last round.
    pub(super) newcomers: Notify,
    pub(super) rounds: Rounds,
    pub(super) looked: Mutex<HashMap<String, (UnixMs, Standing)>>,
}

impl Limiter {
    /// Counts nothing yet; [`Limiter::run`] does what happens in the background.
    pub fn new(parts: LimiterParts) -> Self {
        let LimiterParts { redis, counters, ledger, clock, metrics, settings, pending } = parts;
        let (room, dropped) = (settings.queue, &metrics.limits.dropped);
        Self {
            to_redis: Outbox::new(room, TO_REDIS, dropped.clone()),
            to_counters: Outbox::new(room, TO_COUNTERS, dropped.clone()),
            door: redis.map(|shared| Door::new(shared, Arc::clone(&metrics))),
            counters,
            ledger,
            clock,
            live: Live::new(metrics.limits.holds.clone()),
            metrics,
            settings,
            books: Books::default(),
            mirror: Mirror::default(),
            offline: Offline::default(),
            name: format!("{:016x}", fastrand::u64(..)),
            pending,
            behind: AtomicBool::new(false),
            replicas: AtomicU64::new(1),
            alone: AtomicBool::new(false),
            apart: AtomicBool::new(false),
            fresh: Mutex::default(),
            counters_away: Mutex::default(),
            ledger_away: Mutex::default(),
            seedings: Mutex::default(),
            turns: Mutex::default(),
            crowd: Crowd::default(),
            watched: Mutex::default(),
            newcomers: Notify::new(),
            rounds: Rounds::default(),
            looked: Mutex::default(),
        }
    }

    /// Takes one request from the buckets of key and tenant: from both or from none.
    ///
    /// # Errors
    /// There is none left.
    pub async fn request(&self, caller: Caller<'_>, now: UnixMs) -> Result<Allowance, Denied> {
        let mut plan = Plan::request(&caller);
        if plan.is_empty() {
            return Ok(Allowance::default());
        }
        let told = match &self.door {
            Some(door) => match self.mirror.lease(&mut plan, now) {
                Some(buckets) => Ok(allowance(plan.buckets.iter().zip(buckets))),
                None => self.request_shared(door, &caller, plan, now).await,
            },
            None => told(&caller, &plan, &self.books.with(caller.tenant, |book| book.decide(&plan, now)), now),
        };
        self.note(&caller, told)
    }

    async fn request_shared(
        &self,
        door: &Door,
        caller: &Caller<'_>,
        mut plan: Plan,
        now: UnixMs,
    ) -> Result<Allowance, Denied> {
        match self.decide_shared(door, &mut plan, now).await {
            Ok(answer) => {
                let admitted = answer.outcome == Outcome::Admitted;
                let buckets = self.mirror.leased(&plan, &answer.buckets, admitted, now);
                told(caller, &plan, &answer, now).map(|_| allowance(plan.buckets.iter().zip(buckets)))
            }
            Err(_) => {
                self.mirror.unanswered(&plan);
                let (share, answer) = self.decide_alone(caller, &Plan::request(caller), now);
                told(caller, &share, &answer, now)
            }
        }
    }

    /// Reserves the tokens, the seat and the worst case of a request: all or nothing.
    ///
    /// # Errors
    /// One of them has no room; nothing is held then.
    pub async fn admit(self: &Arc<Self>, caller: Caller<'_>, wish: Wish<'_>) -> Result<Hold, Denied> {
        let told = self.admit_unasked(caller, wish).await;
        self.note(&caller, told)
    }

    /// [`Limiter::admit`] for what no caller has asked for: if it has no room, nobody was refused.
    ///
    /// # Errors
    /// As there.
    pub async fn admit_unasked(self: &Arc<Self>, caller: Caller<'_>, wish: Wish<'_>) -> Result<Hold, Denied> {
        let plan = Plan::admit(&caller, &wish, ms(self.settings.hold));
        if plan.is_empty() {
            return Ok(Hold::free());
        }
        if !plan.budgets.is_empty() {
            self.watch(caller.tenant, &caller.terms.tenant);
        }
        let (hold, record) = Hold::begin(self, plan);
        let taken = self.take(&caller, &record).await;
        // A refusal drops the hold, and with it whatever was taken on the way.
        taken.map(|allowance| hold.taken(allowance))
    }

    async fn take(self: &Arc<Self>, caller: &Caller<'_>, record: &Record) -> Result<Allowance, Denied> {
        let now = self.clock.now_ms();
        let Some(door) = &self.door else {
            return match &self.counters {
                Some(counters) => self.take_apart(caller, record, &**counters, now).await,
                None => self.take_local(caller, record, now).await,
            };
        };
        if !record.plan.budgets.is_empty() {
            self.come_back(door).await;
        }
        // Until it is answered, it may have been done.
        record.set(|places| places.maybe_redis = true);
        let mut plan = record.plan.clone();
        let asked = self.decide_seeded(Place::Redis(door), caller, &mut plan, now).await;
        record.set(|places| places.maybe_redis = asked.as_ref().err().is_some_and(|error| error.may_be_done));
        match asked {
            Ok(answer) => {
                self.mirror.note(&plan, &answer.buckets);
                self.back(&plan, &answer);
                if answer.outcome == Outcome::Admitted {
                    record.set(|places| {
                        places.rates = Rates::Redis;
                        places.money = Money::Redis;
                    });
                }
                told(caller, &plan, &answer, now)
            }
            Err(_) => match &self.counters {
                Some(counters) => self.take_apart(caller, record, &**counters, now).await,
                None => {
                    let allowance = self.take_share(caller, record, now)?;
                    self.take_offline(record).map(|()| allowance)
                }
            },
        }
    }

    /// Everything in this process, which is alone.
    async fn take_local(&self, caller: &Caller<'_>, record: &Record, now: UnixMs) -> Result<Allowance, Denied> {
        let mut plan = record.plan.clone();
        let Ok(answer) = self.decide_seeded(Place::Local(&self.books), caller, &mut plan, now).await else {
            // The ledger cannot be read: what was spent before is not known.
            let allowance = self.take_share(caller, record, now)?;
            return self.take_offline(record).map(|()| allowance);
        };
        self.offline.reset(read(&plan, &answer));
        if answer.outcome == Outcome::Admitted {
            record.set(|places| {
                places.rates = Rates::Local;
                places.money = Money::Local;
            });
        }
        told(caller, &plan, &answer, now)
    }

    /// This replica's share of the limits.
    pub(super) fn take_share(&self, caller: &Caller<'_>, record: &Record, now: UnixMs) -> Result<Allowance, Denied> {
        let (plan, answer) = self.decide_alone(caller, &record.plan, now);
        let told = told(caller, &plan, &answer, now)?;
        record.set(|places| {
            places.rates = Rates::Local;
            places.share = Some(plan);
        });
        Ok(told)
    }

    /// Nobody can be asked about money.
    pub(super) fn take_offline(&self, record: &Record) -> Result<(), Denied> {
        if record.plan.budgets.is_empty() {
            return Ok(());
        }
        if !self.offline.hold(&record.plan, &self.settings) {
            return Err(unavailable());
        }
        record.set(|places| places.money = Money::Offline);
        Ok(())
    }

    /// Decides on this replica's share, without money.
    fn decide_alone(&self, caller: &Caller<'_>, plan: &Plan, now: UnixMs) -> (Plan, Answer) {
        let replicas = self.replicas();
        let share = plan.share(caller, replicas);
        let answer = self.books.with(caller.tenant, |book| {
            if self.door.is_some() {
                self.alone.store(true, Ordering::Relaxed);
                for ask in &share.buckets {
                    let replicas = i64::try_from(replicas).unwrap_or(i64::MAX);
                    book.put_bucket(ask, &plan.key, || self.mirror.share(&share, ask, replicas, now));
                }
            }
            book.decide(&share, now)
        });
        (share, answer)
    }

    /// Decides in Redis. What this replica took by itself while Redis was away is taken from the shared buckets first.
    pub(super) async fn decide_shared(&self, door: &Door, plan: &mut Plan, now: UnixMs) -> Result<Answer, Unanswered> {
        let mut own = Vec::new();
        if self.alone.load(Ordering::Relaxed) {
            self.books.with(&plan.tenant, |book| {
                for ask in &mut plan.buckets {
                    if let Some(bucket) = book.take_bucket(ask, &plan.key, now) {
                        own.push((*ask, bucket));
                        ask.credit -= bucket.2;
                    }
                }
            });
        }
        let asked = door.decide(plan, now).await;
        self.degraded(asked.is_err());
        if asked.is_err() && !own.is_empty() {
            self.books.with(&plan.tenant, |book| {
                for (ask, bucket) in own {
                    book.return_bucket(&ask, &plan.key, bucket);
                }
            });
        }
        asked
    }

    pub(super) async fn turn(&self, tenant: &TenantId) -> tokio::sync::OwnedMutexGuard<()> {
        let turns = Arc::clone(lock(&self.turns).entry(tenant.clone()).or_default());
        turns.lock_owned().await
    }

    /// The end of a hold, wherever it is or may be.
    pub(super) fn end(&self, record: &Record, used: Used) {
        let (plan, places) = (&record.plan, record.places());
        self.live.remove(plan);
        let now = self.clock.now_ms();
        let cost = used.cost.0.max(0);
        let taken = places.rates != Rates::None || places.money != Money::None;
        if places.money == Money::Offline {
            self.offline.settle(plan, cost);
        }
        let shared = self.door.is_some() || self.counters.is_some();
        if places.rates == Rates::Local || places.money == Money::Local || (places.money == Money::Offline && !shared) {
            let local = places.share.as_ref().unwrap_or(plan);
            let mut end = local.settlement(used, places.rates == Rates::Local, false);
            if !shared {
                end.budgets = plan.settlement(used, false, true).budgets;
            }
            self.books.with(&plan.tenant, |book| book.settle(&end, now));
        }
        if self.door.is_some() && (taken || places.maybe_redis) {
            // Also when something else decided, so that Redis knows what was spent when it is back.
            let end = plan.settlement(used, places.rates == Rates::Redis, true);
            let something = places.maybe_redis || places.rates == Rates::Redis;
            if something || !end.budgets.is_empty() || !end.seats.is_empty() {
                self.to_redis.push(end);
            }
        }
        // While Redis is away the database decides, and must know what was held in Redis, too.
        let apart = places.money == Money::Redis && self.is_apart();
        let counted = apart || places.maybe_counters || matches!(places.money, Money::Counters | Money::Offline);
        if let (true, Some(request), true) = (self.counters.is_some(), plan.request, counted) {
            let budgets = plan.budgets.iter().map(|budget| (budget.ask.key.clone(), budget.span.charged())).collect();
            self.to_counters.push(Counted { request, budgets, cost });
        }
    }

    /// Replicas that share the limits.
    fn replicas(&self) -> u64 {
        if self.door.is_some() { self.replicas.load(Ordering::Relaxed).max(1) } else { 1 }
    }

    /// Whether money may be decided about in the database although there is a Redis.
    fn is_apart(&self) -> bool {
        self.alone.load(Ordering::Relaxed) || self.metrics.limits.degraded.get() != 0
    }

    /// Redis answered, or did not.
    pub(super) fn degraded(&self, away: bool) {
        self.metrics.limits.degraded.set(i64::from(away));
    }

    /// Redis has decided about the money of these budgets: what counted while it was away is of the past.
    fn back(&self, plan: &Plan, answer: &Answer) {
        self.offline.reset(read(plan, answer));
        let mut fresh = lock(&self.fresh);
        if !fresh.is_empty() {
            for budget in read(plan, answer) {
                fresh.remove(&budget.ask.key);
            }
        }
    }

    pub(super) fn watch(&self, tenant: &TenantId, spec: &Arc<TenantSpec>) {
        let mut watched = lock(&self.watched);
        match watched.get_mut(tenant) {
            Some((known, rounds)) => {
                *rounds = ROUNDS;
                if !Arc::ptr_eq(known, spec) {
                    *known = Arc::clone(spec);
                }
            }
            None => {
                watched.insert(tenant.clone(), (Arc::clone(spec), ROUNDS + 1));
                self.newcomers.notify_one();
            }
        }
    }

    pub(super) fn note<T>(&self, caller: &Caller<'_>, told: Result<T, Denied>) -> Result<T, Denied> {
        if let Err(denied) = &told {
            self.metrics.alerts.refused(caller.tenant, denied.limit().unwrap_or("budget"));
            match denied.limit() {
                Some(limit) => self.metrics.limits.refused_by_limit(caller.tenant.as_str(), limit),
                None => self.metrics.limits.refused_by_budget(caller.tenant.as_str()),
            }
        }
        told
    }
}

/// The budgets whose counters were read for an answer: none if it was refused before.
fn read<'a>(plan: &'a Plan, answer: &Answer) -> impl Iterator<Item = &'a BudgetPlan> {
    plan.budgets.iter().take(answer.budgets.len())
}
