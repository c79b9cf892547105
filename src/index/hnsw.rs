//! `Hnsw`: a proximity graph (Malkov and Yashunin 2016, as built by `hnsw_rs`) over the same quantised rows as `Flat`.
//!
//! Approximate: it visits a few hundred vectors instead of all. The graph's own copy of a vector is its whole [`Row`], so
//! the few it finds are ranked again by their cosine without a second store.
//!
//! Searches, one insertion and removals may run at the same time. There must be **one inserter at a time**: `hnsw_rs`
//! locks a pair of nodes in an order that two inserters could take crosswise. [`super::Partition`] sees to it.
//!
//! A graph cannot forget a vector. A point is *live* if the table of ids leads to its slot; a slot that nothing leads
//! to is a tombstone (removed), or not yet published. Tombstones are walked through but never returned.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::{Hnsw as Graph, Point};

use super::quantise::{Row, coarse_cosine, cosine};
use super::{Neighbour, best, map_bytes};
use crate::ids::PointId;

/// Links of a node on the upper layers; twice as many on the lowest.
const LINKS: usize = 16;
/// Candidates looked at for the links of a new node. With 200 building takes twice as long and recall@10 is the same.
const EF_BUILD: usize = 100;
/// Candidates a search keeps, unless it needs more. Recall@10 at 10,000 points: clustered prompts 1.0 with 20, 32 and 48;
/// vectors without any clusters 0.85, 0.93 and 0.97, at 1.0 : 1.6 : 2.4 of the time. What a cache looks for is the former.
const EF_SEARCH: usize = 32;
/// Layers at most. A layer holds a sixteenth of the one below, so this is never reached.
const LAYERS: usize = 16;
/// Candidates a search keeps at the very most, when tombstones push the live ones back.
const EF_LIMIT: usize = 2_048;
/// Bytes `hnsw_rs` needs for a node besides the vector: measured as growth of the process. Between 2,250
/// (clustered prompts) and 2,800 (no clusters, so more links).
const NODE_BYTES: usize = 2_600;
/// Bytes of the scale in front of a packed row.
const SCALE_BYTES: usize = size_of::<f32>();

/// A graph of many vectors.
pub struct Hnsw {
    dim: usize,
    graph: Graph<'static, i8, RowDistance>,
    slots: RwLock<Slots>,
}

/// Which node of the graph is which point.
#[derive(Default)]
struct Slots {
    ids: Vec<PointId>,
    by_id: HashMap<PointId, usize>,
    /// Ids removed since the last [`Hnsw::take_removed`]; kept only while a rebuild is under way.
    removed: Option<Vec<PointId>>,
}

impl Slots {
    fn live(&self, slot: usize) -> Option<PointId> {
        let id = self.ids.get(slot)?;
        (self.by_id.get(id) == Some(&slot)).then_some(*id)
    }
}

/// A node of a graph that is being copied.
#[derive(Debug)]
pub(super) struct Node(Arc<Point<'static, i8>>);

impl Hnsw {
    /// An empty graph with room for about `expected` nodes.
    pub(super) fn new(dim: usize, expected: usize) -> Self {
        Self {
            dim,
            graph: Graph::new(LINKS, expected, LAYERS, EF_BUILD, RowDistance { dim }),
            slots: RwLock::default(),
        }
    }

    /// Puts a vector into the graph without showing it yet; returns its slot. Takes about a millisecond.
    pub(super) fn add(&self, id: PointId, row: &Row) -> usize {
        let slot = {
            let mut slots = self.write();
            slots.ids.push(id);
            slots.ids.len() - 1
        };
        self.graph.insert((&pack(row), slot));
        slot
    }

    /// From now on searches return the point of this slot.
    pub(super) fn publish(&self, id: PointId, slot: usize) {
        self.write().by_id.insert(id, slot);
    }

    /// Turns a point into a tombstone; false if it was not there.
    pub(super) fn remove(&self, id: PointId) -> bool {
        let mut slots = self.write();
        let was_live = slots.by_id.remove(&id).is_some();
        if was_live && let Some(removed) = &mut slots.removed {
            removed.push(id);
        }
        was_live
    }

    /// Components of a vector.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Points that can be found.
    pub(super) fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Slots that nothing leads to.
    pub(super) fn tombstones(&self) -> usize {
        let slots = self.read();
        slots.ids.len() - slots.by_id.len()
    }

    /// About the `k` best by cosine, ties by id. Asks the graph for more, and again for still more, as long as tombstones
    /// leave it short of `k`.
    pub(super) fn search(&self, query: &Row, k: usize) -> Vec<Neighbour> {
        let nodes = self.read().ids.len();
        let k = k.min(nodes);
        if k == 0 {
            return Vec::new();
        }
        let packed = pack(query);
        // The coarse plane, by which the graph is walked, may swap close neighbours: find more than `k`, then rank them.
        let mut want = k.saturating_mul(2).max(EF_SEARCH);
        loop {
            let nearest = self.graph.search(&packed, want, want);
            let slots = self.read();
            let live: Vec<_> = nearest.iter().filter_map(|node| Some((slots.live(node.d_id)?, node.p_id))).collect();
            drop(slots);
            if live.len() >= k || want >= nodes || want >= EF_LIMIT {
                let ranked = live.into_iter().filter_map(|(id, place)| {
                    let node = self.graph.get_point_indexation().get_point_data(&place)?;
                    let (scale, coarse, fine) = unpack(&node, self.dim)?;
                    Some(Neighbour { id, cosine: cosine(query, scale, coarse, fine) })
                });
                return best(ranked.collect(), k);
            }
            want = (want * 4).min(EF_LIMIT);
        }
    }

    /// Every live point whose cosine is at least `least`, in no order. Compares all vectors instead of walking the graph,
    /// which would miss some.
    pub(super) fn within(&self, query: &Row, least: f32) -> Vec<Neighbour> {
        let near = |node: &Node| {
            let (scale, coarse, fine) = unpack(node.0.get_v(), self.dim)?;
            let cosine = cosine(query, scale, coarse, fine);
            if cosine < least {
                return None;
            }
            let id = self.read().live(node.0.get_origin_id())?;
            Some(Neighbour { id, cosine })
        };
        self.nodes().iter().filter_map(near).collect()
    }

    /// Begins to note removals and returns every node, in the order of insertion, for [`Self::copy_live`].
    pub(super) fn begin_copy(&self) -> Vec<Node> {
        self.write().removed = Some(Vec::new());
        let mut nodes = self.nodes();
        nodes.sort_unstable_by_key(|node| node.0.get_origin_id());
        nodes
    }

    /// Every node, tombstones included. Collected at once, because the graph takes no new node while it is walked.
    fn nodes(&self) -> Vec<Node> {
        let points = self.graph.get_point_indexation();
        (0..LAYERS).flat_map(|layer| points.get_layer_iterator(layer)).map(Node).collect()
    }

    /// Copies a node of `source` into this graph, if its point is still live there.
    pub(super) fn copy_live(&self, source: &Self, node: &Node) {
        let Some(id) = source.read().live(node.0.get_origin_id()) else { return };
        let Some((scale, coarse, fine)) = unpack(node.0.get_v(), self.dim) else { return };
        let row = Row { scale, coarse: coarse.to_vec(), fine: fine.to_vec() };
        let slot = self.add(id, &row);
        self.publish(id, slot);
    }

    /// Ids removed since [`Self::begin_copy`] or since the last call; empty if no copy was begun.
    pub(super) fn take_removed(&self) -> Vec<PointId> {
        self.write().removed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Bytes owned: the tables by their capacities, the graph by a measured figure for a node.
    pub(super) fn memory_bytes(&self) -> usize {
        let slots = self.read();
        slots.ids.capacity() * size_of::<PointId>()
            + map_bytes::<PointId, usize>(slots.by_id.capacity())
            + slots.ids.len() * (NODE_BYTES + SCALE_BYTES + 2 * self.dim)
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Hnsw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hnsw").field("dim", &self.dim).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// 1 − approximate cosine of two packed rows. Never negative and never NaN, which `hnsw_rs` insists on.
struct RowDistance {
    dim: usize,
}

impl Distance<i8> for RowDistance {
    fn eval(&self, a: &[i8], b: &[i8]) -> f32 {
        let (Some((a_scale, a, _)), Some((b_scale, b, _))) = (unpack(a, self.dim), unpack(b, self.dim)) else {
            return 2.0;
        };
        (1.0 - coarse_cosine(a_scale, a, b_scale, b)).max(0.0)
    }
}

/// A row as the graph keeps it: the bytes of the scale, the coarse plane, the fine plane.
fn pack(row: &Row) -> Vec<i8> {
    let scale = row.scale.to_ne_bytes().map(|byte| i8::from_ne_bytes([byte]));
    [scale.as_slice(), &row.coarse, &row.fine].concat()
}

#[inline]
fn unpack(packed: &[i8], dim: usize) -> Option<(f32, &[i8], &[i8])> {
    let (scale, planes) = packed.split_first_chunk::<SCALE_BYTES>()?;
    let (coarse, fine) = planes.split_at_checked(dim)?;
    let scale = f32::from_ne_bytes(scale.map(|byte| u8::from_ne_bytes(byte.to_ne_bytes())));
    Some((scale, coarse, fine))
}
