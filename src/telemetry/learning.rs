//! The series that say how often the cache is wrong, and what it does about it.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts};

use super::metrics::{Make, MetricsError, OTHER, full};
use super::tenants::TenantLabels;

/// See the module.
pub struct Learning {
    tenants: TenantLabels,
    ratio: GaugeVec,
    checked: IntCounterVec,
    stages: IntGaugeVec,
    turns: IntCounterVec,
    compared: IntCounterVec,
    /// `cache_labels_total{source,label}`
    pub labels: IntCounterVec,
    /// `cache_links_total{change}`
    pub links: IntCounterVec,
    /// `cache_feedback_total{verdict}`
    pub feedback: IntCounterVec,
    /// `cache_lessons_skipped_total`
    pub lessons_skipped: IntCounter,
    /// `cache_probe_alarms_total`
    pub probe_alarms: IntCounter,
}

/// One learner, as far as metrics go.
#[derive(Debug, Clone)]
pub struct LearnerSample {
    /// Whose traffic.
    pub tenant: String,
    /// Where it stands.
    pub stage: &'static str,
    /// Hits that were audited.
    pub checked: u64,
    /// Those that were wrong.
    pub wrong: u64,
}

impl Learning {
    pub(super) fn new(make: &Make<'_>, tenants: TenantLabels) -> Result<Self, MetricsError> {
        let help = "Audited semantic hits that were wrong, as a share of those audited; bound is the estimate or an end \
                    of its 95 % interval.";
        Ok(Self {
            tenants,
            ratio: make.put(GaugeVec::new(Opts::new(full("cache_false_hit_ratio"), help), &["tenant", "bound"]))?,
            checked: make.counters(
                "cache_checked_hits_total",
                "Semantic hits, served or only watched, that were compared with a fresh answer.",
                &["tenant", "result"],
            )?,
            stages: make.gauges(
                "cache_decision_stage",
                "Learners (one for each tenant and model) by how they serve.",
                &["tenant", "stage"],
            )?,
            turns: make.counters(
                "cache_stage_changes_total",
                "Times that the error budget changed how the semantic tier serves, by what it changed to.",
                &["tenant", "to"],
            )?,
            compared: make.counters(
                "cache_comparisons_total",
                "Candidates compared with a fresh answer, by what came of it.",
                &["result"],
            )?,
            labels: make.counters("cache_labels_total", "Labels learnt from.", &["source", "label"])?,
            links: make.counters("cache_links_total", "Changes of answer groups.", &["change"])?,
            feedback: make.counters("cache_feedback_total", "Feedback taken in.", &["verdict"])?,
            lessons_skipped: make
                .counter("cache_lessons_skipped_total", "Fresh answers not learnt from, for want of room.")?,
            probe_alarms: make.counter("cache_probe_alarms_total", "Keys found probing for thresholds.")?,
        })
    }

    /// Counts a comparison of a candidate's answer with a fresh one; `None`: it could not be told.
    pub fn compared(&self, right: Option<bool>) {
        let result = match right {
            Some(true) => "right",
            Some(false) => "wrong",
            None => "unsure",
        };
        self.compared.with_label_values(&[result]).inc();
    }

    /// Counts a hit that was checked.
    pub fn checked(&self, tenant: &str, right: bool) {
        self.checked.with_label_values(&[self.tenant(tenant), if right { "right" } else { "wrong" }]).inc();
    }

    /// Counts a change of stage.
    pub fn turn(&self, tenant: &str, to: &str) {
        self.turns.with_label_values(&[self.tenant(tenant), to]).inc();
    }

    /// Sets the gauges. `interval` gives estimate, lower and upper end for (wrong, checked).
    pub fn set(&self, learners: &[LearnerSample], interval: impl Fn(u64, u64) -> (f64, f64, f64)) {
        let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut stages: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for learner in learners {
            let tenant = self.tenant(&learner.tenant);
            let sum = sums.entry(tenant).or_default();
            sum.0 += learner.wrong;
            sum.1 += learner.checked;
            *stages.entry((tenant, learner.stage)).or_default() += 1;
        }
        self.stages.reset();
        for ((tenant, stage), count) in stages {
            self.stages.with_label_values(&[tenant, stage]).set(count);
        }
        for (tenant, (wrong, checked)) in sums {
            let (estimate, low, high) = interval(wrong, checked);
            for (bound, value) in [("estimate", estimate), ("low", low), ("high", high)] {
                self.ratio.with_label_values(&[tenant, bound]).set(value);
            }
        }
    }

    fn tenant<'a>(&'a self, name: &'a str) -> &'a str {
        if self.tenants.contains(name) { name } else { OTHER }
    }
}
