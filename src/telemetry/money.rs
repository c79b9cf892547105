//! Money as metrics: counted in whole nano-dollars, so that they say exactly what the ledger says, and turned into dollars when they
//! are read.
//!
//! What is saved net falls with every vector and check that is paid for, which a counter must not. So its series shows the highest
//! sum there was; exactly it is gross less the costs of kind `embedding` and `check`, which are counters themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntCounterVec, Opts};

use super::catalogue::{Kind, Make, full};
use super::metrics::MetricsError;
use crate::store::LedgerRow;

const NANO: f64 = 1e9;

/// Dollars by tenant, model and one more label.
#[derive(Clone)]
struct Dollars(Arc<Inner>);

struct Inner {
    desc: Desc,
    labels: [&'static str; 3],
    sums: Mutex<HashMap<[String; 3], Sum>>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    now: i128,
    highest: i128,
}

impl Dollars {
    fn new(name: &str, help: &str, labels: [&'static str; 3]) -> Result<Self, prometheus::Error> {
        let desc = Desc::new(
            full(name),
            help.to_owned(),
            labels.map(str::to_owned).to_vec(),
            std::collections::HashMap::new(),
        )?;
        Ok(Self(Arc::new(Inner { desc, labels, sums: Mutex::default() })))
    }

    fn add(&self, values: [&str; 3], nano_usd: i64) {
        let mut sums = self.0.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = sums.entry(values.map(str::to_owned)).or_default();
        sum.now += i128::from(nano_usd);
        sum.highest = sum.highest.max(sum.now);
    }

    fn total(&self, kind: &str) -> i128 {
        let sums = self.0.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.iter().filter(|([_, _, of], _)| of == kind).map(|(_, sum)| sum.now).sum()
    }
}

impl Kind for Dollars {
    const KIND: &'static str = "counter";
}

impl Collector for Dollars {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(MetricType::COUNTER);
        let sums = self.0.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mut series: Vec<Metric> = sums.iter().map(|(values, sum)| metric(&self.0.labels, values, *sum)).collect();
        series.sort_by(|one, other| one.get_label().cmp(other.get_label()));
        family.set_metric(series);
        vec![family]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a double: the nearest one to the sum")]
fn metric(labels: &[&str; 3], values: &[String; 3], sum: Sum) -> Metric {
    let mut pairs: Vec<LabelPair> = labels
        .iter()
        .zip(values)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        })
        .collect();
    pairs.sort();
    let mut counter = Counter::default();
    counter.set_value(sum.highest as f64 / NANO);
    let mut metric = Metric::from_label(pairs);
    metric.set_counter(counter);
    metric
}

/// See the module.
pub struct MoneySeries {
    cost: Dollars,
    saved: Dollars,
    unpriced: IntCounterVec,
}

impl MoneySeries {
    pub(super) fn new(make: &Make<'_>) -> Result<Self, MetricsError> {
        let unpriced = Opts::new(
            full("unpriced_requests_total"),
            "Requests that an upstream billed and whose model has no price; their cost is not known.",
        );
        Ok(Self {
            cost: make.put(Dollars::new(
                "cost_usd_total",
                "Dollars paid to providers: for answers, for vectors of prompts, for checks of hits.",
                ["tenant", "model", "kind"],
            ))?,
            saved: make.put(Dollars::new(
                "saved_usd_total",
                "Dollars not paid because the cache answered: gross, and net of what vectors and checks cost.",
                ["tenant", "model", "basis"],
            ))?,
            unpriced: make.put(IntCounterVec::new(unpriced, &["model"]))?,
        })
    }

    /// Counts the money of a row.
    pub(super) fn count(&self, tenant: &str, model: &str, row: &LedgerRow) {
        let kind = if row.is_check() { "check" } else { "completion" };
        for (kind, cost) in [(kind, row.cost_nano_usd), ("embedding", row.embedding_nano_usd)] {
            if let Some(cost) = cost.filter(|cost| *cost != 0) {
                self.cost.add([tenant, model, kind], cost);
            }
        }
        for (basis, saved) in [("gross", row.saved_gross_nano_usd), ("net", row.saved_nano_usd)] {
            if let Some(saved) = saved.filter(|saved| *saved != 0) {
                self.saved.add([tenant, model, basis], saved);
            }
        }
        if row.is_unpriced() {
            self.unpriced.with_label_values(&[model]).inc();
        }
    }

    /// What was counted so far as a kind of cost (`completion`, `embedding`, `check`), nano-dollars.
    pub fn cost(&self, kind: &str) -> i128 {
        self.cost.total(kind)
    }

    /// What was counted so far as saved on a basis (`gross`, `net`), nano-dollars.
    pub fn saved(&self, basis: &str) -> i128 {
        self.saved.total(basis)
    }
}
