//! Encryption at rest: a layer over any database that seals prompts, answers and vectors of chosen tenants on their way
//! in, each with its tenant's own data key, and opens them on their way out.
//!
//! Invariants:
//! - The database never has the clear text or the vector of a tenant that is sealed.
//! - What does not open (another key, another row, a changed bit) is never handed out: reads of one thing fail, scans
//!   leave it out and count it, so that a broken row does not stop a start.
//! - A tenant whose key was shredded stores nothing: what comes late is dropped and counted.
//! - Entries that were stored in the clear before are still read.
//!
//! It must never: write a key that is not wrapped, or keep in its own memory what it has opened.
//!
//! Sealed vectors cannot be searched by the database, so partitions of such tenants must be in memory: see
//! [`SearchStore::searches`](super::SearchStore::searches).

mod cells;
mod crypto;
mod entries;
mod keys;
mod others;
mod rem;
mod rotate;
#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::cells::Closed;
pub use self::cells::is_sealed;
use self::keys::{Held, Keys};
pub use self::keys::{KEY_NOTES, MASTER_NOTE, is_shredded, key_id};
pub use self::rotate::{RotateError, Rotated, reopen, rotate, shred};
use super::{DecisionRow, Entry, Loaded, Point, StoreError, Stores};
use crate::clock::UnixMs;
use crate::config::{MasterKey, Seal};
use crate::ids::TenantId;

/// Why the data cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The database holds sealed data, and there is no master key.
    #[error(
        "the database holds sealed data and there is no master key: name it by [store] master_key_env or master_key_file"
    )]
    NoMaster,
    /// The master key is not the one of this database.
    #[error(
        "the master key is not the one that the data keys in this database are wrapped with: give [store] \
         master_key_env or master_key_file the right one; while it is being rotated, give the old one too, as \
         previous_master_key_env or previous_master_key_file"
    )]
    WrongMaster,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the layer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealStats {
    /// Tenants that have, or had, a data key.
    pub tenants: usize,
    /// Cells that did not open.
    pub unreadable: u64,
    /// Writes dropped because the tenant's key was shredded.
    pub dropped: u64,
}

/// A database behind the layer; cheap to clone.
#[derive(Clone)]
pub struct Sealed(Arc<Layer>);

struct Layer {
    inner: Stores,
    seal: Seal,
    keys: Keys,
    unreadable: AtomicU64,
    dropped: AtomicU64,
}

impl Sealed {
    /// Puts the layer over a database. `None` if there is nothing to seal and nothing sealed.
    ///
    /// # Errors
    /// See [`SealError`]; nothing was changed.
    pub async fn over(
        inner: &Stores,
        seal: &Seal,
        master: Option<&MasterKey>,
        previous: Option<&MasterKey>,
    ) -> Result<Option<Self>, SealError> {
        let Some(master) = master else {
            let notes = inner.notes.notes_of(KEY_NOTES).await?;
            let sealed = notes.iter().any(|(name, text)| name != MASTER_NOTE && !is_shredded(text));
            return if sealed || *seal != Seal::None { Err(SealError::NoMaster) } else { Ok(None) };
        };
        let keys = Keys::open(Arc::clone(&inner.notes), master, previous).await?;
        let keys = keys.map_err(|_| SealError::WrongMaster)?;
        Ok(Some(Self(Arc::new(Layer {
            inner: inner.clone(),
            seal: seal.clone(),
            keys,
            unreadable: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }))))
    }

    /// The database as the program sees it.
    pub fn stores(&self) -> Stores {
        let inner = &self.0.inner;
        Stores {
            entries: Arc::new(self.clone()),
            audit: Arc::new(self.clone()),
            decisions: Arc::new(self.clone()),
            changes: inner.changes.is_some().then(|| Arc::new(self.clone()) as _),
            search: inner.search.is_some().then(|| Arc::new(self.clone()) as _),
            rem: inner.rem.is_some().then(|| Arc::new(self.clone()) as _),
            sql: inner.sql.is_some().then(|| Arc::new(self.clone()) as _),
            ..inner.clone()
        }
    }

    /// Counters now.
    pub fn stats(&self) -> SealStats {
        SealStats {
            tenants: self.0.keys.known(),
            unreadable: self.0.unreadable.load(Ordering::Relaxed),
            dropped: self.0.dropped.load(Ordering::Relaxed),
        }
    }

    /// Shreds the data key of a tenant that has one or would get one; returns whether it did. From then on nothing of it
    /// opens and nothing is stored for it.
    ///
    /// # Errors
    /// The database failed; the same call completes it.
    pub async fn shred(&self, tenant: &TenantId, now: UnixMs) -> Result<bool, StoreError> {
        let always = self.0.seals(tenant);
        let shredded = shred(&self.0.inner, tenant, always, now).await;
        self.0.keys.forget();
        shredded
    }
}

impl Layer {
    fn seals(&self, tenant: &TenantId) -> bool {
        self.seal.covers(tenant.as_str())
    }

    /// Whether something of this tenant may be sealed.
    fn may_be_sealed(&self, tenant: &TenantId) -> bool {
        self.seals(tenant) || self.keys.knows(tenant)
    }

    fn count_unreadable(&self, what: &'static str, tenant: &TenantId) {
        if self.unreadable.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(what, %tenant, "a sealed cell does not open and is left out; more are only counted");
        }
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    async fn open_with<T>(
        &self,
        tenant: &TenantId,
        row: &mut T,
        open: fn(&crypto::Key, &mut T) -> Result<(), Closed>,
    ) -> Result<Result<(), Closed>, StoreError> {
        Ok(match self.keys.of(tenant, false).await? {
            Held::Key(key) => open(&key, row),
            Held::None | Held::Shredded | Held::Broken => Err(Closed),
        })
    }

    async fn open_entry(&self, entry: &mut Entry) -> Result<Result<(), Closed>, StoreError> {
        if !cells::is_sealed_body(&entry.body) {
            return Ok(Ok(()));
        }
        let tenant = entry.tenant.clone();
        self.open_with(&tenant, entry, cells::open_entry).await
    }

    /// Opens points; those that do not open are left out and counted.
    async fn open_points(&self, points: Vec<Point>) -> Result<Vec<Point>, StoreError> {
        let mut opened = Vec::with_capacity(points.len());
        for mut point in points {
            if cells::is_sealed_text(point.prompt.as_deref()) {
                let tenant = point.tenant.clone();
                if self.open_with(&tenant, &mut point, cells::open_point).await?.is_err() {
                    self.count_unreadable("point", &tenant);
                    continue;
                }
            }
            opened.push(point);
        }
        Ok(opened)
    }

    /// Opens entries; one that has lost all of its points is left out.
    async fn open_loaded(&self, page: Vec<Loaded>) -> Result<Vec<Loaded>, StoreError> {
        let mut opened = Vec::with_capacity(page.len());
        for Loaded { mut meta, points } in page {
            let had = !points.is_empty();
            let points = self.open_points(points).await?;
            if had && points.is_empty() {
                continue;
            }
            self.clear_length(&mut meta);
            opened.push(Loaded { meta, points });
        }
        Ok(opened)
    }

    /// Length of the body without what sealing adds. An entry that was stored in the clear before its tenant was sealed
    /// counts as that much shorter, for which nothing but the account of memory is.
    fn clear_length(&self, meta: &mut super::EntryMeta) {
        if self.may_be_sealed(&meta.entry.tenant) {
            meta.body_len = meta.body_len.saturating_sub(crypto::OVERHEAD);
        }
    }

    /// A decision whose prompt does not open is one without a prompt.
    async fn open_decisions(&self, rows: &mut [DecisionRow]) -> Result<(), StoreError> {
        for row in rows {
            if cells::is_sealed_text(row.prompt.as_deref()) {
                let tenant = row.tenant.clone();
                if self.open_with(&tenant, row, cells::open_decision).await?.is_err() {
                    self.count_unreadable("decision", &tenant);
                    row.prompt = None;
                }
            }
        }
        Ok(())
    }
}
