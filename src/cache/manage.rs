//! Keeping the cache: loading it at start, sweeping what has expired, listing, measuring.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::{JoinError, JoinHandle};

use super::commit::meta_of;
use super::invalidate::{Facts, Filter};
use super::{Cache, Meta, NEIGHBOURS};
use crate::clock::UnixMs;
use crate::ids::{EntryId, TenantId};
use crate::store::{Cursor, EntryWrite, Loaded, Point, StoreError};

/// Entries read from the store at a time while loading.
const PAGE: u32 = 2_000;

/// Learners saved in one transaction.
const LEARNERS: usize = 16;

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
        let space = self.embedder.space().to_string();
        if let Some(chosen) = self.choose_partitions().await? {
            let mut loaded = 0;
            for (tenant, partition) in chosen {
                loaded += self.load_partition(&tenant, &partition).await?;
            }
            self.loaded.store(true, Ordering::Release);
            return Ok(loaded);
        }
        let mut loaded = 0;
        let mut next = self.read_page(now, None);
        loop {
            let page = next.await??;
            let Some(last) = page.last() else {
                self.loaded.store(true, Ordering::Release);
                return Ok(loaded);
            };
            // Reading and taking in cost about the same; done at once, a start takes little more than half as long.
            next = self.read_page(now, Some(last.meta.cursor()));
            page.iter().for_each(|entry| self.load_one(entry, &space));
            loaded += page.len();
        }
    }

    pub(super) fn read_page(&self, now: UnixMs, after: Option<Cursor>) -> JoinHandle<Result<Vec<Loaded>, StoreError>> {
        let store = Arc::clone(&self.store);
        tokio::spawn(async move { store.scan(now, after.as_ref(), PAGE).await })
    }

    fn load_one(&self, Loaded { meta, points }: &Loaded, space: &str) {
        let meta = meta_of(&meta.entry, meta.body_len, points);
        for point in points {
            if self.add_point(&comparable(point, space)).is_err() {
                tracing::warn!(point = %point.id, "a stored vector cannot be used; its entry is exact only");
            }
        }
        let (writer, id, bytes) = (meta.writer.clone(), meta.id, meta.bytes);
        let gone = self.shelf.put(meta);
        self.drop_all(&gone);
        self.count_loaded(&writer, id, bytes);
    }

    /// Takes over an entry that another replica has stored or changed.
    pub(super) fn learn_of(&self, Loaded { meta, points }: &Loaded, space: &str) {
        let meta = meta_of(&meta.entry, meta.body_len, points);
        for point in points {
            if self.add_point(&comparable(point, space)).is_err() {
                tracing::warn!(point = %point.id, "a stored vector cannot be used; its entry is exact only");
            }
        }
        let (writer, id, bytes) = (meta.writer.clone(), meta.id, meta.bytes);
        let gone = self.shelf.join(meta);
        self.drop_all(&gone);
        self.count_loaded(&writer, id, bytes);
    }

    /// Brings back what was learnt; returns how many learners there are.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load_learners(&self) -> Result<usize, LoadError> {
        let rows = self.decisions.learned().await?;
        let saved = rows.len();
        Ok(saved - self.learners.restore(rows))
    }

    /// Makes fits that are due; returns how many. Runs on a blocking thread.
    pub fn teach(&self) -> usize {
        self.learners.upkeep()
    }

    /// Saves what has been learnt since the last time.
    pub async fn save_learners(&self) {
        let rows = self.learners.unsaved(self.clock.now_ms());
        for some in rows.chunks(LEARNERS) {
            if let Err(error) = self.decisions.save_learned(some).await {
                tracing::warn!(%error, "what was learnt cannot be saved now");
                self.learners.not_saved(some);
            }
        }
    }

    /// Forgets what was learnt from a tenant's traffic, and its decisions, here and in the store; returns how many.
    ///
    /// # Errors
    /// The store failed; the same call completes it.
    pub async fn forget_tenant(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        self.learners.forget(tenant);
        let mut all = 0;
        loop {
            let some = self.decisions.forget_tenant(tenant, PAGE).await?;
            all += some;
            if some < u64::from(PAGE) {
                return Ok(all);
            }
        }
    }

    /// Forgets decisions that are older than the configuration keeps them; returns how many.
    pub async fn forget_decisions(&self) -> u64 {
        let kept = u64::try_from(self.settings.keep_decisions.as_millis()).unwrap_or(u64::MAX);
        let before = self.clock.now_ms().saturating_sub(kept);
        self.decisions.forget(before, PAGE).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "old decisions cannot be forgotten now");
            0
        })
    }

    /// Removes entries that have expired, here and in the store; returns their number.
    pub fn sweep(&self) -> usize {
        let now = self.clock.now_ms();
        let expired = self.shelf.select(|meta| meta.expires_at <= now);
        self.take_out(&expired);
        self.tidy_writers();
        expired.len()
    }

    /// Live entries, newest first, before `cursor`. Looks at the metadata only: `tier` and what is asked of texts and
    /// points makes no difference here.
    pub fn list(&self, filter: &Filter, cursor: Option<EntryId>, limit: usize) -> Vec<Arc<Meta>> {
        let now = self.clock.now_ms();
        let mut found = self.shelf.select(|meta| {
            now < meta.expires_at
                && filter.holds(&Facts::from(meta), now)
                && cursor.is_none_or(|cursor| meta.id < cursor)
        });
        found.reverse();
        found.truncate(limit);
        found
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
}

/// The point, without its vector if that is of another embedding space, though it may have as many components.
fn comparable<'a>(point: &'a Point, space: &str) -> Cow<'a, Point> {
    match &point.space {
        Some(own) if own != space => Cow::Owned(Point { vector: None, ..point.clone() }),
        _ => Cow::Borrowed(point),
    }
}
