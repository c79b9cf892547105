//! What series there are: each is entered here as it is registered, so that the list cannot miss one. `docs/metrics.md` is
//! compared with it.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::metrics::MetricsError;

/// Units that a name may end in.
const UNITS: [&str; 4] = ["seconds", "bytes", "usd", "ratio"];

/// One family of series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Name, with the prefix.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// One sentence for people.
    pub help: String,
}

impl Series {
    /// Its unit; empty for what is counted in pieces.
    pub fn unit(&self) -> &'static str {
        unit(&self.name)
    }
}

/// The unit that a name ends in, before `_total`.
pub(super) fn unit(name: &str) -> &'static str {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    UNITS.into_iter().find(|unit| stem.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))).unwrap_or_default()
}

/// What type a collector has in the text that is scraped.
pub(super) trait Kind {
    /// The word for it.
    const KIND: &'static str;
}

macro_rules! kinds {
    ($($collector:ty => $kind:literal,)*) => { $(impl Kind for $collector { const KIND: &'static str = $kind; })* };
}

kinds! {
    IntCounter => "counter",
    IntCounterVec => "counter",
    Gauge => "gauge",
    GaugeVec => "gauge",
    IntGauge => "gauge",
    IntGaugeVec => "gauge",
    Histogram => "histogram",
    HistogramVec => "histogram",
}

/// Makes and registers series.
pub(super) struct Make<'r> {
    registry: &'r Registry,
    made: RefCell<Vec<Series>>,
}

impl<'r> Make<'r> {
    pub(super) fn new(registry: &'r Registry) -> Self {
        Self { registry, made: RefCell::default() }
    }

    /// All that was made, by name.
    pub(super) fn catalogue(self) -> Vec<Series> {
        let mut made = self.made.into_inner();
        made.sort();
        made
    }

    /// The series of the process: its memory, its CPU time, its open files.
    pub(super) fn process(&self) -> Result<(), MetricsError> {
        let process = ProcessCollector::for_self();
        for desc in process.desc() {
            self.enter(desc, if desc.fq_name.ends_with("_total") { "counter" } else { "gauge" });
        }
        self.registry.register(Box::new(process))?;
        Ok(())
    }

    pub(super) fn put<C: Collector + Kind + Clone + 'static>(
        &self,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, MetricsError> {
        let collector = made?;
        self.registry.register(Box::new(collector.clone()))?;
        for desc in collector.desc() {
            self.enter(desc, C::KIND);
        }
        Ok(collector)
    }

    fn enter(&self, desc: &prometheus::core::Desc, kind: &'static str) {
        self.made.borrow_mut().push(Series {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        });
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.put(IntCounter::new(full(name), help))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.put(IntCounterVec::new(Opts::new(full(name), help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.put(IntGauge::new(full(name), help))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.put(IntGaugeVec::new(Opts::new(full(name), help), labels))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricsError> {
        self.put(Histogram::with_opts(HistogramOpts::new(full(name), help).buckets(buckets.to_vec())))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, MetricsError> {
        self.put(HistogramVec::new(HistogramOpts::new(full(name), help).buckets(buckets.to_vec()), labels))
    }
}

/// The name as it is scraped.
pub(super) fn full(name: &str) -> String {
    format!("remora_{name}")
}
