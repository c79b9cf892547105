//! The metric series, in one place: an owned registry, names and labels as users know them.
//!
//! `tenant` and `model` labels come from the configured sets, everything else is `other`; all other labels come from
//! closed enums. So the number of series is bounded whatever callers send.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use super::alerts::AlertSeries;
pub use super::catalogue::Series;
pub(super) use super::catalogue::{Make, full};
use super::exemplars::{Exemplar, Exemplars};
use super::learning::Learning;
use super::limits::LimitSeries;
use super::money::MoneySeries;
use super::month::MonthSeries;
use super::openmetrics;
use super::rem::RemSeries;
use super::replicas::ReplicaSeries;
use super::replies::Replies;
use super::tenants::TenantLabels;
use super::trace::{TraceId, TraceSeries, Tracer};
use crate::store::{LedgerRow, Tokens};

pub(super) const OTHER: &str = "other";

/// Buckets for what this program adds to a request, seconds.
const FINE: [f64; 14] = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0, 5.0];
/// Buckets for whole requests, seconds.
const COARSE: [f64; 14] = [1e-3, 5e-3, 2.5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0];
/// Buckets of cosine, finer where decisions are made.
const COSINE: [f64; 14] = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.95, 0.97, 0.99, 1.0];

/// Buckets of the age of an answer, seconds: a minute to a month.
const AGES: [f64; 11] = [1.0, 10.0, 60.0, 600.0, 3.6e3, 2.16e4, 8.64e4, 2.592e5, 6.048e5, 1.2096e6, 2.592e6];
/// Calls in a row without an answer, or with a 5xx, after which an upstream counts as broken.
const BROKEN_AFTER: u32 = 5;

/// All series of one process.
pub struct Metrics {
    registry: Registry,
    catalogue: Vec<Series>,
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
    last_overhead: Exemplars,
    last_seconds: Exemplars,
    last_ttft: Exemplars,
    replies: Replies,
    ages: HistogramVec,
    upstream_breaker: IntGaugeVec,
    /// Failures in a row by upstream.
    upstream_failures: Mutex<BTreeMap<String, u32>>,
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
    task_success: IntGaugeVec,
    /// How often the cache is wrong.
    pub learning: Learning,
    /// Rate limits and budgets.
    pub limits: LimitSeries,
    /// What was paid and what was saved.
    pub money: MoneySeries,
    /// This month's money, from the ledger.
    pub month: MonthSeries,
    /// How this replica stands to the others.
    pub replicas: ReplicaSeries,
    /// Who was told of what.
    pub alerts: AlertSeries,
    /// The REM sidecar.
    pub rem: RemSeries,
    /// What became of spans.
    pub traces: TraceSeries,
    tracer: OnceLock<Tracer>,
    in_flight: AtomicU64,
}

/// A series could not be registered: two have the same name.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

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
        let make = Make::new(&registry);
        make.process()?;
        let build = make.gauges("build_info", "Always 1; the version is in the label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let named = TenantLabels::default();
        named.set(tenants);
        let tenants = named;
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
            embedding_seconds: make.histogram(
                "embedding_seconds",
                "Time to get the vector of a prompt, seconds.",
                &FINE,
            )?,
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
            last_overhead: Exemplars::new(&FINE),
            last_seconds: Exemplars::new(&COARSE),
            last_ttft: Exemplars::new(&COARSE),
            replies: Replies::new(&make)?,
            ages: make.histograms(
                "cache_age_seconds",
                "Age of answers when they were served from the cache, seconds.",
                &AGES,
                &["tier"],
            )?,
            upstream_breaker: make.gauges(
                "upstream_breaker",
                "1 after five calls in a row without an answer or with a 5xx, until one succeeds.",
                &["upstream"],
            )?,
            upstream_failures: Mutex::default(),
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
            ledger_lag: make.put(Gauge::new(
                full("ledger_lag_seconds"),
                "Age of the oldest ledger row not yet written, seconds.",
            ))?,
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
            money: MoneySeries::new(&make)?,
            month: MonthSeries::new(&make, tenants.clone())?,
            replicas: ReplicaSeries::new(&make)?,
            alerts: AlertSeries::new(&make, tenants.clone())?,
            rem: RemSeries::new(&make)?,
            traces: TraceSeries::new(&make)?,
            tracer: OnceLock::new(),
            catalogue: make.catalogue(),
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

    /// The same as OpenMetrics, with exemplars.
    pub fn render_openmetrics(&self) -> Vec<u8> {
        openmetrics::render(&self.registry.gather(), |family, outcome, bucket| {
            let exemplars = match family {
                "remora_overhead_seconds" => &self.last_overhead,
                "remora_request_seconds" => &self.last_seconds,
                "remora_ttft_seconds" => &self.last_ttft,
                _ => return None,
            };
            exemplars.last(outcome, bucket)
        })
    }

    /// All families, whether or not they have a sample yet, by name.
    pub fn catalogue(&self) -> &[Series] {
        &self.catalogue
    }

    /// Where spans go; none if they are not exported.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.get()
    }

    /// Sets where spans go, once.
    pub fn set_tracer(&self, tracer: Tracer) {
        // A second one would be a mistake of whoever starts the program; the first stays.
        let _ = self.tracer.set(tracer);
    }

    /// Counts one finished request. `cacheable` tells whether it had to do with the cache at all.
    pub fn request(&self, row: &LedgerRow, cacheable: bool) {
        self.request_of(row, cacheable, None);
    }

    /// The same for a request of which spans are exported.
    pub fn request_of(&self, row: &LedgerRow, cacheable: bool, trace: Option<TraceId>) {
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
        self.replies.count(row);
        let observe = |histogram: &HistogramVec, last: &Exemplars, micros: u64| {
            let value = seconds(micros);
            histogram.with_label_values(&[outcome]).observe(value);
            let at = row.started_at.saturating_add(row.latency_us / 1_000);
            last.keep(outcome, Exemplar { request: row.request, trace, value, at });
        };
        observe(&self.overhead, &self.last_overhead, row.overhead_us);
        observe(&self.seconds, &self.last_seconds, row.latency_us);
        if let Some(ttft) = row.ttft_us {
            observe(&self.ttft, &self.last_ttft, ttft);
        }
        self.money.count(tenant, model, row);
        if let Some(source) = row.tokens_source.as_deref() {
            for (kind, count) in Tokens::KINDS.into_iter().zip(row.tokens.counts()).filter(|(_, count)| *count > 0) {
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
        match failure {
            // Says nothing about the embedder, but about the text or the rush.
            Some("empty" | "queue_full" | "deadline") => {}
            other => self.dependency_up.with_label_values(&["embedding"]).set(i64::from(other.is_none())),
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
        let mut failures = self.upstream_failures.lock().unwrap_or_else(PoisonError::into_inner);
        let row = failures.entry(name.to_owned()).or_default();
        *row = if matches!(class, "5xx" | "error") { row.saturating_add(1) } else { 0 };
        self.upstream_breaker.with_label_values(&[name]).set(i64::from(*row >= BROKEN_AFTER));
    }

    /// A task has done its work; `now` in milliseconds.
    pub fn task_done(&self, task: &str, now: crate::clock::UnixMs) {
        self.task_success.with_label_values(&[task]).set(i64::try_from(now / 1_000).unwrap_or(i64::MAX));
    }

    /// An answer of this age is served from the cache.
    pub fn served(&self, tier: &str, age: Duration) {
        self.ages.with_label_values(&[tier]).observe(age.as_secs_f64());
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
