//! Which partitions are in memory, where the store can search the others.
//!
//! In the life of a request: a look-up in a partition that is not in memory asks the store, for the equal request and for
//! the nearest prompts, within a deadline. Moving partitions in and out is done by the task that follows other replicas,
//! so that no change falls between.
//!
//! Invariants: a partition counts as absent until all of its entries are in memory; what is taken out of memory stays in
//! the store; with a store that cannot search nothing is ever absent, and no partition of a tenant whose vectors it cannot
//! search.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::time::timeout;

use super::commit::meta_of;
use super::lookup::{Neighbour, Vector};
use super::outcome::{Reason, Tier};
use super::replicas::SCAN_DEADLINE;
use super::shelf::ByDigest;
use super::{Ask, Cache, Hit, LoadError, NEIGHBOURS, PointMeta, STORE_DEADLINE};
use crate::clock::UnixMs;
use crate::ids::{EntryId, TenantId};
use crate::index::Kind;
use crate::store::{Digest, Point, Question, Search, SearchStore, StoreError};

/// Bytes that a point costs in memory besides its vector: prompt, keys, what is known of its answer. Measured as 1,691 with
/// one short prompt for each answer and vectors of 384 components (`docs/scale.md`). Graphs come on top.
const POINT_BYTES: u64 = 1_700;
/// Bytes of a component of a vector.
const COMPONENT_BYTES: u64 = 2;
/// Questions to an absent partition after which it is worth having in memory.
const WORTH: u32 = 3;
/// A partition that was used within this time, milliseconds, does not make room for another.
const IN_USE_MS: u64 = 60_000;
/// Entries read at a time.
const PAGE: u32 = 1_000;

/// A partition that is in the store only.
struct Absent {
    tenant: TenantId,
    points: u64,
    asked: AtomicU32,
}

/// Sizes for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Partitions that are not in memory.
    pub partitions: usize,
    /// Their points.
    pub points: u64,
}

/// See the module.
pub(super) struct Residency {
    search: Option<Arc<dyn SearchStore>>,
    /// Bytes that points may take.
    budget: u64,
    /// Bytes of one point, estimated.
    point_bytes: u64,
    absent: RwLock<ByDigest<Absent>>,
    /// Whether `absent` has anything in it, to be asked without a lock.
    any: AtomicBool,
    /// When a partition in memory was last searched.
    used: Mutex<ByDigest<UnixMs>>,
}

impl Residency {
    pub(super) fn new(search: Option<Arc<dyn SearchStore>>, budget: u64, dimensions: usize) -> Self {
        let point_bytes = POINT_BYTES + COMPONENT_BYTES * dimensions as u64;
        Self {
            search,
            budget,
            point_bytes,
            absent: RwLock::default(),
            any: AtomicBool::new(false),
            used: Mutex::default(),
        }
    }

    /// Whether the store can read the tenant's prompts, as it cannot where they are sealed.
    pub(super) fn may_search(&self, tenant: &TenantId) -> bool {
        self.search.as_ref().is_none_or(|search| search.searches(tenant))
    }

    /// Whether the partition is in the store only.
    pub(super) fn is_absent(&self, partition: &Digest) -> bool {
        self.any.load(Ordering::Acquire) && self.read().contains_key(partition)
    }

    fn has_absent_of(&self, tenant: &TenantId) -> bool {
        self.any.load(Ordering::Acquire) && self.read().values().any(|absent| absent.tenant == *tenant)
    }

    /// Notes that a partition in memory was searched.
    pub(super) fn touch(&self, partition: &Digest, now: UnixMs) {
        if self.search.is_some() {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(*partition, now);
        }
    }

    fn take_away(&self, partition: Digest, tenant: TenantId, points: u64) {
        self.write().insert(partition, Absent { tenant, points, asked: AtomicU32::new(0) });
        self.any.store(true, Ordering::Release);
    }

    fn bring_in(&self, partition: &Digest) {
        let mut absent = self.write();
        absent.remove(partition);
        self.any.store(!absent.is_empty(), Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, ByDigest<Absent>> {
        self.absent.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ByDigest<Absent>> {
        self.absent.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Decides which partitions come into memory, where not all fit. `None` if all do.
    pub(super) async fn choose_partitions(&self) -> Result<Option<Vec<(TenantId, Digest)>>, StoreError> {
        let Some(search) = &self.residency.search else { return Ok(None) };
        let all = search.partitions(self.clock.now_ms()).await?;
        let mut room = self.residency.budget / self.residency.point_bytes;
        if all.iter().map(|partition| partition.points).sum::<u64>() <= room {
            return Ok(None);
        }
        // What the store cannot search comes into memory whatever the budget is.
        let (searched, pinned): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|partition| search.searches(&partition.tenant));
        let mut chosen = Vec::new();
        for partition in pinned {
            room = room.saturating_sub(partition.points);
            chosen.push((partition.tenant, partition.partition));
        }
        for partition in searched {
            if partition.points <= room {
                room -= partition.points;
                chosen.push((partition.tenant, partition.partition));
            } else {
                self.residency.take_away(partition.partition, partition.tenant, partition.points);
            }
        }
        Ok(Some(chosen))
    }

    /// Takes all entries of a partition into memory.
    pub(super) async fn load_partition(&self, tenant: &TenantId, partition: &Digest) -> Result<usize, LoadError> {
        let Some(search) = &self.residency.search else { return Ok(0) };
        let space = self.embedder.space().to_string();
        let (mut after, mut loaded): (Option<EntryId>, usize) = (None, 0);
        loop {
            let page = search.scan_partition(tenant, partition, self.clock.now_ms(), after, PAGE);
            let page = timeout(SCAN_DEADLINE, page).await.map_err(|_| StoreError::Closed)??;
            let Some(last) = page.last() else { return Ok(loaded) };
            after = Some(last.meta.entry.id);
            for entry in page.iter().filter(|loaded| !self.shelf.has(loaded.meta.entry.id)) {
                self.learn_of(entry, &space);
            }
            loaded += page.len();
        }
    }

    /// An equal request's answer that is in the store only.
    pub(super) async fn exact_elsewhere(
        &self,
        tenant: &TenantId,
        fingerprint: &Digest,
        ask: Ask,
    ) -> Result<Hit, Reason> {
        let Some(search) = self.residency.search.as_ref().filter(|_| self.residency.has_absent_of(tenant)) else {
            return Err(Reason::NotStored);
        };
        let now = self.clock.now_ms();
        let found = self.gate.ask(STORE_DEADLINE, search.by_fingerprint(tenant, fingerprint, now)).await;
        let loaded = found.ok_or(Reason::CacheFault)?.ok_or(Reason::NotStored)?;
        let entry = &loaded.meta.entry;
        let led = loaded.points.iter().any(|point| point.fingerprint == *fingerprint);
        if entry.tenant != *tenant || !led || entry.expires_at <= now {
            return Err(Reason::NotStored);
        }
        let meta = Arc::new(meta_of(entry, loaded.meta.body_len, &loaded.points));
        self.open(meta, ask, Tier::Exact, None).await
    }

    /// The nearest points of a partition that is in the store only, with those that are in memory all the same because
    /// they are new.
    pub(super) async fn nearest_elsewhere(
        &self,
        tenant: &TenantId,
        vector: &Vector,
        mut near: Vec<Neighbour>,
    ) -> Result<Vec<Neighbour>, Reason> {
        let Some(search) = &self.residency.search else { return Ok(near) };
        if let Some(absent) = self.residency.read().get(&vector.partition) {
            absent.asked.fetch_add(1, Ordering::Relaxed);
        }
        let space = self.embedder.space().to_string();
        let question = Question {
            tenant,
            partition: &vector.partition,
            space: &space,
            query: &vector.values,
            k: u32::try_from(NEIGHBOURS).unwrap_or(u32::MAX),
            now: self.clock.now_ms(),
            how: Search::Fast,
        };
        let began = std::time::Instant::now();
        let found = self.gate.ask(STORE_DEADLINE, search.nearest(&question)).await.ok_or(Reason::CacheFault)?;
        self.metrics.search("store", began.elapsed());
        let known: HashSet<_> = near.iter().map(|neighbour| neighbour.id).collect();
        let mut groups: HashMap<EntryId, Vec<Point>> = HashMap::new();
        for hit in &found {
            groups.entry(hit.meta.entry.id).or_default().push(hit.point.clone());
        }
        for hit in found.into_iter().filter(|hit| !known.contains(&hit.point.id)) {
            let (point, entry) = (&hit.point, &hit.meta.entry);
            let own = entry.tenant == *tenant && point.tenant == *tenant && point.partition == vector.partition;
            let (true, Some(prompt)) = (own, &point.prompt) else { continue };
            let points = groups.get(&entry.id).map_or(&[][..], Vec::as_slice);
            near.push(Neighbour {
                id: point.id,
                cosine: hit.cosine,
                point: Arc::new(PointMeta::of(point, prompt)),
                entry: Arc::new(meta_of(entry, hit.meta.body_len, points)),
            });
        }
        near.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
        near.truncate(NEIGHBOURS);
        Ok(near)
    }

    /// Whether entries of this partition that others store come into memory here.
    pub(super) fn is_resident(&self, partition: &Digest) -> bool {
        !self.residency.is_absent(partition)
    }

    /// Sizes of what is not in memory.
    pub fn elsewhere(&self) -> Elsewhere {
        let absent = self.residency.read();
        Elsewhere { partitions: absent.len(), points: absent.values().map(|absent| absent.points).sum() }
    }

    /// Moves at most one partition in and as many out as it takes; to be run by the task that follows other replicas.
    pub(super) async fn settle_residency(&self) -> Result<(), LoadError> {
        let residency = &self.residency;
        if residency.search.is_none() {
            return Ok(());
        }
        let size = self.points.size();
        let points = (size.flat + size.hnsw) as u64;
        let room = residency.budget / residency.point_bytes;
        if points > room {
            self.make_room(points - room, None);
        }
        let wanted = {
            let absent = residency.read();
            let asked = |absent: &Absent| absent.asked.load(Ordering::Relaxed);
            let fits = absent.iter().filter(|(_, absent)| absent.points <= room && asked(absent) >= WORTH);
            fits.max_by_key(|(_, absent)| asked(absent))
                .map(|(key, absent)| (*key, absent.tenant.clone(), absent.points))
        };
        let Some((partition, tenant, wanted)) = wanted else { return Ok(()) };
        let free = room.saturating_sub(points);
        if free < wanted && !self.make_room(wanted - free, Some(self.clock.now_ms().saturating_sub(IN_USE_MS))) {
            return Ok(());
        }
        let entries = self.load_partition(&tenant, &partition).await?;
        residency.bring_in(&partition);
        residency.touch(&partition, self.clock.now_ms());
        tracing::debug!(entries, points = wanted, "a partition has come into memory");
        Ok(())
    }

    /// Takes the partitions that were not used for longest out of memory until there is room for so many points; only
    /// those last used before `idle_since`, if that is given. Whether there is room now.
    fn make_room(&self, points: u64, idle_since: Option<UnixMs>) -> bool {
        let mut candidates: Vec<(UnixMs, Digest, usize)> = {
            let used = self.residency.used.lock().unwrap_or_else(PoisonError::into_inner);
            let last = |partition: &Digest| used.get(partition).copied().unwrap_or(0);
            self.points.partitions().into_iter().map(|(partition, len)| (last(&partition), partition, len)).collect()
        };
        candidates.retain(|(used, partition, _)| {
            idle_since.is_none_or(|since| *used < since) && self.may_be_put_away(partition)
        });
        candidates.sort_unstable();
        let enough = candidates.iter().map(|(.., len)| *len as u64).sum::<u64>() >= points;
        if !enough && idle_since.is_some() {
            return false;
        }
        let mut freed = 0;
        for (_, partition, len) in candidates {
            if freed >= points {
                return true;
            }
            self.put_away(partition);
            freed += len as u64;
        }
        freed >= points
    }

    /// Whether the store could be asked about a partition that is no longer in memory.
    fn may_be_put_away(&self, partition: &Digest) -> bool {
        let Some(search) = &self.residency.search else { return false };
        self.points.of_partition(partition).first().is_some_and(|point| search.searches(&point.tenant))
    }

    /// Takes a partition out of memory; its entries stay in the store.
    fn put_away(&self, partition: Digest) {
        let metas = self.points.of_partition(&partition);
        let Some(tenant) = metas.first().map(|point| point.tenant.clone()) else { return };
        // First, so that a look-up meanwhile asks the store as well.
        self.residency.take_away(partition, tenant, metas.len() as u64);
        let entries: HashSet<EntryId> = metas.iter().map(|point| point.entry).collect();
        for point in metas {
            if entries.contains(&point.entry) {
                self.let_go(&point.tenant, point.entry);
            }
        }
    }

    /// Compares the ten nearest to a stored vector as memory finds them, as the store's index does and as they are;
    /// returns the shares of memory and of the store, 0–1. `None` if there is nothing to compare.
    pub async fn measure_recall(&self) -> Option<(f64, f64)> {
        let search = self.residency.search.as_ref()?;
        let (partition, _) = self.points.any_partition()?;
        let points = self.points.of_partition(&partition);
        let sample = points.get(fastrand::usize(..points.len().max(1)))?;
        if !search.searches(&sample.tenant) {
            return None;
        }
        let stored = self.store.points_of(&sample.tenant, sample.entry).await.ok()?;
        let query = stored.iter().find(|point| point.fingerprint == sample.fingerprint)?.vector.clone()?;
        let space = self.embedder.space().to_string();
        let k = u32::try_from(NEIGHBOURS).unwrap_or(u32::MAX);
        let ask = |how| Question {
            tenant: &sample.tenant,
            partition: &partition,
            space: &space,
            query: &query,
            k,
            now: self.clock.now_ms(),
            how,
        };
        let truth = search.nearest(&ask(Search::Exact)).await.ok()?;
        let fast = search.nearest(&ask(Search::Fast)).await.ok()?;
        let (memory, _): (_, Kind) = self.points.nearest(&sample.tenant, &partition, &query, NEIGHBOURS);
        let truth: HashSet<_> = truth.into_iter().map(|near| near.point.id).collect();
        let share = |found: usize| if truth.is_empty() { 1.0 } else { found as f64 / truth.len() as f64 };
        let in_memory = memory.iter().filter(|near| truth.contains(&near.id)).count();
        let in_store = fast.iter().filter(|near| truth.contains(&near.point.id)).count();
        Some((share(in_memory), share(in_store)))
    }
}
