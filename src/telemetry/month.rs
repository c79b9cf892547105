//! What this month has cost and saved so far, and what it will have cost, from the roll-ups of the ledger.
//!
//! Unlike counters, which begin anew with each process, these say the same on every replica: who puts replicas together takes the
//! greatest, never the sum. They are replaced as a whole, so that no scrape sees one half of an old month and one of a new,
//! and a tenant or key that is in the month no more has no series.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::catalogue::{Kind, Make, full};
use super::metrics::{MetricsError, OTHER};
use super::tenants::TenantLabels;

const NANO: f64 = 1e9;

/// Names, helps and labels, in the order of [`Month::families`].
const FAMILIES: [(&str, &str, &[&str]); 5] = [
    (
        "month_spend_usd",
        "Dollars paid in this month (UTC) so far, from the ledger: answers, checks, vectors.",
        &["tenant"],
    ),
    (
        "month_forecast_usd",
        "Dollars that this month (UTC) will have cost: what is paid so far, and the rest at the average of the last seven days.",
        &["tenant"],
    ),
    (
        "month_saved_usd",
        "Dollars not paid in this month (UTC) so far because the cache answered: gross, and net of vectors and checks.",
        &["tenant", "basis"],
    ),
    ("month_key_spend_usd", "Dollars paid in this month (UTC) so far by the dearest keys.", &["tenant", "key"]),
    ("savings_target_ratio", "Part of what answers would have cost without the cache that is to be saved, net.", &[]),
];

/// One tenant's month, nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantMonth {
    /// Paid so far.
    pub spend: i64,
    /// What it will have been.
    pub forecast: i64,
    /// Not paid because of the cache.
    pub saved_gross: i64,
    /// The same less vectors and checks.
    pub saved_net: i64,
}

/// The month as it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Month {
    /// By tenant.
    pub tenants: BTreeMap<String, TenantMonth>,
    /// What the dearest keys have spent, by tenant and the key's name within it.
    pub keys: BTreeMap<(String, String), i64>,
    /// The target.
    pub target: Option<f64>,
}

impl Month {
    /// Label values and values of each family.
    fn families(&self) -> [Vec<(Vec<&str>, f64)>; 5] {
        let of = |amount: fn(&TenantMonth) -> i64| -> Vec<(Vec<&str>, f64)> {
            self.tenants.iter().map(|(tenant, month)| (vec![tenant.as_str()], dollars(amount(month)))).collect()
        };
        let saved = self.tenants.iter().flat_map(|(tenant, month)| {
            [("gross", month.saved_gross), ("net", month.saved_net)]
                .map(|(basis, saved)| (vec![tenant.as_str(), basis], dollars(saved)))
        });
        [
            of(|month| month.spend),
            of(|month| month.forecast),
            saved.collect(),
            self.keys
                .iter()
                .map(|((tenant, key), spend)| (vec![tenant.as_str(), key.as_str()], dollars(*spend)))
                .collect(),
            self.target.into_iter().map(|target| (Vec::new(), target)).collect(),
        ]
    }
}

/// See the module.
#[derive(Clone)]
pub struct MonthSeries {
    tenants: TenantLabels,
    descs: Arc<Vec<Desc>>,
    month: Arc<ArcSwap<Month>>,
}

impl MonthSeries {
    pub(super) fn new(make: &Make<'_>, tenants: TenantLabels) -> Result<Self, MetricsError> {
        let desc = |(name, help, labels): (&str, &str, &[&str])| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(full(name), help.to_owned(), labels, std::collections::HashMap::new())
        };
        let descs = FAMILIES.into_iter().map(desc).collect::<Result<Vec<_>, _>>()?;
        make.put(Ok(Self { tenants, descs: Arc::new(descs), month: Arc::default() }))
    }

    /// Puts the month in the place of what was said before. Tenants without a label of their own, and their keys, are one.
    pub fn set(&self, month: &Month) {
        let mut labelled = Month { target: month.target, ..Month::default() };
        for (tenant, one) in &month.tenants {
            let sum = labelled.tenants.entry(self.tenant(tenant).to_owned()).or_default();
            sum.spend = sum.spend.saturating_add(one.spend);
            sum.forecast = sum.forecast.saturating_add(one.forecast);
            sum.saved_gross = sum.saved_gross.saturating_add(one.saved_gross);
            sum.saved_net = sum.saved_net.saturating_add(one.saved_net);
        }
        for ((tenant, key), spend) in &month.keys {
            let label = self.tenant(tenant);
            let key = if label == OTHER { OTHER } else { key };
            let sum = labelled.keys.entry((label.to_owned(), key.to_owned())).or_default();
            *sum = sum.saturating_add(*spend);
        }
        self.month.store(Arc::new(labelled));
    }

    fn tenant<'a>(&self, name: &'a str) -> &'a str {
        if self.tenants.contains(name) { name } else { OTHER }
    }
}

impl Kind for MonthSeries {
    const KIND: &'static str = "gauge";
}

impl Collector for MonthSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let month = self.month.load();
        let families = FAMILIES.into_iter().zip(month.families()).filter(|(_, series)| !series.is_empty());
        families
            .map(|((name, help, labels), series)| {
                let mut family = MetricFamily::default();
                family.set_name(full(name));
                family.set_help(help.to_owned());
                family.set_field_type(MetricType::GAUGE);
                family.set_metric(series.iter().map(|(values, value)| metric(labels, values, *value)).collect());
                family
            })
            .collect()
    }
}

fn metric(labels: &[&str], values: &[&str], value: f64) -> Metric {
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut pairs: Vec<LabelPair> = labels.iter().zip(values).map(pair).collect();
    pairs.sort();
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(pairs);
    metric.set_gauge(gauge);
    metric
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a double: the nearest one to the amount")]
fn dollars(nano: i64) -> f64 {
    nano as f64 / NANO
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    fn lines(metrics: &Metrics) -> Vec<String> {
        let text = String::from_utf8(metrics.render()).unwrap();
        let ours = |line: &&str| line.starts_with("remora_month_") || line.starts_with("remora_savings_target");
        text.lines().filter(ours).map(str::to_owned).collect()
    }

    #[test]
    fn a_new_month_takes_the_place_of_the_old_one_and_leaves_nothing_of_it() {
        let metrics = Metrics::new(["acme".to_owned()], []).unwrap();
        assert_eq!(lines(&metrics), Vec::<String>::new(), "nothing is said before it is known");
        let one =
            TenantMonth { spend: 1_500_000_000, forecast: 3_000_000_000, saved_gross: 2_000_000_000, saved_net: -1 };
        let two = TenantMonth { spend: 1, forecast: 2, saved_gross: 3, saved_net: 4 };
        let tenants = BTreeMap::from([("acme".to_owned(), one), ("p-1".to_owned(), two), ("p-2".to_owned(), two)]);
        let key = |tenant: &str, key: &str| (tenant.to_owned(), key.to_owned());
        let keys =
            BTreeMap::from([(key("acme", "app"), 1_000_000_000), (key("p-1", "p-1"), 5), (key("p-2", "p-2"), 6)]);
        metrics.month.set(&Month { tenants, keys, target: Some(0.3) });
        assert_eq!(
            lines(&metrics),
            [
                "remora_month_forecast_usd{tenant=\"acme\"} 3",
                "remora_month_forecast_usd{tenant=\"other\"} 0.000000004",
                "remora_month_key_spend_usd{key=\"app\",tenant=\"acme\"} 1",
                "remora_month_key_spend_usd{key=\"other\",tenant=\"other\"} 0.000000011",
                "remora_month_saved_usd{basis=\"gross\",tenant=\"acme\"} 2",
                "remora_month_saved_usd{basis=\"gross\",tenant=\"other\"} 0.000000006",
                "remora_month_saved_usd{basis=\"net\",tenant=\"acme\"} -0.000000001",
                "remora_month_saved_usd{basis=\"net\",tenant=\"other\"} 0.000000008",
                "remora_month_spend_usd{tenant=\"acme\"} 1.5",
                "remora_month_spend_usd{tenant=\"other\"} 0.000000002",
                "remora_savings_target_ratio 0.3",
            ]
        );
        metrics.month.set(&Month { target: Some(0.4), ..Month::default() });
        assert_eq!(lines(&metrics), ["remora_savings_target_ratio 0.4"]);
    }
}
