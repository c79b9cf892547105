//! The series about rate limits and budgets.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::metrics::{Make, MetricsError, OTHER, full};
use super::tenants::TenantLabels;
use crate::config::RateLimits;

/// See the module.
pub struct LimitSeries {
    tenants: TenantLabels,
    budgets: GaugeVec,
    drift: GaugeVec,
    limits: IntGaugeVec,
    budget_rejections: IntCounterVec,
    rejections: IntCounterVec,
    /// 1 while this replica keeps its share of the limits by itself, because Redis is away.
    pub degraded: IntGauge,
    /// Calls of Redis by what they are for.
    pub redis_calls: IntCounterVec,
    /// Requests that hold tokens, seats or money now.
    pub holds: IntGauge,
    /// Settlements that wait for Redis or PostgreSQL.
    pub unsettled: IntGauge,
    /// Settlements given up for want of room.
    pub dropped: IntCounter,
}

/// One budget, as far as metrics go, in dollars.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSample<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// Its name.
    pub budget: &'a str,
    /// `day`, `week`, `month` or a length.
    pub period: &'a str,
    /// How much there is.
    pub limit: f64,
    /// How much is spent.
    pub spent: f64,
    /// How much is held.
    pub reserved: f64,
    /// By how much the counter is above the ledger.
    pub drift: f64,
}

impl LimitSeries {
    pub(super) fn new(make: &Make<'_>, tenants: TenantLabels) -> Result<Self, MetricsError> {
        let labels = ["tenant", "budget", "period", "state"];
        let budgets = Opts::new(full("budget_usd"), "Budgets by state (limit, spent, reserved), dollars.");
        let drift = Opts::new(full("budget_drift_usd"), "By how much a budget's counter is above the ledger, dollars.");
        Ok(Self {
            tenants,
            budgets: make.put(GaugeVec::new(budgets, &labels))?,
            drift: make.put(GaugeVec::new(drift, &["tenant", "budget", "period"]))?,
            limits: make.gauges(
                "ratelimit_limit",
                "What tenants are held to: rpm and tpm a minute, tpd a day, concurrency at one time.",
                &["tenant", "limit"],
            )?,
            budget_rejections: make.counters(
                "budget_rejections_total",
                "Requests refused because a hard budget had no room.",
                &["tenant"],
            )?,
            rejections: make.counters(
                "ratelimit_rejections_total",
                "Requests refused because of a limit (rpm, tpm, tpd, concurrency).",
                &["tenant", "limit"],
            )?,
            degraded: make.gauge(
                "ratelimit_degraded",
                "1 while this replica keeps its share of the limits by itself, because Redis is away.",
            )?,
            redis_calls: make.counters("limit_redis_calls_total", "Calls of Redis for limits by kind.", &["kind"])?,
            holds: make.gauge("limit_holds", "Requests that hold tokens, seats or money.")?,
            unsettled: make.gauge("limit_unsettled", "Ended requests whose use waits to be counted.")?,
            dropped: make.counter("limit_unsettled_dropped_total", "Ended requests left to be found in the ledger.")?,
        })
    }

    /// Counts a refusal by a hard budget.
    pub fn refused_by_budget(&self, tenant: &str) {
        self.budget_rejections.with_label_values(&[self.tenant(tenant)]).inc();
    }

    /// Counts a refusal by a limit.
    pub fn refused_by_limit(&self, tenant: &str, limit: &str) {
        self.rejections.with_label_values(&[self.tenant(tenant), limit]).inc();
    }

    /// Sets the gauges of a budget. Those of tenants without a label of their own would overwrite each other: they have
    /// none, and are read in the admin API.
    pub fn budget(&self, sample: &BudgetSample<'_>) {
        let BudgetSample { tenant, budget, period, limit, spent, reserved, drift } = *sample;
        if !self.tenants.contains(tenant) {
            return;
        }
        for (state, amount) in [("limit", limit), ("spent", spent), ("reserved", reserved)] {
            self.budgets.with_label_values(&[tenant, budget, period, state]).set(amount);
        }
        self.drift.with_label_values(&[tenant, budget, period]).set(drift);
    }

    /// Sets what tenants are held to; a limit that is no more, or of a tenant that is, has no series. Tenants without a label of
    /// their own have none, as with budgets.
    pub fn limits<'a>(&self, tenants: impl IntoIterator<Item = (&'a str, RateLimits)>) {
        self.limits.reset();
        for (tenant, limits) in tenants {
            if !self.tenants.contains(tenant) {
                continue;
            }
            let RateLimits { rpm, tpm, tpd, concurrency } = limits;
            for (name, limit) in [("rpm", rpm), ("tpm", tpm), ("tpd", tpd), ("concurrency", concurrency)] {
                if let Some(limit) = limit {
                    self.limits.with_label_values(&[tenant, name]).set(i64::try_from(limit).unwrap_or(i64::MAX));
                }
            }
        }
    }

    fn tenant<'a>(&self, name: &'a str) -> &'a str {
        if self.tenants.contains(name) { name } else { OTHER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn a_limit_that_is_no_more_has_no_series() {
        let metrics = Metrics::new(["acme".to_owned(), "globex".to_owned()], []).unwrap();
        let shown = || {
            let text = String::from_utf8(metrics.render()).unwrap();
            text.lines()
                .filter(|line| line.starts_with("remora_ratelimit_limit{"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let rpm = RateLimits { rpm: Some(60), ..RateLimits::default() };
        let both = RateLimits { concurrency: Some(4), ..rpm };
        metrics.limits.limits([("acme", both), ("globex", rpm), ("nobody", rpm)]);
        assert_eq!(
            shown(),
            [
                r#"remora_ratelimit_limit{limit="concurrency",tenant="acme"} 4"#,
                r#"remora_ratelimit_limit{limit="rpm",tenant="acme"} 60"#,
                r#"remora_ratelimit_limit{limit="rpm",tenant="globex"} 60"#,
            ]
        );
        metrics.limits.limits([("acme", rpm)]);
        assert_eq!(shown(), [r#"remora_ratelimit_limit{limit="rpm",tenant="acme"} 60"#]);
    }
}
