//! The metric series, in one place: an owned registry, names and labels as users know them.
//!
//! `tenant` and `model` labels come from the configured sets, everything else is `other`; all other labels come from
//! closed enums. So the number of series is bounded whatever callers send.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::alerts::AlertSeries;
use super::learning::Learning;
use super::limits::LimitSeries;
use super::replicas::ReplicaSeries;
use super::tenants::TenantLabels;
use crate::store::LedgerRow;

pub(super) const OTHER: &str = "other";

/// Buckets for what this program adds to a request, seconds.
const FINE: [f64; 14] = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0, 5.0];
/// Buckets for whole requests, seconds.
const COARSE: [f64; 14] = [1e-3, 5e-3, 2.5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0];
/// Buckets of cosine, finer where decisions are made.
const COSINE: [f64; 14] = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.95, 0.97, 0.99, 1.0];

/// All series of one process.
pub struct Metrics {
    registry: Registry,
    /// Tenants with a label of their own.
    pub tenants: TenantLabels,
    models: HashSet<String>,
    requests: IntCounterVec,
    cache_requests: IntCounterVec,
    verdicts: IntCounterVec,
    similarity: HistogramVec,
    coalesced: IntCounter,
    embedding_seconds: Histogram,
    embedding_failures: IntCounterVec,
    search_seconds: HistogramVec,
    tokens: IntCounterVec,
    overhead: HistogramVec,
    seconds: HistogramVec,
    ttft: HistogramVec,
    upstream_requests: IntCounterVec,
    upstream_seconds: HistogramVec,
    cancelled_upstream: IntCounter,
    not_stored: IntCounterVec,
    /// Panics caught; must stay 0.
    pub panics: IntCounter,
    /// `cache_entries{tier}`
    pub cache_entries: IntGaugeVec,
    /// `cache_bytes{tier}`
    pub cache_bytes: IntGaugeVec,
    /// `index_entries{kind}`
    pub index_entries: IntGaugeVec,
    /// `index_bytes`
    pub index_bytes: IntGauge,
    /// Entries taken out to stay within the size caps.
    pub evictions: IntCounter,
    /// Rows and entries waiting to be written.
    pub ledger_queue: IntGauge,
    /// Age of the oldest ledger row of the batch at hand, seconds.
    pub ledger_lag: Gauge,
    /// Rows written.
    pub ledger_rows: IntCounter,
    /// Rows that are only in the journal.
    pub ledger_spooled_rows: IntGauge,
    /// Bytes of the journal's files with such rows.
    pub ledger_spool_bytes: IntGauge,
    /// `ledger_journal_faults_total{kind}`
    pub journal_faults: IntCounterVec,
    /// Rows and entries that found no place in the queue, by kind.
    pub store_dropped: IntCounterVec,
    /// Rows and reads of the shadow store by result.
    pub store_shadow: IntCounterVec,
    /// 1 if the dependency works.
    pub dependency_up: IntGaugeVec,
    /// Open client connections.
    pub connections: IntGauge,
    /// Prompts waiting for the embedder.
    pub embedding_queue: IntGauge,
    /// Unix time of the last success of a task.
    pub task_success: IntGaugeVec,
    /// How often the cache is wrong.
    pub learning: Learning,
    /// Rate limits and budgets.
    pub limits: LimitSeries,
    /// How this replica stands to the others.
    pub replicas: ReplicaSeries,
    /// Who was told of what.
    pub alerts: AlertSeries,
    in_flight: AtomicU64,
}

/// A series could not be registered: two have the same name.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

pub(super) struct Make<'r>(&'r Registry);

impl Make<'_> {
    pub(super) fn put<C: Collector + Clone + 'static>(
        &self,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, MetricsError> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
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

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, MetricsError> {
        self.put(HistogramVec::new(HistogramOpts::new(full(name), help).buckets(buckets.to_vec()), labels))
    }
}

pub(super) fn full(name: &str) -> String {
    format!("remora_{name}")
}

impl Metrics {
    /// Registers all series. `tenants` and `models` are the names that get labels of their own.
    ///
    /// # Errors
    /// Two series of the same name.
    pub fn new(
        tenants: impl IntoIterator<Item = String>,
        models: impl IntoIterator<Item = String>,
    ) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let make = Make(&registry);
        let build = make.gauges("build_info", "Always 1; the version is in the label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let named = TenantLabels::default();
        named.set(tenants);
        let tenants = named;
        let embedding = HistogramOpts::new(full("embedding_seconds"), "Time to get the vector of a prompt, seconds.");
        Ok(Self {
            requests: make.counters(
                "requests_total",
                "Requests by what became of them.",
                &["tenant", "model", "dialect", "outcome"],
            )?,
            cache_requests: make.counters(
                "cache_requests_total",
                "Cacheable requests by result, tier and reason.",
                &["tenant", "result", "tier", "reason"],
            )?,
            verdicts: make.counters(
                "cache_verdicts_total",
                "Decisions on semantic candidates.",
                &["verdict", "reason"],
            )?,
            similarity: make.histograms(
                "cache_similarity",
                "Cosine of the best semantic candidate by verdict.",
                &COSINE,
                &["verdict"],
            )?,
            coalesced: make.counter("coalesced_requests_total", "Requests that joined an equal one in flight.")?,
            embedding_seconds: make.put(Histogram::with_opts(embedding.buckets(FINE.to_vec())))?,
            embedding_failures: make.counters("embedding_failures_total", "Prompts without a vector.", &["reason"])?,
            search_seconds: make.histograms(
                "index_search_seconds",
                "Time of one nearest-neighbour search, seconds.",
                &[5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 2e-2],
                &["kind"],
            )?,
            tokens: make.counters(
                "tokens_total",
                "Tokens by kind; replayed ones were not billed.",
                &["tenant", "model", "type", "source"],
            )?,
            overhead: make.histograms(
                "overhead_seconds",
                "Time this program added to a request, seconds.",
                &FINE,
                &["outcome"],
            )?,
            seconds: make.histograms("request_seconds", "Time of a whole request, seconds.", &COARSE, &["outcome"])?,
            ttft: make.histograms(
                "ttft_seconds",
                "Time to the first byte of the answer's body, seconds.",
                &COARSE,
                &["outcome"],
            )?,
            upstream_requests: make.counters(
                "upstream_requests_total",
                "Requests to upstream by class of status; `error` if there was no answer.",
                &["upstream", "status_class"],
            )?,
            upstream_seconds: make.histograms(
                "upstream_seconds",
                "Time from sending a request upstream to the head of the answer, seconds.",
                &COARSE,
                &["upstream"],
            )?,
            cancelled_upstream: make
                .counter("upstream_cancelled_total", "Upstream requests given up because every client had left.")?,
            not_stored: make.counters("cache_not_stored_total", "Answers that were not stored.", &["reason"])?,
            panics: make.counter("panics_total", "Panics caught since the start; anything but 0 is a defect.")?,
            cache_entries: make.gauges("cache_entries", "Entries; `all` is what the store holds.", &["tier"])?,
            cache_bytes: make.gauges("cache_bytes", "Bytes of entries; `all` is what the store holds.", &["tier"])?,
            index_entries: make.gauges("index_entries", "Vectors in memory by kind of index.", &["kind"])?,
            index_bytes: make.gauge("index_bytes", "Memory of all indexes, bytes.")?,
            evictions: make.counter("cache_evictions_total", "Entries taken out to stay within the size caps.")?,
            ledger_queue: make.gauge("ledger_queue_depth", "Ledger rows that wait to be written.")?,
            ledger_lag: make
                .put(Gauge::new(full("ledger_lag_seconds"), "Age of the oldest ledger row not yet written."))?,
            ledger_rows: make.counter("ledger_rows_total", "Ledger rows written since the start.")?,
            ledger_spooled_rows: make
                .gauge("ledger_spooled_rows", "Ledger rows in the journal that wait until the store can be reached.")?,
            ledger_spool_bytes: make.gauge("ledger_spool_bytes", "Bytes of journal files with such rows.")?,
            journal_faults: make.counters(
                "ledger_journal_faults_total",
                "Faults of the ledger journal: rows not written to it, failed syncs, files torn or damaged.",
                &["kind"],
            )?,
            store_dropped: make.counters(
                "store_dropped_total",
                "Rows, entries and decisions for which the write queue had no room or patience ended, since the start.",
                &["kind"],
            )?,
            store_shadow: make.counters(
                "store_shadow_total",
                "Rows written to the shadow store, tries that failed, rows dropped, reads compared and different.",
                &["result"],
            )?,
            dependency_up: make.gauges("dependency_up", "1 if the dependency works.", &["name"])?,
            connections: make.gauge("connections", "Open client connections.")?,
            embedding_queue: make.gauge("embedding_queue_depth", "Prompts that wait for the embedder.")?,
            task_success: make.gauges("task_last_success_seconds", "Unix time of a task's last success.", &["task"])?,
            learning: Learning::new(&make, tenants.clone())?,
            limits: LimitSeries::new(&make, tenants.clone())?,
            replicas: ReplicaSeries::new(&make)?,
            alerts: AlertSeries::new(&make, tenants.clone())?,
            tenants,
            models: models.into_iter().collect(),
            in_flight: AtomicU64::new(0),
            registry,
        })
    }

    /// Text exposition format of all series.
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 << 10);
        // Encoding into memory fails only on a family without samples, which is then left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        out
    }

    /// Counts one finished request. `cacheable` tells whether it had to do with the cache at all.
    pub fn request(&self, row: &LedgerRow, cacheable: bool) {
        let tenant = self.tenant(row.tenant.as_ref().map(crate::ids::TenantId::as_str));
        let model = self.model(row.model_asked.as_deref());
        let outcome = row.outcome.as_ref();
        self.requests.with_label_values(&[tenant, model, &row.dialect, outcome]).inc();
        if cacheable {
            let (tier, reason) = (row.tier.as_deref().unwrap_or("none"), row.reason.as_deref().unwrap_or("none"));
            self.cache_requests.with_label_values(&[tenant, outcome, tier, reason]).inc();
        }
        if outcome == "coalesced" {
            self.coalesced.inc();
        }
        self.overhead.with_label_values(&[outcome]).observe(seconds(row.overhead_us));
        self.seconds.with_label_values(&[outcome]).observe(seconds(row.latency_us));
        if let Some(ttft) = row.ttft_us {
            self.ttft.with_label_values(&[outcome]).observe(seconds(ttft));
        }
        if let Some(source) = row.tokens_source.as_deref() {
            let t = row.tokens;
            let kinds = [
                ("input", t.input),
                ("cache_read", t.cache_read),
                ("cache_write", t.cache_write),
                ("output", t.output),
                ("reasoning", t.reasoning),
            ];
            for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
                self.tokens.with_label_values(&[tenant, model, kind, source]).inc_by(count);
            }
        }
    }

    /// Counts one decision of the semantic tier.
    pub fn verdict(&self, accepted: bool, reason: &str, cosine: Option<f32>) {
        let verdict = if accepted { "accept" } else { "reject" };
        self.verdicts.with_label_values(&[verdict, reason]).inc();
        if let Some(cosine) = cosine {
            self.similarity.with_label_values(&[verdict]).observe(f64::from(cosine));
        }
    }

    /// Counts one vector made, or the reason why not.
    pub fn embedding(&self, took: Duration, failure: Option<&str>) {
        match failure {
            None => self.embedding_seconds.observe(took.as_secs_f64()),
            Some(reason) => self.embedding_failures.with_label_values(&[reason]).inc(),
        }
    }

    /// Counts one search.
    pub fn search(&self, kind: &str, took: Duration) {
        self.search_seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    /// Counts one upstream call; `status` is `None` if there was no answer.
    pub fn upstream(&self, name: &str, status: Option<u16>, took: Duration) {
        let class = match status.map(|s| s / 100) {
            Some(1) => "1xx",
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(_) => "5xx",
            None => "error",
        };
        self.upstream_requests.with_label_values(&[name, class]).inc();
        self.upstream_seconds.with_label_values(&[name]).observe(took.as_secs_f64());
    }

    /// Counts an upstream call given up because nobody waited for it.
    pub fn upstream_cancelled(&self) {
        self.cancelled_upstream.inc();
    }

    /// Counts an answer that was not stored.
    pub fn not_stored(&self, reason: &str) {
        self.not_stored.with_label_values(&[reason]).inc();
    }

    /// Requests being served.
    pub fn in_flight(&self) -> &AtomicU64 {
        &self.in_flight
    }

    /// Requests being served now.
    pub fn in_flight_now(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn tenant<'a>(&'a self, name: Option<&'a str>) -> &'a str {
        name.filter(|n| self.tenants.contains(n)).unwrap_or(OTHER)
    }

    fn model<'a>(&'a self, name: Option<&'a str>) -> &'a str {
        name.filter(|n| self.models.contains(*n)).unwrap_or(OTHER)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration in microseconds is far below 2^53")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
