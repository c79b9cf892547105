//! Keeping the cache: loading it at start, sweeping what has expired, invalidating, measuring.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use super::commit::meta_of;
use super::{Cache, Meta, NEIGHBOURS};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, TenantId};
use crate::store::{Cursor, EntryFilter, EntryMeta, EntryWrite, Loaded, StoreError};

/// Entries read from the store at a time while loading.
const PAGE: u32 = 2_000;
/// Longest wait for queued writes before an invalidation is written.
const FLUSH: Duration = Duration::from_secs(5);

/// Loading failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task that reads it ended early.
    #[error("loading the cache was interrupted: {0}")]
    Interrupted(#[from] JoinError),
}

/// Which entries are meant. All parts that are given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Owner.
    pub tenant: Option<TenantId>,
    /// This entry.
    pub id: Option<EntryId>,
    /// Model asked for.
    pub model: Option<String>,
    /// `x-remora-namespace`.
    pub namespace: Option<String>,
    /// One of `x-remora-tags`.
    pub tag: Option<(String, String)>,
    /// Key whose requests made them.
    pub writer: Option<String>,
    /// At least this old.
    pub older_than: Option<Duration>,
    /// Really all, if nothing else is given.
    pub all: bool,
}

impl Filter {
    /// Whether nothing narrows the filter.
    pub fn is_open(&self) -> bool {
        *self == Self { all: self.all, ..Self::default() }
    }

    fn holds(&self, meta: &Meta, now: u64) -> bool {
        let age = Duration::from_millis(now.saturating_sub(meta.created_at));
        self.tenant.as_ref().is_none_or(|tenant| *tenant == meta.tenant)
            && self.id.is_none_or(|id| id == meta.id)
            && self.model.as_deref().is_none_or(|model| *model == *meta.model)
            && self.namespace.as_deref().is_none_or(|namespace| *namespace == *meta.namespace)
            && self.tag.as_ref().is_none_or(|tag| meta.tags.contains(tag))
            && self.writer.as_deref().is_none_or(|writer| writer == meta.writer.as_str())
            && self.older_than.is_none_or(|least| age >= least)
    }
}

/// Sizes for metrics and `cache stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Live entries.
    pub entries: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bodies in memory.
    pub resident: usize,
    /// Their bytes.
    pub resident_bytes: u64,
    /// Vectors and their indexes.
    pub index: super::IndexSize,
}

impl Cache {
    /// Fills the empty cache from the store; returns the number of entries. What does not fit the size caps any more
    /// is deleted, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(&self) -> Result<usize, LoadError> {
        let now = self.clock.now_ms();
        let mut loaded = 0;
        let mut next = self.read_page(now, None);
        loop {
            let page = next.await??;
            let Some(last) = page.last() else { return Ok(loaded) };
            // Reading and taking in cost about the same; done at once, a start takes little more than half as long.
            next = self.read_page(now, Some(last.meta.cursor()));
            page.iter().for_each(|entry| self.load_one(entry));
            loaded += page.len();
        }
    }

    fn read_page(&self, now: UnixMs, after: Option<Cursor>) -> JoinHandle<Result<Vec<Loaded>, StoreError>> {
        let store = Arc::clone(&self.store);
        tokio::spawn(async move { store.scan(now, after.as_ref(), PAGE).await })
    }

    fn load_one(&self, Loaded { meta, points }: &Loaded) {
        let meta = meta_of(&meta.entry, meta.body_len, points);
        for point in points {
            if self.add_point(point).is_err() {
                tracing::warn!(point = %point.id, "a stored vector cannot be used; its entry is exact only");
            }
        }
        let gone = self.shelf.put(meta);
        self.drop_all(&gone);
    }

    /// Removes entries that have expired, here and in the store; returns their number.
    pub fn sweep(&self) -> usize {
        let now = self.clock.now_ms();
        let expired = self.shelf.select(|meta| meta.expires_at <= now);
        self.take_out(&expired);
        expired.len()
    }

    /// The entries that the filter means, oldest first.
    pub fn select(&self, filter: &Filter) -> Vec<Arc<Meta>> {
        let now = self.clock.now_ms();
        if filter.is_open() && !filter.all {
            return Vec::new();
        }
        self.shelf.select(|meta| now < meta.expires_at && filter.holds(meta, now))
    }

    /// Live entries of a tenant or of all, newest first, before `cursor`.
    pub fn list(&self, filter: &Filter, cursor: Option<EntryId>, limit: usize) -> Vec<Arc<Meta>> {
        let now = self.clock.now_ms();
        let mut found = self.shelf.select(|meta| {
            now < meta.expires_at && filter.holds(meta, now) && cursor.is_none_or(|cursor| meta.id < cursor)
        });
        found.reverse();
        found.truncate(limit);
        found
    }

    /// Removes entries at once: when this returns they are neither served nor in the store.
    ///
    /// # Errors
    /// The store could not be written; the entries are no longer served but may come back with a restart.
    pub async fn invalidate(&self, filter: &Filter) -> Result<usize, StoreError> {
        let found = self.select(filter);
        for meta in &found {
            self.forget(meta);
        }
        // What is queued for them must be written first, or it would bring them back.
        if let Err(error) = self.writer.flush(FLUSH).await {
            tracing::warn!(reason = error.as_str(), "the write queue could not be emptied before an invalidation");
        }
        let deletes: Vec<EntryWrite> = found.iter().map(|meta| delete_of(meta)).collect();
        for batch in deletes.chunks(PAGE as usize) {
            self.store.apply(batch).await?;
        }
        if filter.id.is_none() && (filter.all || !filter.is_open()) {
            self.remove_strays(filter).await?;
        }
        Ok(found.len())
    }

    /// Removes entries that the filter means from the store that are not on the shelf: when the write queue is full, what
    /// is evicted stays there, and would be served again after a restart.
    async fn remove_strays(&self, filter: &Filter) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let stored = EntryFilter {
            model: filter.model.clone(),
            namespace: filter.namespace.clone(),
            tag: filter.tag.clone(),
            writer: filter.writer.as_deref().map(KeyId::new),
        };
        let old_enough = |created: u64| {
            filter.older_than.is_none_or(|least| Duration::from_millis(now.saturating_sub(created)) >= least)
        };
        let mut after = None;
        loop {
            let page = self.store.list(filter.tenant.as_ref(), &stored, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.cursor());
            let stray = |meta: &&EntryMeta| {
                old_enough(meta.entry.created_at) && self.shelf.get(&meta.entry.tenant, meta.entry.id, now).is_none()
            };
            let strays = page.iter().filter(stray).map(|meta| &meta.entry);
            let deletes: Vec<EntryWrite> =
                strays.map(|entry| EntryWrite::Delete { tenant: entry.tenant.clone(), entry: entry.id }).collect();
            self.store.apply(&deletes).await?;
        }
    }

    /// Removes from the store what has expired there and is not on the shelf: what ended while the program was down, or
    /// whose deletion found the queue full.
    pub async fn sweep_store(&self) {
        match self.store.expired(self.clock.now_ms(), PAGE).await {
            Ok(expired) => {
                for (tenant, entry) in expired {
                    if self.writer.entry(EntryWrite::Delete { tenant, entry }).is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "expired entries cannot be looked for in the store now"),
        }
    }

    /// Upkeep of the indexes; runs on a blocking thread.
    pub fn maintain_index(&self) -> usize {
        self.points.maintain()
    }

    /// Sizes now. Visits every entry and partition.
    pub fn sizes(&self) -> Sizes {
        let (entries, bytes) = self.shelf.size();
        let (resident, resident_bytes) = self.shelf.resident();
        Sizes { entries, bytes, resident, resident_bytes, index: self.points.size() }
    }

    /// Prompts that lead to the entry.
    pub fn prompts(&self, meta: &Meta) -> Vec<String> {
        let of = |id| self.points.get(&meta.tenant, id).map(|point| point.prompt.to_string());
        meta.points.iter().take(NEIGHBOURS).filter_map(|id| of(*id)).collect()
    }

    fn take_out(&self, metas: &[Arc<Meta>]) {
        for meta in metas {
            self.forget(meta);
            if self.writer.entry(delete_of(meta)).is_err() {
                // It has expired or been evicted; the next sweep of the store finds it again.
                tracing::debug!(entry = %meta.id, "the write queue is full: a removed entry stays in the store for now");
            }
        }
    }

    fn forget(&self, meta: &Meta) {
        self.shelf.forget(&meta.tenant, meta.id);
        self.points.remove(&meta.points);
    }
}

fn delete_of(meta: &Meta) -> EntryWrite {
    EntryWrite::Delete { tenant: meta.tenant.clone(), entry: meta.id }
}
