//! Entries behind the layer.
//!
//! Pages that were left empty because nothing on them opened are passed over: an empty page says that there is no more.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use super::super::{
    BoxFuture, Counts, Cursor, Entry, EntryFilter, EntryMeta, EntryStore, EntryWrite, Exported, Found, Loaded, Point,
    StoreError,
};
use super::cells::{seal_entry, seal_point};
use super::crypto::Key;
use super::keys::Held;
use super::{Layer, Sealed};
use crate::clock::UnixMs;
use crate::ids::{EntryId, TenantId};

/// Entries looked through at a time for a text.
const PAGE: u32 = 500;

/// What is to be done with something on its way in.
pub(super) enum Way {
    Clear,
    Seal(Arc<Key>),
    Drop,
}

impl Layer {
    pub(super) async fn way(&self, tenant: &TenantId) -> Result<Way, StoreError> {
        if !self.seals(tenant) {
            return Ok(Way::Clear);
        }
        match self.keys.of(tenant, true).await? {
            Held::Key(key) => Ok(Way::Seal(key)),
            Held::Shredded => Ok(Way::Drop),
            Held::None | Held::Broken => Err(StoreError::BadRow {
                table: "meta",
                detail: "the data key of a tenant is not opened by the master key".to_owned(),
            }),
        }
    }

    /// The writes with what is to be sealed sealed.
    pub(super) async fn sealed<'w>(&self, writes: &'w [EntryWrite]) -> Result<Cow<'w, [EntryWrite]>, StoreError> {
        let touches = |write: &EntryWrite| match write {
            EntryWrite::Put { entry, .. } => self.seals(&entry.tenant),
            EntryWrite::AddPoint(point) => self.seals(&point.tenant),
            _ => false,
        };
        if !writes.iter().any(touches) {
            return Ok(Cow::Borrowed(writes));
        }
        let mut out = Vec::with_capacity(writes.len());
        for write in writes {
            let tenant = match write {
                EntryWrite::Put { entry, .. } => &entry.tenant,
                EntryWrite::AddPoint(point) => &point.tenant,
                other => {
                    out.push(other.clone());
                    continue;
                }
            };
            match self.way(tenant).await? {
                Way::Clear => out.push(write.clone()),
                Way::Drop => self.count_dropped(),
                Way::Seal(key) => out.push(seal_write(&key, write)?),
            }
        }
        Ok(Cow::Owned(out))
    }

    async fn open_exported(&self, page: Vec<Exported>) -> Result<Vec<Exported>, StoreError> {
        let mut opened = Vec::with_capacity(page.len());
        for Exported { mut entry, points } in page {
            if self.open_entry(&mut entry).await?.is_err() {
                self.count_unreadable("answer", &entry.tenant);
                continue;
            }
            let points = self.open_points(points).await?;
            opened.push(Exported { entry, points });
        }
        Ok(opened)
    }

    /// Looks through the prompts here, because the database sees only sealed ones: the newest first, all of them.
    async fn search_opened(&self, tenant: Option<&TenantId>, text: &str, limit: u32) -> Result<Vec<Found>, StoreError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let wanted = text.to_ascii_lowercase();
        let mut found: Vec<(Point, EntryMeta)> = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let page = self.inner.entries.list(tenant, &EntryFilter::default(), after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.cursor());
            let keys: Vec<_> = page.into_iter().map(|meta| (meta.entry.tenant, meta.entry.id)).collect();
            for Loaded { meta, points } in self.open_loaded(self.inner.entries.load(&keys).await?).await? {
                let holds = |point: &Point| {
                    point.prompt.as_deref().is_some_and(|prompt| prompt.to_ascii_lowercase().contains(&wanted))
                };
                found.extend(points.into_iter().filter(holds).map(|point| (point, meta.clone())));
            }
            found.sort_by_key(|(point, _)| Reverse(point.id));
            found.truncate(most);
        }
        Ok(found.into_iter().filter_map(|(point, meta)| Some(Found { meta, prompt: point.prompt? })).collect())
    }
}

fn seal_write(key: &Key, write: &EntryWrite) -> Result<EntryWrite, StoreError> {
    Ok(match write {
        EntryWrite::Put { entry, points } => {
            // Points of others are not stored with it, and must not be sealed with its tenant's key.
            let own = points.iter().filter(|point| point.tenant == entry.tenant);
            let points = own.map(|point| seal_point(key, point)).collect::<Result<_, _>>()?;
            EntryWrite::Put { entry: Arc::new(seal_entry(key, entry)?), points }
        }
        EntryWrite::AddPoint(point) => EntryWrite::AddPoint(seal_point(key, point)?),
        other => other.clone(),
    })
}

impl EntryStore for Sealed {
    fn apply<'a>(&'a self, writes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let sealed = self.0.sealed(writes).await?;
            self.0.inner.entries.apply(&sealed).await
        })
    }

    fn entry<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Option<Entry>> {
        Box::pin(async move {
            let Some(mut entry) = self.0.inner.entries.entry(tenant, id).await? else { return Ok(None) };
            if self.0.open_entry(&mut entry).await?.is_err() {
                self.0.count_unreadable("answer", tenant);
                let detail = "a sealed answer does not open: another key, another row, or damage".to_owned();
                return Err(StoreError::BadRow { table: "bodies", detail });
            }
            Ok(Some(entry))
        })
    }

    fn points_of<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Vec<Point>> {
        Box::pin(async move {
            let points = self.0.inner.entries.points_of(tenant, id).await?;
            self.0.open_points(points).await
        })
    }

    fn scan<'a>(&'a self, now: UnixMs, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            let mut after = after.cloned();
            loop {
                let page = self.0.inner.entries.scan(now, after.as_ref(), limit).await?;
                let Some(last) = page.last() else { return Ok(page) };
                after = Some(last.meta.cursor());
                let opened = self.0.open_loaded(page).await?;
                if !opened.is_empty() {
                    return Ok(opened);
                }
            }
        })
    }

    fn list<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        filter: &'a EntryFilter,
        after: Option<&'a Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<EntryMeta>> {
        Box::pin(async move {
            let mut page = self.0.inner.entries.list(tenant, filter, after, limit).await?;
            page.iter_mut().for_each(|meta| self.0.clear_length(meta));
            Ok(page)
        })
    }

    fn search<'a>(&'a self, tenant: Option<&'a TenantId>, text: &'a str, limit: u32) -> BoxFuture<'a, Vec<Found>> {
        Box::pin(async move {
            if tenant.is_some_and(|tenant| !self.0.may_be_sealed(tenant)) {
                return self.0.inner.entries.search(tenant, text, limit).await;
            }
            self.0.search_opened(tenant, text, limit).await
        })
    }

    fn expired(&self, now: UnixMs, limit: u32) -> BoxFuture<'_, Vec<(TenantId, EntryId)>> {
        self.0.inner.entries.expired(now, limit)
    }

    fn load<'a>(&'a self, keys: &'a [(TenantId, EntryId)]) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            let loaded = self.0.inner.entries.load(keys).await?;
            self.0.open_loaded(loaded).await
        })
    }

    fn export<'a>(&'a self, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(async move {
            let mut after = after.cloned();
            loop {
                let page = self.0.inner.entries.export(after.as_ref(), limit).await?;
                let Some(last) = page.last() else { return Ok(page) };
                after = Some(Cursor { tenant: last.entry.tenant.clone(), entry: last.entry.id });
                let opened = self.0.open_exported(page).await?;
                if !opened.is_empty() {
                    return Ok(opened);
                }
            }
        })
    }

    fn counts(&self) -> BoxFuture<'_, Counts> {
        self.0.inner.entries.counts()
    }

    fn purge(&self) -> BoxFuture<'_, ()> {
        self.0.inner.entries.purge()
    }
}
