//! What corrections come to, the same in every database: which of them are made, and what a row says of its money now.

use std::collections::HashMap;

use super::rollup::{Caps, Delta, Deltas};
use super::{Correction, LedgerRow, Rated};
use crate::ids::RequestId;

/// A row with its corrections, oldest first.
pub(super) type Corrected = (LedgerRow, Vec<Correction>);

/// These rows, each with its corrections of `all`, in which those of one row are oldest first.
pub(super) fn corrected(rows: Vec<LedgerRow>, all: Vec<Correction>) -> Vec<Corrected> {
    let mut of: HashMap<RequestId, Vec<Correction>> = HashMap::new();
    for correction in all {
        of.entry(correction.request).or_default().push(correction);
    }
    let with = |row: LedgerRow| {
        let corrections = of.remove(&row.request).unwrap_or_default();
        (row, corrections)
    };
    rows.into_iter().map(with).collect()
}

/// Those of `asked` that are made, as they are made, of these rows: each follows the ones before it. What they change in sums is added
/// to `deltas`.
pub(super) fn made(rows: Vec<Corrected>, asked: &[Correction], deltas: &mut Deltas, caps: &Caps) -> Vec<Correction> {
    let mut known: HashMap<RequestId, Corrected> = rows.into_iter().map(|all| (all.0.request, all)).collect();
    let mut made = Vec::new();
    for correction in asked {
        let Some((row, earlier)) = known.get_mut(&correction.request) else { continue };
        let Some(correction) = correction.made(row, earlier) else { continue };
        deltas.add(row, &Delta::of_correction(row, &correction.before, &correction.after), caps);
        earlier.push(correction.clone());
        made.push(correction);
    }
    made
}

/// A row with what the ledger says of its money now.
pub(super) fn rated((row, mut corrections): Corrected) -> (LedgerRow, Rated) {
    match corrections.pop() {
        Some(last) => (row, last.after),
        None => {
            let rated = Rated::of(&row);
            (row, rated)
        }
    }
}
