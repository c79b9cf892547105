//! `Partition`: one [`Index`] shared by many readers and rare writers, and its upkeep.
//!
//! Upkeep is done in steps that the caller runs on a background thread: while [`Partition::needs_maintenance`] says so,
//! call [`Partition::maintain`]. A step is bounded (about half a second at most), so a process can stop between steps.
//!
//! ```text
//! Promote   Flat has grown to `hnsw_from`: an empty graph joins it; the Flat part becomes the fresh part
//! Fold      a batch of fresh points is added to the graph beside running searches, then moved under the lock
//! Rebuild   over a quarter of the graph is tombstones: live points are copied into a new graph, step by step,
//!           while the old one serves; at the last step they are exchanged
//! ```
//!
//! What a step prepares outside the lock may be out of date when it takes the lock. So a point is moved only if the
//! fresh part still holds that very vector, and points removed from a graph while it is copied are noted and removed from the
//! copy as well. Batches folded during a rebuild go into both graphs.
//!
//! The lock is held by a reader for the scan of the flat part only (at most `hnsw_from` vectors, 0.3 ms for 20,000), by a
//! writer for microseconds. The graph is walked outside it. A poisoned lock is taken all the same: each change under
//! it is complete in itself, and at worst a point is missing until the index is rebuilt from the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::thread::sleep;
use std::time::Duration;

use super::flat::Flat;
use super::hnsw::{Hnsw, Node};
use super::quantise::Row;
use super::{Index, IndexError, Kind, Neighbour, best};
use crate::ids::PointId;

/// Points from which on a graph pays. Measured with 384 components: at 10,000 a scan takes 136 µs and the graph 170 to 200,
/// at 20,000 both take 290, at 100,000 1,650 and 400.
pub const DEFAULT_HNSW_FROM: usize = 20_000;

/// Points a step adds to a graph, and fresh points that make a fold worth while.
const BATCH: usize = 256;

/// How long a step waits, in milliseconds, for searches that still walk a graph that was replaced.
const RELEASE_WAIT_MS: u32 = 1_000;

/// The kinds of upkeep, in order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maintenance {
    /// Begin a graph.
    Promote,
    /// Move a batch of new points into the graph.
    Fold,
    /// Copy a batch of live points into a new graph without tombstones.
    Rebuild,
}

impl Maintenance {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Fold => "fold",
            Self::Rebuild => "rebuild",
        }
    }
}

/// The points that one kind of request may be answered from.
#[derive(Debug)]
pub struct Partition {
    dim: usize,
    hnsw_from: usize,
    index: RwLock<Index>,
    /// Held during a step, so there is one inserter to a graph.
    upkeep: Mutex<Option<Box<Rebuild>>>,
}

/// A new graph in the making.
#[derive(Debug)]
struct Rebuild {
    graph: Hnsw,
    /// Nodes still to be copied, last first.
    todo: Vec<Node>,
}

/// The graph, and fresh points to be added to it.
type Batch = (Arc<Hnsw>, Vec<(PointId, Row)>);

/// A point added to the graph, not yet shown.
struct Added {
    id: PointId,
    row: Row,
    slot: usize,
    slot_in_copy: Option<usize>,
}

impl Partition {
    /// An empty partition of vectors of `dim` components, which becomes a graph at `hnsw_from` points. Owns no heap memory
    /// until the first insert.
    pub fn new(dim: usize, hnsw_from: usize) -> Self {
        Self { dim, hnsw_from, index: RwLock::new(Index::new(dim)), upkeep: Mutex::new(None) }
    }

    /// Adds a point, or gives it a new vector. Searches find it as soon as this returns.
    ///
    /// # Errors
    /// The vector is not a finite unit vector of this partition's dimension.
    pub fn insert(&self, id: PointId, vector: &[f32]) -> Result<(), IndexError> {
        let row = Row::new(vector, self.dim)?;
        self.write().insert_row(id, &row);
        Ok(())
    }

    /// Removes a point: no search that begins later returns it. False if it was not there.
    pub fn remove(&self, id: PointId) -> bool {
        self.write().remove(id)
    }

    /// The `k` points nearest to `query`, best first, ties by id; see [`Index::search`].
    pub fn search(&self, query: &[f32], k: usize) -> Vec<Neighbour> {
        let Ok(query) = Row::new(query, self.dim) else { return Vec::new() };
        let search = self.read().begin_search(&query, k);
        search.finish(&query, k)
    }

    /// Every point whose cosine to `query` is at least `least`, best first, ties by id. Exact, also where the partition
    /// is a graph: every vector is compared. Takes as long as that takes: not for the request path.
    pub fn within(&self, query: &[f32], least: f32) -> Vec<Neighbour> {
        let Ok(query) = Row::new(query, self.dim) else { return Vec::new() };
        let (mut found, graph) = match &*self.read() {
            Index::Flat(flat) => (flat.within(&query, least), None),
            Index::Hnsw { graph, fresh } => (fresh.within(&query, least), Some(Arc::clone(graph))),
        };
        if let Some(graph) = graph {
            found.extend(graph.within(&query, least));
        }
        best(found, usize::MAX)
    }

    /// Points that can be found.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// True if nothing can be found.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removed points that still take room in the graph.
    pub fn tombstones(&self) -> usize {
        self.read().tombstones()
    }

    /// Bytes, the partition itself included. Without the second graph while one is being built.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.read().memory_bytes()
    }

    /// How the index is built at present.
    pub fn kind(&self) -> Kind {
        self.read().kind()
    }

    /// What [`Self::maintain`] would do now. `None` also while another thread is at it.
    pub fn needs_maintenance(&self) -> Option<Maintenance> {
        let rebuild = self.try_upkeep()?;
        self.due(rebuild.as_deref())
    }

    /// Does one bounded step of upkeep and says which; `None` if there was nothing to do or another thread is at it.
    /// Blocks for up to about half a second: never call it on the request path.
    pub fn maintain(&self) -> Option<Maintenance> {
        let mut rebuild = self.try_upkeep()?;
        let due = self.due(rebuild.as_deref())?;
        match due {
            Maintenance::Promote => self.promote(),
            Maintenance::Fold => self.fold(rebuild.as_deref()),
            Maintenance::Rebuild => self.rebuild(&mut rebuild),
        }
        Some(due)
    }

    fn due(&self, rebuild: Option<&Rebuild>) -> Option<Maintenance> {
        match &*self.read() {
            Index::Flat(flat) => (flat.len() >= self.hnsw_from.max(1)).then_some(Maintenance::Promote),
            Index::Hnsw { fresh, .. } if fresh.len() >= self.batch() => Some(Maintenance::Fold),
            Index::Hnsw { graph, .. } => {
                let stale = graph.tombstones();
                (rebuild.is_some() || stale * 3 > graph.len()).then_some(Maintenance::Rebuild)
            }
        }
    }

    /// Fewer where a graph begins so early that this many points would never wait.
    fn batch(&self) -> usize {
        BATCH.min(self.hnsw_from).max(1)
    }

    fn promote(&self) {
        let mut index = self.write();
        if let Index::Flat(flat) = &mut *index {
            let fresh = std::mem::replace(flat, Flat::new(self.dim));
            *index = Index::Hnsw { graph: Arc::new(Hnsw::new(self.dim, fresh.len())), fresh };
        }
    }

    fn fold(&self, rebuild: Option<&Rebuild>) {
        let Some((graph, batch)) = self.fresh_batch() else { return };
        let copy = rebuild.map(|rebuild| &rebuild.graph);
        let added: Vec<Added> = batch
            .into_iter()
            .map(|(id, row)| {
                let slot = graph.add(id, &row);
                let slot_in_copy = copy.map(|copy| copy.add(id, &row));
                Added { id, row, slot, slot_in_copy }
            })
            .collect();

        let mut index = self.write();
        let Index::Hnsw { fresh, .. } = &mut *index else { return };
        if let Some(copy) = copy {
            forget_removed(&graph, copy);
        }
        for Added { id, row, slot, slot_in_copy } in added {
            // Removed meanwhile, or given another vector: the slot stays a tombstone.
            if fresh.row(id).as_ref() != Some(&row) {
                continue;
            }
            graph.publish(id, slot);
            if let (Some(copy), Some(slot)) = (copy, slot_in_copy) {
                copy.publish(id, slot);
            }
            fresh.remove(id);
        }
    }

    fn fresh_batch(&self) -> Option<Batch> {
        match &*self.read() {
            Index::Flat(_) => None,
            Index::Hnsw { graph, fresh } => {
                // The last rows, so that taking them out again moves no others.
                let ids = fresh.ids().iter().rev().take(self.batch());
                Some((Arc::clone(graph), ids.filter_map(|id| Some((*id, fresh.row(*id)?))).collect()))
            }
        }
    }

    fn rebuild(&self, rebuild: &mut Option<Box<Rebuild>>) {
        let Some(old) = self.graph() else { return };
        let current = rebuild.get_or_insert_with(|| Box::new(Rebuild::of(&old)));
        forget_removed(&old, &current.graph);
        let rest = current.todo.len().saturating_sub(self.batch());
        for node in current.todo.drain(rest..).rev() {
            current.graph.copy_live(&old, &node);
        }
        if current.todo.is_empty()
            && let Some(done) = rebuild.take()
        {
            self.exchange(&old, done.graph);
        }
    }

    fn exchange(&self, old: &Arc<Hnsw>, new: Hnsw) {
        {
            let mut index = self.write();
            forget_removed(old, &new);
            if let Index::Hnsw { graph, fresh } = &mut *index {
                if new.len() == 0 {
                    let fresh = std::mem::replace(fresh, Flat::new(self.dim));
                    *index = Index::Flat(fresh);
                } else {
                    *graph = Arc::new(new);
                }
            }
        }
        // To free a large graph takes tens of milliseconds; a search that still holds it must not be the one to do it.
        for _ in 0..RELEASE_WAIT_MS {
            if Arc::strong_count(old) == 1 {
                break;
            }
            sleep(Duration::from_millis(1));
        }
    }

    fn graph(&self) -> Option<Arc<Hnsw>> {
        match &*self.read() {
            Index::Flat(_) => None,
            Index::Hnsw { graph, .. } => Some(Arc::clone(graph)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_upkeep(&self) -> Option<MutexGuard<'_, Option<Box<Rebuild>>>> {
        match self.upkeep.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => {
                // A step died half-way: the copy may lack points. Give it up; the next step begins another if needed.
                self.upkeep.clear_poison();
                let mut rebuild = poisoned.into_inner();
                *rebuild = None;
                Some(rebuild)
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Rebuild {
    fn of(old: &Hnsw) -> Self {
        let mut todo = old.begin_copy();
        todo.reverse();
        Self { graph: Hnsw::new(old.dim(), old.len()), todo }
    }
}

/// Removes from a copy what has been removed from its original since the last time.
fn forget_removed(original: &Hnsw, copy: &Hnsw) {
    for id in original.take_removed() {
        copy.remove(id);
    }
}

#[cfg(test)]
impl Partition {
    /// Poisons both locks.
    pub(super) fn die_under_both_locks(&self) {
        let _upkeep = self.upkeep.lock();
        let _index = self.index.write();
        panic!("on purpose");
    }
}
