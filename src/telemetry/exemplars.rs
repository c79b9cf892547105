//! Which request was the last in a bucket of a histogram: the way from a slow spot in a chart to the row in the ledger and to
//! the trace.
//!
//! One cell for each outcome and bucket, so memory is bounded. A cell that is being read or written is passed over: who serves a
//! request never waits for it.

use std::sync::Mutex;

use crate::clock::UnixMs;
use crate::ids::RequestId;

/// Values of the label `outcome`, which these histograms have and no other.
pub const OUTCOMES: [&str; 10] =
    ["hit", "miss", "bypass", "refresh", "coalesced", "refused", "failed", "cancelled", "shadow", "audit"];

/// One observation with the request that made it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub(super) request: RequestId,
    /// Id of the trace, if one was exported.
    pub(super) trace: Option<[u8; 16]>,
    pub(super) value: f64,
    pub(super) at: UnixMs,
}

/// The exemplars of one histogram.
pub(super) struct Exemplars {
    bounds: &'static [f64],
    cells: Vec<Mutex<Option<Exemplar>>>,
}

impl Exemplars {
    /// For a histogram with these upper bounds; the bucket above them is one more.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let cells = (0..OUTCOMES.len() * (bounds.len() + 1)).map(|_| Mutex::new(None)).collect();
        Self { bounds, cells }
    }

    pub(super) fn keep(&self, outcome: &str, exemplar: Exemplar) {
        let bucket = self.bounds.iter().position(|bound| exemplar.value <= *bound).unwrap_or(self.bounds.len());
        if let Some(mut cell) = self.cell(outcome, bucket).and_then(|cell| cell.try_lock().ok()) {
            *cell = Some(exemplar);
        }
    }

    /// The last of a bucket, counted from the lowest.
    pub(super) fn last(&self, outcome: &str, bucket: usize) -> Option<Exemplar> {
        self.cell(outcome, bucket)?.try_lock().ok().and_then(|cell| *cell)
    }

    fn cell(&self, outcome: &str, bucket: usize) -> Option<&Mutex<Option<Exemplar>>> {
        let row = OUTCOMES.iter().position(|known| *known == outcome)?;
        self.cells.get(row * (self.bounds.len() + 1) + bucket)
    }
}
