//! The series about the REM sidecar.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use super::catalogue::Make;
use super::metrics::MetricsError;

/// Buckets of the time of a query, seconds.
const BUCKETS: [f64; 14] = [5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

/// See the module.
pub struct RemSeries {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl RemSeries {
    pub(super) fn new(make: &Make<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            requests: make.counters(
                "rem_requests_total",
                "Requests to the REM sidecar by type and by what became of them.",
                &["type", "status"],
            )?,
            seconds: make.histograms(
                "rem_seconds",
                "Time of a request to the REM sidecar, seconds.",
                &BUCKETS,
                &["type"],
            )?,
        })
    }

    /// Counts one request. Both labels come from lists in the code.
    pub fn count(&self, kind: &'static str, status: &'static str, took: Duration) {
        self.requests.with_label_values(&[kind, status]).inc();
        self.seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }
}
