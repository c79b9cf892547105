//! The gauges of this month's money, asked from the roll-ups each minute.
//!
//! The forecast is what was paid so far, and the rest of the month at the average of the last seven days: a week has each day once,
//! so weekends weigh as much as they do in a month. Where a tenant's first spending of these days is later the average is over the
//! time since then, but at least over a day, so that the first busy hour is not taken for how it goes on. Nothing else tells when
//! a tenant has begun: in passthrough mode the caller's key is the tenant, and nobody has declared it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, UnixMs, utc_month};
use crate::server::Shutdown;
use crate::store::{Dimension, Slot, StoreError, Stores, UsageAsk, UsageRow, UsageStore};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::month::{Month, TenantMonth};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);
const DAY: u64 = 24 * 60 * 60 * 1_000;
/// How far back the average of the forecast reaches, milliseconds.
const WEEK: u64 = 7 * DAY;
/// Keys with a series.
const DEAREST: u32 = 20;

/// What is asked, and who is told.
pub(super) struct MonthWatch {
    usage: Arc<dyn UsageStore>,
    metrics: Arc<Metrics>,
    clock: Clock,
    target: f64,
}

impl MonthWatch {
    pub(super) fn new(stores: &Stores, metrics: Arc<Metrics>, clock: Clock, target: f64) -> Self {
        Self { usage: Arc::clone(&stores.usage), metrics, clock, target }
    }

    /// Looks until the program ends. A look that fails leaves what was said before, and is made again.
    pub(super) async fn run(self, shutdown: Shutdown) {
        let looking = async {
            loop {
                match self.look().await {
                    Ok(()) => self.metrics.task_done("usage_month", self.clock.now_ms()),
                    Err(error) => tracing::warn!(%error, "this month's money cannot be read now; looking again soon"),
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            () = shutdown.draining() => {}
            () = looking => {}
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let Some((start, end)) = utc_month(now) else { return Ok(()) };
        let hour = Slot::Hour.ms();
        let until = (now / hour + 1) * hour;
        let ask = |since: UnixMs, by: &[Dimension], limit: u32| UsageAsk {
            since,
            until,
            by: by.to_vec(),
            limit,
            ..UsageAsk::default()
        };
        let so_far = self.usage.usage(&ask(start, &[Dimension::Tenant], 0)).await?;
        let since = now.saturating_sub(WEEK) / hour * hour;
        let week = UsageAsk { slot: Some(Slot::Hour), ..ask(since, &[Dimension::Tenant], 0) };
        let week = self.usage.usage(&week).await?;
        let keys = self.usage.usage(&ask(start, &[Dimension::Tenant, Dimension::Key], DEAREST)).await?;
        let week = Week { since, now, end, spent: by_tenant(&week) };
        let month = Month { tenants: tenants(&so_far, &week), keys: dearest(&keys), target: Some(self.target) };
        self.metrics.month.set(&month);
        Ok(())
    }
}

/// What the last seven days say of the rest of the month.
struct Week {
    since: UnixMs,
    now: UnixMs,
    end: UnixMs,
    spent: BTreeMap<String, Spent>,
}

/// What a tenant has paid.
#[derive(Clone, Copy, Default)]
struct Spent {
    nano: i64,
    /// The first hour in which it has paid anything.
    first: Option<UnixMs>,
}

impl Week {
    /// What a tenant will pay until the end of the month.
    fn rest(&self, tenant: &str) -> i64 {
        let spent = self.spent.get(tenant).copied().unwrap_or_default();
        let since = self.since.max(spent.first.unwrap_or(0));
        let over = self.now.saturating_sub(since).max(DAY);
        let rest = i128::from(spent.nano) * i128::from(self.end.saturating_sub(self.now)) / i128::from(over);
        i64::try_from(rest).unwrap_or(i64::MAX)
    }
}

fn tenants(so_far: &[UsageRow], week: &Week) -> BTreeMap<String, TenantMonth> {
    let mut months: BTreeMap<String, TenantMonth> = BTreeMap::new();
    for row in so_far {
        let Some(Some(tenant)) = row.group.first() else { continue };
        let month = months.entry(tenant.clone()).or_default();
        month.spend = month.spend.saturating_add(row.sums.total());
        month.saved_gross = month.saved_gross.saturating_add(row.sums.saved_gross);
        month.saved_net = month.saved_net.saturating_add(row.sums.saved_net);
    }
    // Who has paid nothing in this month yet may have last week.
    for tenant in week.spent.keys() {
        months.entry(tenant.clone()).or_default();
    }
    for (tenant, month) in &mut months {
        month.forecast = month.spend.saturating_add(week.rest(tenant));
    }
    months
}

/// From rows by the hour.
fn by_tenant(rows: &[UsageRow]) -> BTreeMap<String, Spent> {
    let mut spent: BTreeMap<String, Spent> = BTreeMap::new();
    for row in rows {
        if let Some(Some(tenant)) = row.group.first() {
            let sum = spent.entry(tenant.clone()).or_default();
            sum.nano = sum.nano.saturating_add(row.sums.total());
            if let Some(slot) = row.slot.filter(|_| row.sums.total() > 0) {
                sum.first = Some(sum.first.map_or(slot, |first| first.min(slot)));
            }
        }
    }
    spent
}

/// By tenant and the key's name within it.
fn dearest(rows: &[UsageRow]) -> BTreeMap<(String, String), i64> {
    let paid = rows.iter().filter(|row| row.sums.total() > 0);
    paid.filter_map(|row| {
        let [Some(tenant), Some(key)] = row.group.as_slice() else { return None };
        let name = key.strip_prefix(tenant.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(key);
        Some(((tenant.clone(), name.to_owned()), row.sums.total()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ids::TenantId;
    use crate::store::{BoxFuture, Correction, LedgerRow, Rated, Sums};

    /// 2026-11-26T12:00:00Z
    const NOW: UnixMs = 1_795_694_400_000;
    const HOUR: u64 = 3_600_000;

    /// Answers by whether it is asked about keys and since when.
    #[derive(Default)]
    struct Fake {
        month: Vec<UsageRow>,
        week: Vec<UsageRow>,
        keys: Vec<UsageRow>,
        asked: Mutex<Vec<UsageAsk>>,
        away: bool,
    }

    impl UsageStore for Fake {
        fn usage<'a>(&'a self, ask: &'a UsageAsk) -> BoxFuture<'a, Vec<UsageRow>> {
            self.asked.lock().unwrap().push(ask.clone());
            let month = utc_month(ask.until - 1).unwrap().0;
            let found = match (ask.by.len(), ask.since == month) {
                (2, _) => self.keys.clone(),
                (_, true) => self.month.clone(),
                (_, false) => self.week.clone(),
            };
            let away = self.away;
            Box::pin(async move { if away { Err(StoreError::Failed("away".into())) } else { Ok(found) } })
        }

        fn correct<'a>(&'a self, _: &'a [Correction]) -> BoxFuture<'a, u64> {
            unreachable!()
        }

        fn corrections(&self, _: crate::ids::RequestId) -> BoxFuture<'_, Vec<Correction>> {
            unreachable!()
        }

        fn correction_page(
            &self,
            _: Option<(crate::ids::RequestId, UnixMs)>,
            _: u32,
        ) -> BoxFuture<'_, Vec<Correction>> {
            unreachable!()
        }

        fn rated_page<'a>(
            &'a self,
            _: Option<&'a TenantId>,
            _: UnixMs,
            _: UnixMs,
            _: Option<crate::ids::RequestId>,
            _: u32,
        ) -> BoxFuture<'a, Vec<(LedgerRow, Rated)>> {
            unreachable!()
        }
    }

    fn row(group: &[&str], cost: i64) -> UsageRow {
        let group = group.iter().map(|value| Some((*value).to_owned())).collect();
        UsageRow { slot: None, group, sums: Sums { cost, saved_gross: 5, saved_net: 4, ..Sums::default() } }
    }

    fn at(slot: UnixMs, tenant: &str, cost: i64) -> UsageRow {
        UsageRow { slot: Some(slot), ..row(&[tenant], cost) }
    }

    fn watch(fake: &Arc<Fake>) -> MonthWatch {
        let metrics = Metrics::new(["old", "new", "gone"].map(str::to_owned), []).unwrap();
        MonthWatch { usage: fake.clone(), metrics: Arc::new(metrics), clock: Clock::manual(NOW), target: 0.3 }
    }

    fn says(watch: &MonthWatch, line: &str) {
        let text = String::from_utf8(watch.metrics.render()).unwrap();
        assert!(text.lines().any(|has| has == line), "{line}: {text}");
    }

    #[tokio::test]
    async fn the_rest_of_the_month_goes_on_as_the_last_week_went() {
        let fake = Arc::new(Fake {
            month: vec![row(&["old"], 100_000_000_000), row(&["new"], 3_000_000_000)],
            week: vec![
                at(NOW - HOUR, "old", 60_000_000_000),
                at(NOW - WEEK, "old", 10_000_000_000),
                at(NOW - WEEK, "new", 0),
                at(NOW - 3 * HOUR, "new", 3_000_000_000),
                at(NOW - 2 * DAY, "gone", 2_000_000_000),
            ],
            keys: vec![row(&["old", "old/app"], 99_000_000_000), row(&["new", "new/x"], 0)],
            ..Fake::default()
        });
        let watch = watch(&fake);
        watch.look().await.unwrap();
        // Four and a half days are left: ten dollars a day; three, because three hours since the first spending count as a day; and one.
        for line in [
            "remora_month_spend_usd{tenant=\"old\"} 100",
            "remora_month_forecast_usd{tenant=\"old\"} 145",
            "remora_month_forecast_usd{tenant=\"new\"} 16.5",
            "remora_month_forecast_usd{tenant=\"gone\"} 4.5",
            "remora_month_key_spend_usd{key=\"app\",tenant=\"old\"} 99",
            "remora_month_saved_usd{basis=\"net\",tenant=\"old\"} 0.000000004",
            "remora_savings_target_ratio 0.3",
        ] {
            says(&watch, line);
        }
        assert!(!String::from_utf8(watch.metrics.render()).unwrap().contains("key=\"x\""), "a key that cost nothing");
        let asked = fake.asked.lock().unwrap().clone();
        let start = utc_month(NOW).unwrap().0;
        let spans: Vec<_> = asked.iter().map(|ask| (ask.since, ask.until, ask.limit)).collect();
        assert_eq!(spans, [(start, NOW + HOUR, 0), (NOW - WEEK, NOW + HOUR, 0), (start, NOW + HOUR, DEAREST)]);
        assert_eq!(asked[1].slot, Some(Slot::Hour), "or nobody knows when spending has begun");
    }

    #[tokio::test]
    async fn a_look_that_fails_leaves_what_was_said() {
        let fake = Arc::new(Fake { month: vec![row(&["old"], 100_000_000_000)], ..Fake::default() });
        let watch = watch(&fake);
        watch.look().await.unwrap();
        let away = MonthWatch { usage: Arc::new(Fake { away: true, ..Fake::default() }), ..watch };
        assert!(away.look().await.is_err());
        says(&away, "remora_month_spend_usd{tenant=\"old\"} 100");
    }
}
