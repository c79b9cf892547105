//! Nearest stored prompts: the vector index of one partition.
//!
//! In the life of a request this is the stage *nearest*: after the prompt was embedded, before anything is decided. A
//! [`Partition`] is shared by all requests that may see the same answers; isolation comes from each having its own, so
//! nothing here filters by tenant.
//!
//! ```text
//! up to about 20,000 points     Index::Flat   every vector compared, exact
//! above                         Index::Hnsw   a graph, and a small Flat of the points that are not in it yet
//! ```
//!
//! Invariants: a point can be found from the moment `insert` returns, and never after `remove` has returned; results
//! are sorted by cosine and then by id; a vector that is not a finite unit vector of the right dimension is refused, and
//! as a query finds nothing.
//!
//! This module must never do I/O, start a thread, or judge whether a neighbour is good enough to be served. The store is
//! the truth; all of this can be rebuilt from it.

mod flat;
mod hnsw;
mod partition;
mod quantise;
mod simd;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::mem::size_of;
use std::sync::Arc;

use crate::ids::PointId;

pub use flat::Flat;
pub use hnsw::Hnsw;
pub use partition::{DEFAULT_HNSW_FROM, Maintenance, Partition};
use quantise::Row;

/// A stored point near a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Which point.
    pub id: PointId,
    /// Cosine of the angle between it and the query, within -1..=1; off by less than 0.00002.
    pub cosine: f32,
}

/// Why a vector was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It has another number of components than the vectors of this index.
    #[error("the vector has {found} components, this index holds vectors of {expected}")]
    Dimension {
        /// Components of this index's vectors.
        expected: usize,
        /// Components of the vector that was refused.
        found: usize,
    },
    /// A component is infinite or not a number.
    #[error("the vector has a component that is not a finite number")]
    NotFinite,
    /// Its length differs from 1 by more than 0.001.
    #[error("the vector is not of length 1")]
    NotUnit,
}

impl IndexError {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dimension { .. } => "dimension",
            Self::NotFinite => "not_finite",
            Self::NotUnit => "not_unit",
        }
    }
}

/// How an index is built at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every vector is compared.
    Flat,
    /// A graph is walked.
    Hnsw,
}

impl Kind {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Hnsw => "hnsw",
        }
    }
}

/// The points of one partition for a single thread; [`Partition`] shares one. Starts as `Flat`.
#[derive(Debug)]
pub enum Index {
    /// Few points, compared one by one.
    Flat(Flat),
    /// Many points.
    Hnsw {
        /// Those in the graph. Shared so that a search can walk it without keeping writers waiting.
        graph: Arc<Hnsw>,
        /// Those not in the graph yet: every new one comes here first, because adding it to the graph takes milliseconds.
        fresh: Flat,
    },
}

impl Index {
    /// An empty index of vectors of `dim` components. Owns no memory yet.
    pub fn new(dim: usize) -> Self {
        Self::Flat(Flat::new(dim))
    }

    /// Adds a point, or gives it a new vector. `vector` must be of length 1 (within 0.001).
    ///
    /// # Errors
    /// The vector is not a finite unit vector of this index's dimension.
    pub fn insert(&mut self, id: PointId, vector: &[f32]) -> Result<(), IndexError> {
        let row = Row::new(vector, self.dim())?;
        self.insert_row(id, &row);
        Ok(())
    }

    fn insert_row(&mut self, id: PointId, row: &Row) {
        match self {
            Self::Flat(flat) => flat.insert(id, row),
            Self::Hnsw { graph, fresh } => {
                graph.remove(id);
                fresh.insert(id, row);
            }
        }
    }

    /// Removes a point: no later search returns it. False if it was not there.
    pub fn remove(&mut self, id: PointId) -> bool {
        match self {
            Self::Flat(flat) => flat.remove(id),
            Self::Hnsw { graph, fresh } => fresh.remove(id) || graph.remove(id),
        }
    }

    /// The `k` points nearest to `query`, best first, ties by id. `Flat` is exact; `Hnsw` may miss some. Empty if
    /// `query` is not a finite unit vector of this index's dimension.
    pub fn search(&self, query: &[f32], k: usize) -> Vec<Neighbour> {
        match Row::new(query, self.dim()) {
            Ok(query) => self.begin_search(&query, k).finish(&query, k),
            Err(_refused) => Vec::new(),
        }
    }

    /// The part of a search that needs the index as it is now; the rest needs only the graph.
    fn begin_search(&self, query: &Row, k: usize) -> Search {
        match self {
            Self::Flat(flat) => Search { found: flat.search(query, k), graph: None },
            Self::Hnsw { graph, fresh } => Search { found: fresh.search(query, k), graph: Some(Arc::clone(graph)) },
        }
    }

    /// Points that can be found.
    pub fn len(&self) -> usize {
        match self {
            Self::Flat(flat) => flat.len(),
            Self::Hnsw { graph, fresh } => graph.len() + fresh.len(),
        }
    }

    /// True if nothing can be found.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removed points that still take room in the graph.
    pub fn tombstones(&self) -> usize {
        match self {
            Self::Flat(_) => 0,
            Self::Hnsw { graph, .. } => graph.tombstones(),
        }
    }

    /// Bytes owned on the heap: exact for `Flat`, an estimate for the graph.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Flat(flat) => flat.memory_bytes(),
            Self::Hnsw { graph, fresh } => size_of::<Hnsw>() + graph.memory_bytes() + fresh.memory_bytes(),
        }
    }

    /// How it is built at present.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Flat(_) => Kind::Flat,
            Self::Hnsw { .. } => Kind::Hnsw,
        }
    }

    fn dim(&self) -> usize {
        match self {
            Self::Flat(flat) | Self::Hnsw { fresh: flat, .. } => flat.dim(),
        }
    }
}

/// A search under way: what was found outside the graph, and the graph still to be walked.
struct Search {
    found: Vec<Neighbour>,
    graph: Option<Arc<Hnsw>>,
}

impl Search {
    fn finish(self, query: &Row, k: usize) -> Vec<Neighbour> {
        let Some(graph) = self.graph else { return self.found };
        let mut found = self.found;
        found.extend(graph.search(query, k));
        best(found, k)
    }
}

/// The `k` best, each point once (it may be met twice while it moves into the graph), best first, ties by id.
fn best(mut found: Vec<Neighbour>, k: usize) -> Vec<Neighbour> {
    found.sort_unstable_by(|a, b| a.id.cmp(&b.id).then(b.cosine.total_cmp(&a.cosine)));
    found.dedup_by_key(|neighbour| neighbour.id);
    found.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
    found.truncate(k);
    found
}

/// How many to find by the coarse plane so that the `k` best by cosine are among them.
fn candidates_for(k: usize) -> usize {
    k.saturating_mul(4).max(32)
}

/// Bytes of a hash map of this capacity: its buckets, a power of two at most seven eighths full, and a control byte each.
fn map_bytes<K, V>(capacity: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    let buckets = (capacity + capacity / 7).next_power_of_two();
    buckets * (size_of::<(K, V)>() + 1) + 16
}
