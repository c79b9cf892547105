//! The series about replicas: how far this one follows the others, what is searched in the store, and Redis.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::metrics::{Make, MetricsError, full};

/// See the module.
pub struct ReplicaSeries {
    /// Seconds since this replica last knew all that the others had changed.
    pub lag: Gauge,
    /// Changes known and not yet taken over.
    pub behind: IntGauge,
    /// Changes taken over.
    pub changes: IntCounter,
    /// Times that everything was compared.
    pub resyncs: IntCounter,
    /// Partitions that are searched in the store.
    pub partitions_elsewhere: IntGauge,
    /// Recall of the ten nearest by level, 0-1.
    pub recall: GaugeVec,
    /// 1 if a function works without what it depends on, by function.
    pub degraded: IntGaugeVec,
    /// Writes to Redis that wait.
    pub redis_queue: IntGauge,
    /// Operations on Redis by result.
    pub redis_results: IntCounterVec,
    /// Leases by result.
    pub redis_leases: IntCounterVec,
}

impl ReplicaSeries {
    pub(super) fn new(make: &Make<'_>) -> Result<Self, MetricsError> {
        let recall = Opts::new(
            full("index_recall"),
            "Share of the ten nearest prompts that a search finds, by where it searches; sampled each minute.",
        );
        Ok(Self {
            lag: make.put(Gauge::new(
                full("index_lag_seconds"),
                "Time since this replica last knew all that the others had changed, seconds.",
            ))?,
            behind: make.gauge("replica_changes_behind", "Changes of other replicas known and not yet taken over.")?,
            changes: make.counter("replica_changes_total", "Changes of other replicas taken over.")?,
            resyncs: make.counter("replica_resyncs_total", "Times that memory was compared with the whole store.")?,
            partitions_elsewhere: make.gauge("index_partitions_elsewhere", "Partitions searched in the store.")?,
            recall: make.put(GaugeVec::new(recall, &["level"]))?,
            degraded: make.gauges("degraded", "1 if a function works without what it depends on.", &["function"])?,
            redis_queue: make.gauge("redis_queue_depth", "Writes that wait for Redis.")?,
            redis_results: make.counters("redis_operations_total", "Operations on Redis by result.", &["result"])?,
            redis_leases: make.counters("redis_leases_total", "Leases on new prompts by result.", &["result"])?,
        })
    }
}
