//! The series about alerts, and the count of refused requests that alerts are made from.
//!
//! The count is here, below everything that refuses, and is taken over by whoever raises alerts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::metrics::{Make, MetricsError, OTHER};
use crate::ids::TenantId;

/// Most tenants whose refusals are counted between two takings.
const MOST_TENANTS: usize = 10_000;
/// Shares of budgets that get a label of their own, in percent.
const THRESHOLDS: [&str; 9] = ["50", "60", "70", "75", "80", "85", "90", "95", "100"];

/// Refused requests of one tenant by reason.
pub type Refusals = BTreeMap<&'static str, u64>;

/// See the module.
pub struct AlertSeries {
    tenants: HashSet<String>,
    budgets: IntCounterVec,
    raised: IntCounterVec,
    failures: IntCounterVec,
    /// `alert_outbox_depth`
    pub outbox_depth: IntGauge,
    /// `alert_deliveries_total`
    pub deliveries: IntCounter,
    refused: Mutex<HashMap<TenantId, Refusals>>,
}

impl AlertSeries {
    pub(super) fn new(make: &Make<'_>, tenants: HashSet<String>) -> Result<Self, MetricsError> {
        Ok(Self {
            tenants,
            budgets: make.counters(
                "budget_alerts_total",
                "Shares of budgets that were crossed, by percent; each once, by the replica that stored it.",
                &["tenant", "threshold"],
            )?,
            raised: make.counters("alerts_total", "Alerts raised by kind.", &["kind"])?,
            failures: make.counters(
                "alert_delivery_failures_total",
                "Tries to deliver an alert that failed.",
                &["channel"],
            )?,
            outbox_depth: make.gauge("alert_outbox_depth", "Deliveries of alerts that wait to be sent.")?,
            deliveries: make.counter("alert_deliveries_total", "Alerts delivered, each once for each channel.")?,
            refused: Mutex::new(HashMap::new()),
        })
    }

    /// Counts an alert.
    pub fn raised(&self, kind: &str) {
        self.raised.with_label_values(&[kind]).inc();
    }

    /// Counts a share of a budget that was crossed.
    pub fn budget(&self, tenant: &str, percent: &str) {
        let tenant = if self.tenants.contains(tenant) { tenant } else { OTHER };
        let threshold = if THRESHOLDS.contains(&percent) { percent } else { OTHER };
        self.budgets.with_label_values(&[tenant, threshold]).inc();
    }

    /// Counts a try that failed.
    pub fn delivery_failed(&self, channel: &str) {
        self.failures.with_label_values(&[channel]).inc();
    }

    /// Notes that a limit or a budget refused a request: `rpm`, `tpm`, `tpd`, `concurrency` or `budget`.
    pub fn refused(&self, tenant: &TenantId, why: &'static str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < MOST_TENANTS || refused.contains_key(tenant) {
            *refused.entry(tenant.clone()).or_default().entry(why).or_default() += 1;
        }
    }

    /// What was refused since this was last asked.
    pub fn take_refused(&self) -> HashMap<TenantId, Refusals> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
