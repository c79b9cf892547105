//! `Flat`: every vector is compared with the query. Exact, small, and the oracle the graph is tested against.
//!
//! Ranking uses the coarse int8 plane, which lies in one piece of memory and is read from end to end; the best few are
//! ranked again by their cosine. Removal is at once (the last row takes the place of the removed one), so a `Flat` has no
//! tombstones. Order of rows carries no meaning: results are sorted by cosine, then by id.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::mem::size_of;

use super::quantise::{Row, cosine};
use super::{Neighbour, best, candidates_for, map_bytes, simd};
use crate::ids::PointId;

/// All vectors of a small partition, or those of a large one that are not yet in its graph. Empty, it owns no memory.
#[derive(Debug)]
pub struct Flat {
    dim: usize,
    ids: Vec<PointId>,
    scales: Vec<f32>,
    coarse: Vec<i8>,
    fine: Vec<i8>,
    slots: HashMap<PointId, usize>,
}

/// A row and its approximate cosine.
#[derive(Clone, Copy)]
struct Candidate {
    score: f32,
    id: PointId,
    slot: usize,
}

impl Candidate {
    fn better_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

impl Flat {
    /// An empty index of vectors of `dim` components.
    pub(super) fn new(dim: usize) -> Self {
        Self { dim, ids: Vec::new(), scales: Vec::new(), coarse: Vec::new(), fine: Vec::new(), slots: HashMap::new() }
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Ids in no meaningful order.
    pub(super) fn ids(&self) -> &[PointId] {
        &self.ids
    }

    /// Adds a point or replaces its vector.
    pub(super) fn insert(&mut self, id: PointId, row: &Row) {
        self.remove(id);
        self.grow();
        self.slots.insert(id, self.ids.len());
        self.ids.push(id);
        self.scales.push(row.scale);
        self.coarse.extend_from_slice(&row.coarse);
        self.fine.extend_from_slice(&row.fine);
    }

    /// Removes a point; false if it was not there.
    pub(super) fn remove(&mut self, id: PointId) -> bool {
        let Some(hole) = self.slots.remove(&id) else { return false };
        self.ids.swap_remove(hole);
        self.scales.swap_remove(hole);
        fill_with_last(&mut self.coarse, hole, self.dim);
        fill_with_last(&mut self.fine, hole, self.dim);
        if let Some(moved) = self.ids.get(hole) {
            self.slots.insert(*moved, hole);
        }
        self.shrink();
        true
    }

    /// The stored vector of a point.
    pub(super) fn row(&self, id: PointId) -> Option<Row> {
        let slot = *self.slots.get(&id)?;
        let (scale, coarse, fine) = self.planes(slot)?;
        Some(Row { scale, coarse: coarse.to_vec(), fine: fine.to_vec() })
    }

    /// The `k` best by cosine, ties by id.
    pub(super) fn search(&self, query: &Row, k: usize) -> Vec<Neighbour> {
        let k = k.min(self.len());
        let found = self.shortlist(query, candidates_for(k)).into_iter().filter_map(|candidate| {
            let (scale, coarse, fine) = self.planes(candidate.slot)?;
            Some(Neighbour { id: candidate.id, cosine: cosine(query, scale, coarse, fine) })
        });
        best(found.collect(), k)
    }

    /// Every point whose cosine is at least `least`, in no order.
    pub(super) fn within(&self, query: &Row, least: f32) -> Vec<Neighbour> {
        let row = |(slot, id): (usize, &PointId)| {
            let (scale, coarse, fine) = self.planes(slot)?;
            let cosine = cosine(query, scale, coarse, fine);
            (cosine >= least).then_some(Neighbour { id: *id, cosine })
        };
        self.ids.iter().enumerate().filter_map(row).collect()
    }

    /// The `want` best by the coarse plane. Kept in a buffer of twice that size, cut back whenever it is full: one
    /// comparison a row, and no heap to keep in order.
    fn shortlist(&self, query: &Row, want: usize) -> Vec<Candidate> {
        let mut kept: Vec<Candidate> = Vec::with_capacity((2 * want).min(self.len()));
        let mut bar = f32::NEG_INFINITY;
        let mut scales = self.scales.iter().enumerate();
        simd::dot_each(&query.coarse, &self.coarse, |product| {
            let Some((slot, scale)) = scales.next() else { return };
            // The query's own scale is the same for all and changes no order.
            let score = product as f32 * scale;
            if score >= bar
                && let Some(id) = self.ids.get(slot)
            {
                kept.push(Candidate { score, id: *id, slot });
                if kept.len() == 2 * want {
                    bar = cut(&mut kept, want);
                }
            }
        });
        cut(&mut kept, want);
        kept
    }

    fn planes(&self, slot: usize) -> Option<(f32, &[i8], &[i8])> {
        let range = slot * self.dim..(slot + 1) * self.dim;
        Some((*self.scales.get(slot)?, self.coarse.get(range.clone())?, self.fine.get(range)?))
    }

    /// Bytes owned, by the capacities of what holds them.
    pub(super) fn memory_bytes(&self) -> usize {
        self.ids.capacity() * size_of::<PointId>()
            + self.scales.capacity() * size_of::<f32>()
            + self.coarse.capacity()
            + self.fine.capacity()
            + map_bytes::<PointId, usize>(self.slots.capacity())
    }

    /// Makes room by a quarter, not by doubling: a process may hold very many of these.
    fn grow(&mut self) {
        if self.ids.len() < self.ids.capacity() {
            return;
        }
        let more = (self.ids.len() / 4).max(1);
        self.ids.reserve_exact(more);
        self.scales.reserve_exact(more);
        self.coarse.reserve_exact(more * self.dim);
        self.fine.reserve_exact(more * self.dim);
    }

    /// Gives memory back once three quarters of it lie idle, as after a fold or a purge.
    fn shrink(&mut self) {
        if self.ids.len() * 4 > self.ids.capacity() {
            return;
        }
        let keep = self.ids.len() * 2;
        self.ids.shrink_to(keep);
        self.scales.shrink_to(keep);
        self.coarse.shrink_to(keep * self.dim);
        self.fine.shrink_to(keep * self.dim);
        self.slots.shrink_to(keep);
    }
}

/// Leaves the `want` best; returns the score of the worst of them.
fn cut(kept: &mut Vec<Candidate>, want: usize) -> f32 {
    let Some(last) = want.checked_sub(1).filter(|last| *last < kept.len()) else { return f32::NEG_INFINITY };
    let (_, worst, _) = kept.select_nth_unstable_by(last, Candidate::better_first);
    let bar = worst.score;
    kept.truncate(want);
    bar
}

/// `swap_remove` for a plane of rows of `dim` bytes.
fn fill_with_last(plane: &mut Vec<i8>, hole: usize, dim: usize) {
    let Some(last) = plane.len().checked_sub(dim) else { return };
    plane.copy_within(last.., hole * dim);
    plane.truncate(last);
}
