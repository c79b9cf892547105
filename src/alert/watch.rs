//! Looking: which tenant's budgets, refusals and spending are worth an alert.
//!
//! A look that fails is made again the next time; nothing here is lost by waiting, because what is looked at is in the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::forecast::{self, HOUR, REACH};
use super::rejection::{self, Tally};
use super::source::{Watched, counts};
use super::threshold::{self, Turn, percent};
use super::{Alerts, anomaly};
use crate::clock::UnixMs;
use crate::config::{Budget, NanoUsd, Period};
use crate::ids::TenantId;
use crate::limit::BudgetStanding;
use crate::store::{Spend, StoreError};

/// Between two looks at the budgets.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks at everything else.
const SLOW: Duration = Duration::from_secs(60);
/// Hours that may still get rows: a request is in the ledger under the hour in which it began.
const UNFINISHED: u64 = 2 * HOUR;
/// How long after an hour its spend is looked at, milliseconds.
const SETTLED: u64 = 10 * 60 * 1_000;
/// Alerts forgotten in one statement.
const FORGET_AT_ONCE: u32 = 1_000;
/// What the names of the marks of windows begin with.
const MARKS: &str = "alert/window/";
/// The mark of a window that may be crossed.
const ARMED: &str = "-";

/// What was looked at so far.
pub(super) struct Watch {
    tally: Tally,
    burned: HashMap<(TenantId, String), Burned>,
    /// The last hour whose spend was compared with the weeks before.
    compared: UnixMs,
    /// The hour in which old things were last taken away.
    tidied: UnixMs,
}

/// What was spent towards one budget by hour, so that the ledger is asked for the last hours only.
struct Burned {
    budget: Budget,
    hours: BTreeMap<UnixMs, i64>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { tally: Tally::new(), burned: HashMap::new(), compared: 0, tidied: 0 }
    }

    /// Looks for ever.
    pub(super) async fn run(&mut self, alerts: &Alerts) {
        let mut slow = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            told("budgets", self.budgets(alerts).await);
            if slow.elapsed() >= SLOW {
                slow = Instant::now();
                self.slowly(alerts).await;
            }
        }
    }

    /// Everything but the thresholds.
    pub(super) async fn slowly(&mut self, alerts: &Alerts) {
        told("refusals", self.refusals(alerts).await);
        if alerts.settings.forecast {
            told("pace", self.pace(alerts).await);
        }
        if let Some(factor) = alerts.settings.anomaly {
            told("unusual hours", self.unusual(alerts, factor).await);
        }
        told("old alerts", self.tidy(alerts).await);
    }

    /// Shares of budgets that are crossed.
    pub(super) async fn budgets(&mut self, alerts: &Alerts) -> Result<(), StoreError> {
        for watched in alerts.source.tenants().iter().filter(|watched| !watched.spec.budgets.is_empty()) {
            let now = alerts.clock.now_ms();
            for standing in alerts.source.budgets(watched, now).await {
                let crossed = match standing.budget.period {
                    Period::Rolling(_) => crossed_window(alerts, &watched.tenant, &standing, now).await?,
                    _ => threshold::crossed(&standing),
                };
                for news in threshold::news(&watched.tenant, &standing, &crossed) {
                    alerts.raise(&news).await?;
                }
            }
        }
        Ok(())
    }

    async fn refusals(&mut self, alerts: &Alerts) -> Result<(), StoreError> {
        // Taken even if nobody wants to know, so that they do not pile up.
        let refused = alerts.metrics.alerts.take_refused();
        let Some(limit) = alerts.settings.rejections else { return Ok(()) };
        for over in self.tally.over(alerts.notes.as_ref(), refused, limit, alerts.clock.now_ms()).await? {
            alerts.raise(&rejection::news(&over, limit)).await?;
        }
        Ok(())
    }

    async fn pace(&mut self, alerts: &Alerts) -> Result<(), StoreError> {
        let tenants = alerts.source.tenants();
        let live: HashSet<(TenantId, String)> = tenants.iter().flat_map(names).collect();
        self.burned.retain(|name, _| live.contains(name));
        for watched in &tenants {
            let now = alerts.clock.now_ms();
            let ends = |budget: &Budget| !matches!(budget.period, Period::Rolling(_));
            if !watched.spec.budgets.iter().any(ends) {
                continue;
            }
            let mut standings = alerts.source.budgets(watched, now).await;
            standings.retain(|standing| ends(&standing.budget));
            self.burn(alerts, &watched.tenant, &standings, now).await?;
            for standing in &standings {
                let name = (watched.tenant.clone(), standing.budget.name.clone());
                let Some(burned) = self.burned.get(&name) else { continue };
                let Some(paces) = forecast::paces(standing, &burned.hours, now) else { continue };
                if let Some(ends) = forecast::ends_early(standing, &paces) {
                    alerts.raise(&forecast::news(&watched.tenant, standing, &paces, ends, now)).await?;
                }
            }
        }
        Ok(())
    }

    /// Brings the hours of these budgets up to date, with one question to the ledger.
    async fn burn(
        &mut self,
        alerts: &Alerts,
        tenant: &TenantId,
        standings: &[BudgetStanding],
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let first = now.saturating_sub(REACH) / HOUR * HOUR;
        let recent = now.saturating_sub(UNFINISHED) / HOUR * HOUR;
        let known = |budget: &Budget| {
            let burned = self.burned.get(&(tenant.clone(), budget.name.clone()));
            burned.is_some_and(|burned| burned.budget == *budget)
        };
        let since = if standings.iter().all(|standing| known(&standing.budget)) { recent } else { first };
        let spent = alerts.source.spend(Some(tenant), since, now, HOUR).await?;
        for standing in standings {
            let budget = &standing.budget;
            let fresh = || Burned { budget: budget.clone(), hours: BTreeMap::new() };
            let burned = self.burned.entry((tenant.clone(), budget.name.clone())).or_insert_with(fresh);
            if burned.budget != *budget {
                *burned = fresh();
            }
            burned.hours.retain(|slot, _| (first..since).contains(slot));
            for spend in spent.iter().filter(|spend| counts(budget, tenant, spend)) {
                let hour = burned.hours.entry(spend.slot).or_default();
                *hour = hour.saturating_add(spend.nano_usd);
            }
        }
        Ok(())
    }

    async fn unusual(&mut self, alerts: &Alerts, factor: f64) -> Result<(), StoreError> {
        let hour = (alerts.clock.now_ms().saturating_sub(SETTLED) / HOUR * HOUR).saturating_sub(HOUR);
        if hour <= self.compared {
            return Ok(());
        }
        let spent = by_tenant(&alerts.source.spend(None, hour, hour + HOUR, HOUR).await?);
        let floor = alerts.settings.anomaly_floor;
        let worth: Vec<_> = spent.iter().filter(|(_, spent)| spent.nano >= floor.0).collect();
        if !worth.is_empty() {
            let since = alerts.source.known_since().await?;
            let mut weeks = Vec::new();
            for week in 1..=anomaly::WEEKS {
                let then = hour.saturating_sub(week * anomaly::WEEK);
                weeks.push((then, by_tenant(&alerts.source.spend(None, then, then + HOUR, HOUR).await?)));
            }
            for (tenant, spent) in worth {
                let before = usual(tenant, since.get(tenant).copied(), &weeks);
                if let Some(usual) = anomaly::unusual(spent.nano, &before, factor, floor) {
                    alerts.raise(&anomaly::news(tenant, hour, NanoUsd(spent.nano), usual, before.len())).await?;
                }
            }
        }
        self.compared = hour;
        Ok(())
    }

    /// Forgets old alerts, and marks of windows that are no more; once an hour.
    async fn tidy(&mut self, alerts: &Alerts) -> Result<(), StoreError> {
        let now = alerts.clock.now_ms();
        let hour = now / HOUR * HOUR;
        if hour == self.tidied {
            return Ok(());
        }
        let keep = u64::try_from(alerts.settings.keep.as_millis()).unwrap_or(u64::MAX);
        while alerts.store.forget_alerts(now.saturating_sub(keep), FORGET_AT_ONCE).await? >= u64::from(FORGET_AT_ONCE) {
        }
        let live: HashSet<String> = alerts
            .source
            .tenants()
            .iter()
            .flat_map(names)
            .map(|(tenant, budget)| format!("{tenant}/{budget}"))
            .collect();
        for (name, _) in alerts.notes.notes_of(MARKS).await? {
            let of = name.strip_prefix(MARKS).and_then(|rest| rest.rsplit_once('/')).map(|(of, _)| of);
            if of.is_none_or(|of| !live.contains(of)) {
                alerts.notes.set_note(&name, None).await?;
            }
        }
        self.tidied = hour;
        Ok(())
    }
}

fn told(what: &'static str, looked: Result<(), StoreError>) {
    if let Err(error) = looked {
        tracing::warn!(%error, what, "could not look for alerts; looking again soon");
    }
}

/// A tenant's budgets by name.
fn names(watched: &Watched) -> Vec<(TenantId, String)> {
    watched.spec.budgets.iter().map(|budget| (watched.tenant.clone(), budget.name.clone())).collect()
}

/// The shares of a window that count as crossed, each with the moment of its crossing, on which the replicas agree by a mark
/// that only one of them can change.
async fn crossed_window(
    alerts: &Alerts,
    tenant: &TenantId,
    standing: &BudgetStanding,
    now: UnixMs,
) -> Result<Vec<(f64, UnixMs)>, StoreError> {
    let prefix = format!("{MARKS}{tenant}/{}/", standing.budget.name);
    let marks: HashMap<String, String> = alerts.notes.notes_of(&prefix).await?.into_iter().collect();
    let mut crossed = Vec::new();
    for share in &standing.budget.alert_at {
        let name = format!("{prefix}{}", percent(*share));
        let mark = marks.get(&name).map(String::as_str);
        let since = mark.and_then(|mark| mark.parse::<UnixMs>().ok());
        let level = threshold::level(standing.budget.usd, *share);
        let since = match (threshold::turn(since.is_some(), standing.spent, level), mark) {
            (Turn::Stay, _) => since,
            (Turn::Cross, None) => alerts.notes.note_once(&name, &now.to_string()).await?.parse().ok(),
            // Who loses sees the winner's mark the next time.
            (Turn::Cross, Some(old)) => alerts.notes.swap_note(&name, old, &now.to_string()).await?.then_some(now),
            (Turn::Rearm, old) => {
                alerts.notes.swap_note(&name, old.unwrap_or(ARMED), ARMED).await?;
                None
            }
        };
        crossed.extend(since.map(|since| (*share, since)));
    }
    Ok(crossed)
}

/// What a tenant spent in an hour.
#[derive(Clone, Copy, Debug, Default)]
struct Hour {
    nano: i64,
    requests: u64,
    unpriced: u64,
}

fn by_tenant(spent: &[Spend]) -> HashMap<TenantId, Hour> {
    let mut sums: HashMap<TenantId, Hour> = HashMap::new();
    for spend in spent {
        let Some(tenant) = &spend.tenant else { continue };
        let sum = sums.entry(tenant.clone()).or_default();
        sum.nano = sum.nano.saturating_add(spend.nano_usd);
        sum.requests += spend.requests;
        sum.unpriced += spend.unpriced;
    }
    sums
}

/// What the tenant spent in the same hour of the weeks before, as far as that is known: not before it was, and not when
/// nothing had a price.
fn usual(tenant: &TenantId, since: Option<UnixMs>, weeks: &[(UnixMs, HashMap<TenantId, Hour>)]) -> Vec<i64> {
    let known = |(then, spent): &(UnixMs, HashMap<TenantId, Hour>)| {
        let hour = spent.get(tenant).copied().unwrap_or_default();
        let priced = hour.requests == 0 || hour.unpriced < hour.requests;
        (since.is_some_and(|since| since <= *then) && priced).then_some(hour.nano)
    };
    weeks.iter().filter_map(known).collect()
}
