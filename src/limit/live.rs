//! Requests that hold something now, so that their holds can be renewed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use prometheus::IntGauge;

use super::book::lock;
use super::hold::Record;
use super::plan::Plan;
use crate::ids::RequestId;

/// See the module.
pub(super) struct Live {
    records: Mutex<HashMap<RequestId, Arc<Record>>>,
    gauge: IntGauge,
}

impl Live {
    pub(super) fn new(gauge: IntGauge) -> Self {
        Self { records: Mutex::default(), gauge }
    }

    pub(super) fn put(&self, record: &Arc<Record>) {
        if let Some(request) = record.plan.request
            && lock(&self.records).insert(request, Arc::clone(record)).is_none()
        {
            self.gauge.inc();
        }
    }

    pub(super) fn remove(&self, plan: &Plan) {
        if let Some(request) = plan.request
            && lock(&self.records).remove(&request).is_some()
        {
            self.gauge.dec();
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        lock(&self.records).values().cloned().collect()
    }
}
