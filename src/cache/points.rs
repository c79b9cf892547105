//! The points of the semantic tier: prompts with vectors, in one small index per partition.
//!
//! Isolation needs no filter here: a search has a partition in its hand, whose digest contains the tenant, and sees
//! nothing else. What comes back is still checked for tenant and partition before it counts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::decide::Features;
use super::shelf::ByDigest;
use crate::ids::{EntryId, KeyId, PointId, TenantId};
use crate::index::{IndexError, Kind, Neighbour, Partition};
use crate::store::{Digest, Point};

/// A point without its vector.
#[derive(Debug)]
pub struct PointMeta {
    /// Where it leads.
    pub entry: EntryId,
    /// Owner.
    pub tenant: TenantId,
    /// The partition it is searched in.
    pub partition: Digest,
    /// Key of the exact tier.
    pub fingerprint: Digest,
    /// Key of its normalised prompt.
    pub normalised: Option<Digest>,
    /// The prompt.
    pub prompt: Box<str>,
    /// Whose request made it.
    pub writer: KeyId,
    /// What the guards know of the prompt; read when it first is a neighbour.
    pub(super) features: Arc<OnceLock<Features>>,
}

impl PointMeta {
    /// What memory keeps of a stored point.
    pub(super) fn of(point: &Point, prompt: &str) -> Self {
        Self {
            entry: point.entry,
            tenant: point.tenant.clone(),
            partition: point.partition,
            fingerprint: point.fingerprint,
            normalised: point.normalised,
            prompt: prompt.into(),
            writer: point.writer.clone(),
            features: Arc::default(),
        }
    }

    /// What the guards know of the prompt.
    pub fn features(&self) -> &Features {
        self.features.get_or_init(|| Features::of(&self.prompt))
    }
}

/// A point near a query.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Identity.
    pub id: PointId,
    /// Cosine between its vector and the query.
    pub cosine: f32,
    /// The point.
    pub meta: Arc<PointMeta>,
}

/// All points of one process.
pub(super) struct Points {
    partitions: RwLock<ByDigest<Arc<Partition>>>,
    metas: RwLock<HashMap<PointId, Arc<PointMeta>>>,
    normalised: RwLock<ByDigest<PointId>>,
    /// Partitions that have changed since they were last looked after.
    touched: Mutex<HashSet<Digest>>,
    hnsw_from: usize,
}

/// Sizes for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexSize {
    /// Vectors in partitions that are scanned.
    pub flat: usize,
    /// Vectors in partitions searched through a graph.
    pub hnsw: usize,
    /// Memory of all partitions.
    pub bytes: usize,
    /// Partitions.
    pub partitions: usize,
}

impl Points {
    /// No points. Partitions of `hnsw_from` points and more are searched through a graph.
    pub(super) fn new(hnsw_from: usize) -> Self {
        Self {
            partitions: RwLock::default(),
            metas: RwLock::default(),
            normalised: RwLock::default(),
            touched: Mutex::default(),
            hnsw_from,
        }
    }

    /// Adds a point. Without a vector it is found by its normalised prompt only.
    ///
    /// # Errors
    /// The vector is not finite, not of unit norm or of another dimension; then nothing was added.
    pub(super) fn add(&self, id: PointId, meta: PointMeta, vector: Option<&[f32]>) -> Result<(), IndexError> {
        if let Some(vector) = vector {
            // The partition's lock is held while inserting, so that an emptied partition cannot be dropped in between.
            let partitions = self.partition(meta.partition, vector.len());
            if let Some(partition) = partitions.get(&meta.partition) {
                partition.insert(id, vector)?;
            }
            drop(partitions);
            self.touch(meta.partition);
        }
        if let Some(key) = meta.normalised {
            write(&self.normalised).insert(key, id);
        }
        write(&self.metas).insert(id, Arc::new(meta));
        Ok(())
    }

    /// Takes points out.
    pub(super) fn remove(&self, ids: &[PointId]) {
        for id in ids {
            let Some(meta) = write(&self.metas).remove(id) else { continue };
            if let Some(key) = meta.normalised {
                let mut normalised = write(&self.normalised);
                if normalised.get(&key) == Some(id) {
                    normalised.remove(&key);
                }
            }
            let emptied = match read(&self.partitions).get(&meta.partition) {
                Some(partition) => partition.remove(*id) && partition.is_empty(),
                None => false,
            };
            if emptied {
                let mut partitions = write(&self.partitions);
                if partitions.get(&meta.partition).is_some_and(|partition| partition.is_empty()) {
                    partitions.remove(&meta.partition);
                }
            } else {
                self.touch(meta.partition);
            }
        }
    }

    /// The `k` nearest points of the partition, best first, and how it was searched.
    pub(super) fn nearest(
        &self,
        tenant: &TenantId,
        partition: &Digest,
        query: &[f32],
        k: usize,
    ) -> (Vec<Candidate>, Kind) {
        let Some(index) = read(&self.partitions).get(partition).cloned() else { return (Vec::new(), Kind::Flat) };
        let neighbours = index.search(query, k);
        let metas = read(&self.metas);
        let own = |near: Neighbour| {
            let meta = metas.get(&near.id)?;
            (meta.tenant == *tenant && meta.partition == *partition).then(|| Candidate {
                id: near.id,
                cosine: near.cosine,
                meta: Arc::clone(meta),
            })
        };
        (neighbours.into_iter().filter_map(own).collect(), index.kind())
    }

    /// Every partition with the number of its points.
    pub(super) fn partitions(&self) -> Vec<(Digest, usize)> {
        read(&self.partitions).iter().map(|(digest, partition)| (*digest, partition.len())).collect()
    }

    /// A partition taken by chance, with the number of its points.
    pub(super) fn any_partition(&self) -> Option<(Digest, usize)> {
        let partitions = read(&self.partitions);
        let at = fastrand::usize(..partitions.len().max(1));
        partitions.iter().nth(at).map(|(digest, partition)| (*digest, partition.len()))
    }

    /// Every point of a partition. Visits all points.
    pub(super) fn of_partition(&self, partition: &Digest) -> Vec<Arc<PointMeta>> {
        read(&self.metas).values().filter(|point| point.partition == *partition).cloned().collect()
    }

    /// Every point of the partition whose cosine to `query` is at least `least`, best first. Compares all of them.
    pub(super) fn within(&self, partition: &Digest, query: &[f32], least: f32) -> Vec<Neighbour> {
        let index = read(&self.partitions).get(partition).cloned();
        index.map_or_else(Vec::new, |index| index.within(query, least))
    }

    /// Lets points lead to another entry of the same tenant.
    pub(super) fn lead(&self, ids: &[PointId], entry: EntryId) {
        let mut metas = write(&self.metas);
        for id in ids {
            let Some(meta) = metas.get_mut(id) else { continue };
            let PointMeta { entry: _, tenant, partition, fingerprint, normalised, prompt, writer, features } =
                meta.as_ref();
            let moved = PointMeta {
                entry,
                tenant: tenant.clone(),
                partition: *partition,
                fingerprint: *fingerprint,
                normalised: *normalised,
                prompt: prompt.clone(),
                writer: writer.clone(),
                features: Arc::clone(features),
            };
            *meta = Arc::new(moved);
        }
    }

    /// The point whose normalised prompt has this key.
    pub(super) fn same_words(&self, tenant: &TenantId, key: &Digest) -> Option<Arc<PointMeta>> {
        let id = *read(&self.normalised).get(key)?;
        read(&self.metas).get(&id).filter(|meta| meta.tenant == *tenant).cloned()
    }

    /// The point, if it belongs to the tenant.
    pub(super) fn get(&self, tenant: &TenantId, id: PointId) -> Option<Arc<PointMeta>> {
        read(&self.metas).get(&id).filter(|meta| meta.tenant == *tenant).cloned()
    }

    /// Does the upkeep that partitions need: promotion to a graph, folding in new points, rebuilding. Takes as long as
    /// building graphs takes; runs on a blocking thread. Returns how many partitions it worked on.
    pub(super) fn maintain(&self) -> usize {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        let mut worked = 0;
        for digest in touched {
            let partition = read(&self.partitions).get(&digest).cloned();
            let Some(partition) = partition.filter(|p| p.needs_maintenance().is_some()) else { continue };
            if partition.maintain().is_some() {
                worked += 1;
                // What arrived meanwhile may need the next round.
                self.touch(digest);
            }
        }
        worked
    }

    /// Sizes for metrics. Visits every partition.
    pub(super) fn size(&self) -> IndexSize {
        let mut size = IndexSize::default();
        for partition in read(&self.partitions).values() {
            match partition.kind() {
                Kind::Flat => size.flat += partition.len(),
                Kind::Hnsw => size.hnsw += partition.len(),
            }
            size.bytes += partition.memory_bytes();
            size.partitions += 1;
        }
        size
    }

    fn touch(&self, partition: Digest) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
    }

    fn partition(&self, digest: Digest, dimensions: usize) -> RwLockReadGuard<'_, ByDigest<Arc<Partition>>> {
        loop {
            let known = read(&self.partitions);
            if known.contains_key(&digest) {
                return known;
            }
            drop(known);
            // Between this lock and the next read an emptied partition may be dropped; then it is made again.
            let fresh = || Arc::new(Partition::new(dimensions, self.hnsw_from));
            write(&self.partitions).entry(digest).or_insert_with(fresh);
        }
    }
}

/// Locks guard plain maps whose changes are single steps; one poisoned by a panic elsewhere is taken as it is.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
