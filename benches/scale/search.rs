//! Searches at every level, and how much each of them finds of what is really nearest.

use std::collections::HashSet;
use std::time::Instant;

use remora::ids::PointId;
use remora::index::Partition;
use remora::store::{Question, Search, SearchStore};

use crate::Fault;
use crate::data::{DIMENSIONS, Data, SPACE, partition, point_id, tenant};
use crate::percentile::percentile;

/// Nearest points asked for, as a decision does.
const K: usize = 10;
/// Queries before the clock counts.
const WARM: usize = 20;

/// What one level did with all queries.
pub(crate) struct Level {
    pub(crate) name: &'static str,
    /// Microseconds of a search.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Ids found, best first, query by query.
    found: Vec<Vec<PointId>>,
}

impl Level {
    /// The share of the `k` really nearest that this level has among its first `k`, 0 to 1.
    pub(crate) fn recall(&self, truth: &Self, k: usize) -> f64 {
        let (mut common, mut all) = (0, 0);
        for (own, exact) in self.found.iter().zip(&truth.found) {
            let own: HashSet<_> = own.iter().take(k).collect();
            common += exact.iter().take(k).filter(|id| own.contains(id)).count();
            all += exact.len().min(k);
        }
        common as f64 / all as f64
    }
}

/// A partition in memory and what it took to make it.
pub(crate) struct Built {
    partition: Partition,
    /// Points a second, upkeep included.
    pub(crate) rate: f64,
    /// Bytes of a point by the index's own account.
    pub(crate) bytes: f64,
}

/// Builds a partition in memory from the first `count` points; it becomes a graph at `hnsw_from` of them.
pub(crate) fn build(data: &Data, number: u8, count: usize, hnsw_from: usize) -> Result<Built, Fault> {
    let partition = Partition::new(DIMENSIONS, hnsw_from);
    let began = Instant::now();
    for (number, vector) in data.of(number, count) {
        partition.insert(point_id(number), vector)?;
    }
    while partition.maintain().is_some() {}
    let points = partition.len() as f64;
    let bytes = partition.memory_bytes() as f64 / points;
    Ok(Built { partition, rate: points / began.elapsed().as_secs_f64(), bytes })
}

/// Searches in memory.
pub(crate) fn memory(name: &'static str, built: &Built, queries: &[Vec<f32>]) -> Level {
    let search = |query: &Vec<f32>| built.partition.search(query, K);
    queries.iter().take(WARM).map(search).for_each(drop);
    let mut times = Vec::new();
    let mut found = Vec::new();
    for query in queries {
        let began = Instant::now();
        let near = search(query);
        times.push(micros(began));
        found.push(near.into_iter().map(|near| near.id).collect());
    }
    Level { name, p50: percentile(&times, 0.5), p99: percentile(&times, 0.99), found }
}

/// Searches in the store.
pub(crate) async fn store(
    name: &'static str,
    store: &dyn SearchStore,
    number: u8,
    queries: &[Vec<f32>],
    how: Search,
) -> Result<Level, Fault> {
    let (tenant, partition) = (tenant(), partition(number));
    let (mut times, mut found) = (Vec::new(), Vec::new());
    for (at, query) in queries.iter().take(WARM).chain(queries).enumerate() {
        let question = Question { tenant: &tenant, partition: &partition, space: SPACE, query, k: 10, now: 1, how };
        let began = Instant::now();
        let near = store.nearest(&question).await?;
        if at >= WARM {
            times.push(micros(began));
            found.push(near.into_iter().map(|near| near.point.id).collect());
        }
    }
    Ok(Level { name, p50: percentile(&times, 0.5), p99: percentile(&times, 0.99), found })
}

/// The faster of two runs of the same level.
pub(crate) fn better(a: Level, b: Level) -> Level {
    if b.p50 < a.p50 { b } else { a }
}

fn micros(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / 1e3
}
