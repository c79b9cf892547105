//! Limits and budgets as the pipeline meets them: in process, through a real Redis, through a real PostgreSQL.

mod away;
mod counters;
mod local;
mod redis;
mod same;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::config::{Budget, RateSettings};
use crate::ids::EntryId;
use crate::server::Shutdown;
use crate::shared::Shared;
use crate::store::{BoxFuture, CounterStore, LedgerRow, LedgerStore, Spend, StoreError};
use crate::telemetry::metrics::Metrics;

/// A Thursday in November 2026, at noon.
const NOON: UnixMs = 1_795_694_400_000;
const MINUTE: u64 = 60_000;

/// A ledger in memory: rows by when they started.
#[derive(Default)]
struct FakeLedger {
    rows: Mutex<Vec<(UnixMs, Spend)>>,
    down: AtomicBool,
    asked: AtomicU64,
}

impl FakeLedger {
    fn add(&self, who: &Who, at: UnixMs, nano_usd: i64) {
        self.add_as(who, at, nano_usd, Some("gpt-4o"), &[]);
    }

    fn add_as(&self, who: &Who, at: UnixMs, nano_usd: i64, model: Option<&str>, tags: &[(&str, &str)]) {
        let spend = Spend {
            tenant: Some(who.tenant.clone()),
            slot: at,
            key: Some(who.key.clone()),
            model: model.map(str::to_owned),
            tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            nano_usd,
            requests: 1,
            unpriced: 0,
        };
        self.rows.lock().unwrap().push((at, spend));
    }
}

impl LedgerStore for FakeLedger {
    fn append<'a>(&'a self, _: &'a [LedgerRow]) -> BoxFuture<'a, ()> {
        unreachable!()
    }

    fn request(&self, _: RequestId) -> BoxFuture<'_, Option<LedgerRow>> {
        unreachable!()
    }

    fn count(&self) -> BoxFuture<'_, u64> {
        unreachable!()
    }

    fn recent<'a>(&'a self, _: Option<&'a TenantId>, _: u32) -> BoxFuture<'a, Vec<LedgerRow>> {
        unreachable!()
    }

    fn page(&self, _: Option<RequestId>, _: u32) -> BoxFuture<'_, Vec<LedgerRow>> {
        unreachable!()
    }

    fn served<'a>(&'a self, _: &'a TenantId, _: EntryId, _: UnixMs, _: u32) -> BoxFuture<'a, Vec<LedgerRow>> {
        unreachable!()
    }

    fn spend<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        slot_ms: u64,
    ) -> BoxFuture<'a, Vec<Spend>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            // Others may come in between.
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err(StoreError::DiskFull { place: "test.db".into() });
            }
            let rows = self.rows.lock().unwrap();
            let wanted = rows.iter().filter(|(at, row)| (since..until).contains(at) && row.tenant.as_ref() == tenant);
            Ok(wanted.map(|(at, row)| Spend { slot: at - at % slot_ms, ..row.clone() }).collect())
        })
    }
}

/// A caller that lives.
struct Who {
    tenant: TenantId,
    key: KeyId,
    terms: Terms,
}

impl Who {
    /// A tenant of its own.
    fn new(spec: TenantSpec, key: RateLimits) -> Self {
        let name = format!("t{:016x}", fastrand::u64(..));
        let tenant = Arc::new(spec);
        Self {
            key: KeyId::new(format!("{name}/app")),
            tenant: TenantId::new(name),
            terms: Terms { tenant, key, key_name: "app".into() },
        }
    }

    fn budget(budgets: Vec<Budget>) -> Self {
        Self::new(TenantSpec { budgets, ..TenantSpec::default() }, RateLimits::default())
    }

    fn limits(limits: RateLimits) -> Self {
        Self::new(TenantSpec { limits, ..TenantSpec::default() }, RateLimits::default())
    }

    /// Another key of the same tenant.
    fn other_key(&self, name: &str) -> Self {
        let (tenant, terms) = (self.tenant.clone(), Terms { key_name: name.into(), ..self.terms.clone() });
        Self { key: KeyId::new(format!("{tenant}/{name}")), tenant, terms }
    }

    fn caller(&self) -> Caller<'_> {
        Caller { tenant: &self.tenant, key: &self.key, terms: &self.terms }
    }
}

fn budget(period: &str, nano_usd: i64) -> Budget {
    let mut budget: Budget = serde_json::from_str(&format!(r#"{{"period":"{period}","usd":"1.00"}}"#)).unwrap();
    (budget.name, budget.usd) = (period.to_owned(), NanoUsd(nano_usd));
    budget
}

fn wish(at: UnixMs, tokens: u64, worst: i64) -> Wish<'static> {
    Wish { request: RequestId::at(at), at, model: "gpt-4o", tags: &[], tokens, worst: NanoUsd(worst) }
}

fn used(tokens: u64, cost: i64) -> Used {
    Used { tokens, cost: NanoUsd(cost) }
}

fn settings() -> RateSettings {
    RateSettings {
        deadline: Duration::from_secs(2),
        hold: Duration::from_secs(30),
        reconcile: Duration::from_secs(3600),
        offline_share: 0.01,
        offline_usd: NanoUsd::dollars(1),
        queue: 10_000,
    }
}

/// A limiter with what it stands on.
struct Rig {
    limiter: Arc<Limiter>,
    ledger: Arc<FakeLedger>,
    clock: Clock,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    /// Rows of its ledger wait.
    behind: Arc<AtomicBool>,
}

impl Rig {
    fn of(redis: Option<Shared>, counters: Option<Arc<dyn CounterStore>>) -> Self {
        Self::beside(redis, counters, &Arc::default(), &Clock::manual(NOON))
    }

    /// With the ledger and the clock of another one, which Redis goes by too.
    fn beside(
        redis: Option<Shared>,
        counters: Option<Arc<dyn CounterStore>>,
        ledger: &Arc<FakeLedger>,
        clock: &Clock,
    ) -> Self {
        let (clock, metrics) = (clock.clone(), Arc::new(Metrics::new([], []).unwrap()));
        let behind = Arc::new(AtomicBool::new(false));
        let late = Arc::clone(&behind);
        let mut limiter = Limiter::new(LimiterParts {
            redis,
            counters,
            ledger: Arc::clone(ledger) as Arc<dyn LedgerStore>,
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            settings: settings(),
            pending: Arc::new(move || late.load(Ordering::SeqCst)),
        });
        if let Some(door) = &mut limiter.door {
            door.time = Some(clock.clone());
        }
        let limiter = Arc::new(limiter);
        Self { limiter, ledger: Arc::clone(ledger), clock, metrics, shutdown: Shutdown::new(), behind }
    }

    fn local() -> Self {
        Self::of(None, None)
    }

    /// With its background, which ends with the rig.
    fn running(self) -> Self {
        tokio::spawn(Arc::clone(&self.limiter).run(self.shutdown.clone()));
        self
    }

    fn now(&self) -> UnixMs {
        self.clock.now_ms()
    }

    async fn admit(&self, who: &Who, tokens: u64, worst: i64) -> Result<Hold, Denied> {
        self.limiter.admit(who.caller(), wish(self.now(), tokens, worst)).await
    }

    async fn request(&self, who: &Who) -> Result<Allowance, Denied> {
        self.limiter.request(who.caller(), self.now()).await
    }

    /// Spent and held of the first budget.
    async fn standing(&self, who: &Who) -> (i64, i64) {
        let standings = self.limiter.budgets(&who.tenant, &who.terms.tenant, self.now()).await;
        (standings[0].spent.0, standings[0].held.0)
    }

    async fn settled(&self) {
        assert!(self.limiter.flush(Duration::from_secs(20)).await, "everything is counted");
    }

    fn calls(&self) -> u64 {
        let kinds = ["decide", "settle", "renew", "seed", "read", "correct"];
        kinds.iter().map(|kind| self.metrics.limits.redis_calls.with_label_values(&[kind]).get()).sum()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.trigger(Duration::ZERO);
    }
}

/// Asks `each` times at once from each rig for one unit of money; how many got it. All that got it hold it until the end.
async fn all_at_once(rigs: &[&Rig], who: &Arc<Who>, each: usize) -> Vec<Hold> {
    let mut tasks = tokio::task::JoinSet::new();
    for rig in rigs {
        for _ in 0..each {
            let (limiter, who, now) = (Arc::clone(&rig.limiter), Arc::clone(who), rig.now());
            tasks.spawn(async move { limiter.admit(who.caller(), wish(now, 0, 1_000)).await });
        }
    }
    let mut holds = Vec::new();
    while let Some(asked) = tasks.join_next().await {
        match asked.unwrap() {
            Ok(hold) => holds.push(hold),
            Err(denied) => assert!(matches!(denied, Denied::Budget { .. }), "{denied:?}"),
        }
    }
    holds
}
