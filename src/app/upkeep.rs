//! What runs on beside requests: indexes, learners, expiry, old decisions and changes, and the gauges that are read rather
//! than counted.
//!
//! It must never hold a request up: whatever takes long runs on a blocking thread, and a store that does not answer is
//! asked again the next time.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

use crate::cache::decide::{Interval, Z95};
use crate::cache::{self, Cache, Standing};
use crate::clock::Clock;
use crate::server::{Shutdown, Stats};
use crate::shared::Shared;
use crate::store::{ChangeStore, ShadowHandle, UsageStore, WriterHandle};
use crate::telemetry::learning::LearnerSample;
use crate::telemetry::metrics::Metrics;
use crate::tenant::Directory;

/// How often the indexes are looked after.
const UPKEEP: Duration = Duration::from_millis(250);
/// How often expired entries are removed and gauges are set.
const SWEEP: Duration = Duration::from_secs(10);
/// How often states that may change at once are set.
const WATCH: Duration = Duration::from_secs(1);
/// How long changes are kept for replicas that are cut off or down, milliseconds. One that was away for longer compares
/// everything.
const CHANGES_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Changes forgotten in one statement.
const CHANGES_AT_ONCE: u32 = 10_000;
/// Parts of the sums of the ledger that are brought together in one sweep.
const FOLDS: u32 = 50;
/// Sweeps between two measurements of recall.
const RECALL_EVERY: u64 = 6;

/// Keeps the indexes in shape and the learners taught on a blocking thread, a little after each change.
pub(super) async fn upkeep(cache: Arc<Cache>, shutdown: Shutdown) {
    let draining = shutdown.draining();
    tokio::pin!(draining);
    loop {
        tokio::select! {
            () = &mut draining => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
        let cache = Arc::clone(&cache);
        let work = move || {
            cache.maintain_index();
            cache.teach()
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%error, "index upkeep failed; searches go on over the old structure");
        }
    }
}

/// What several replicas on one store have in common.
pub(super) struct Replicas {
    pub(super) standing: Option<Arc<Standing>>,
    pub(super) changes: Option<Arc<dyn ChangeStore>>,
    pub(super) shared: Option<Shared>,
}

/// What is measured, and where it is read.
pub(super) struct Gauges {
    pub(super) cache: Arc<Cache>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) directory: Arc<Directory>,
    pub(super) writer: WriterHandle,
    pub(super) server: Arc<Stats>,
    pub(super) admin: Arc<Stats>,
    pub(super) rem: Option<Arc<Stats>>,
    /// Panics in request handlers that are in `panics_total` already.
    pub(super) server_panics: u64,
    pub(super) shadow: Option<ShadowHandle>,
    pub(super) replicas: Replicas,
    pub(super) usage: Arc<dyn UsageStore>,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

/// Removes what has expired and sets the gauges that are read rather than counted.
pub(super) async fn sweep(mut gauges: Gauges) {
    let draining = gauges.shutdown.draining();
    tokio::pin!(draining);
    let mut rounds = 0_u64;
    loop {
        let cache = Arc::clone(&gauges.cache);
        // Both visit every entry; that is work for a blocking thread.
        let swept = tokio::task::spawn_blocking(move || (cache.sweep(), cache.sizes())).await;
        if let Ok((expired, sizes)) = swept {
            if expired > 0 {
                tracing::debug!(expired, "expired entries removed");
            }
            gauges.set(&sizes);
        }
        // What waits for a store that is away must not keep the gauges from saying that it is.
        let chores = async {
            gauges.cache.sweep_store().await;
            gauges.cache.save_learners().await;
            gauges.cache.forget_decisions().await;
            gauges.replicas_upkeep(rounds).await;
            gauges.fold_usage().await;
            tokio::time::sleep(SWEEP).await;
        };
        tokio::select! {
            () = &mut draining => return,
            () = chores => {}
            () = gauges.watch() => {}
        }
        rounds += 1;
    }
}

impl Gauges {
    /// Forgets changes that every replica has seen long ago, and measures how well memory and store find the nearest.
    async fn replicas_upkeep(&self, rounds: u64) {
        let Some(changes) = &self.replicas.changes else { return };
        let before = self.clock.now_ms().saturating_sub(CHANGES_KEPT_MS);
        if let Err(error) = changes.forget_changes(before, CHANGES_AT_ONCE).await {
            tracing::debug!(%error, "old changes cannot be forgotten now");
        }
        if rounds.is_multiple_of(RECALL_EVERY)
            && let Some((memory, store)) = self.cache.measure_recall().await
        {
            self.metrics.replicas.recall.with_label_values(&["memory"]).set(memory);
            self.metrics.replicas.recall.with_label_values(&["store"]).set(store);
        }
    }

    /// Brings sums of the ledger together. What is left is for the next time, or for another replica.
    async fn fold_usage(&self) {
        for _ in 0..FOLDS {
            match self.usage.fold().await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => return tracing::debug!(%error, "sums of the ledger cannot be brought together now"),
            }
        }
    }

    /// Keeps saying how the store, the other replicas and Redis do. Never ends.
    async fn watch(&self) {
        loop {
            tokio::time::sleep(WATCH).await;
            self.set_states();
        }
    }

    fn set_states(&self) {
        self.set_writer();
        self.set_replicas();
    }

    fn set_writer(&self) {
        let metrics = &self.metrics;
        let writer = self.writer.stats();
        metrics.ledger_queue.set(signed(writer.ledger_depth));
        metrics.ledger_lag.set(writer.ledger_lag.as_secs_f64());
        raise(&metrics.ledger_rows, writer.rows_written);
        raise(&metrics.store_dropped.with_label_values(&["rows"]), writer.slots_refused + writer.rows_lost);
        raise(&metrics.store_dropped.with_label_values(&["entries"]), writer.entries_dropped);
        raise(&metrics.store_dropped.with_label_values(&["decisions"]), writer.decisions_dropped);
        metrics.ledger_spooled_rows.set(signed(writer.spooled_rows));
        metrics.ledger_spool_bytes.set(signed(writer.spool_bytes));
        for (kind, count) in writer.journal.faults() {
            raise(&metrics.journal_faults.with_label_values(&[kind]), count);
        }
        let store_up = !writer.store_away && writer.batch_lag < Duration::from_secs(5);
        metrics.dependency_up.with_label_values(&["store"]).set(i64::from(store_up));
        metrics.replicas.degraded.with_label_values(&["ledger"]).set(i64::from(writer.store_away));
    }

    fn set_replicas(&self) {
        let series = &self.metrics.replicas;
        let elsewhere = self.cache.elsewhere();
        self.metrics.index_entries.with_label_values(&["store"]).set(signed(elsewhere.points));
        series.partitions_elsewhere.set(signed(elsewhere.partitions as u64));
        if let Some(standing) = &self.replicas.standing {
            series.lag.set(standing.lag(self.clock.now_ms()).as_secs_f64());
            series.behind.set(signed(standing.behind()));
            raise(&series.changes, standing.obeyed());
            raise(&series.resyncs, standing.resyncs());
            series.degraded.with_label_values(&["replicas"]).set(i64::from(!standing.is_current()));
        }
        if let Some(shared) = &self.replicas.shared {
            let stats = shared.stats();
            self.metrics.dependency_up.with_label_values(&["redis"]).set(i64::from(stats.up));
            series.degraded.with_label_values(&["redis"]).set(i64::from(!stats.up));
            series.redis_queue.set(signed(stats.queued as u64));
            for (result, total) in [
                ("hit", stats.hits),
                ("miss", stats.misses),
                ("timeout", stats.timeouts),
                ("lost", stats.lost),
                ("refused", stats.refused),
                ("wrong_type", stats.wrong_type),
                ("corrupted", stats.corrupted),
                ("away", stats.away),
                ("busy", stats.busy),
                ("dropped", stats.dropped),
            ] {
                raise(&series.redis_results.with_label_values(&[result]), total);
            }
            for (result, total) in
                [("held", stats.leases_held), ("taken", stats.leases_taken), ("lost", stats.leases_lost)]
            {
                raise(&series.redis_leases.with_label_values(&[result]), total);
            }
        }
    }

    fn set(&mut self, sizes: &cache::Sizes) {
        let metrics = &self.metrics;
        let sample = |report: cache::LearnerReport| LearnerSample {
            tenant: report.tenant,
            stage: report.stage,
            checked: report.audits,
            wrong: report.wrong,
        };
        let samples: Vec<_> = self.cache.learner_reports().into_iter().map(sample).collect();
        metrics.learning.set(&samples, |wrong, checked| {
            let interval = Interval::wilson(wrong, checked, Z95);
            (interval.share, interval.low, interval.high)
        });
        metrics.cache_entries.with_label_values(&["all"]).set(signed(sizes.entries as u64));
        metrics.cache_entries.with_label_values(&["memory"]).set(signed(sizes.resident as u64));
        metrics.cache_bytes.with_label_values(&["all"]).set(signed(sizes.bytes));
        metrics.cache_bytes.with_label_values(&["memory"]).set(signed(sizes.resident_bytes));
        metrics.index_entries.with_label_values(&["flat"]).set(signed(sizes.index.flat as u64));
        metrics.index_entries.with_label_values(&["hnsw"]).set(signed(sizes.index.hnsw as u64));
        metrics.index_bytes.set(signed(sizes.index.bytes as u64));
        metrics.connections.set(signed(self.server.open()));
        metrics.embedding_queue.set(signed(self.cache.embedder().queue_depth() as u64));
        let tenants = self.directory.tenants();
        metrics.limits.limits(tenants.iter().map(|(tenant, known)| (tenant.as_str(), known.spec.limits)));
        if let Some(shadow) = &self.shadow {
            for (result, total) in shadow.stats().totals() {
                raise(&metrics.store_shadow.with_label_values(&[result]), total);
            }
        }
        self.set_states();
        let metrics = &self.metrics;
        let rem = self.rem.as_ref().map_or(0, |rem| rem.panics());
        let panics = self.server.panics() + self.admin.panics() + rem;
        metrics.panics.inc_by(panics.saturating_sub(self.server_panics));
        self.server_panics = panics;
        metrics.task_done("sweep", self.clock.now_ms());
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
