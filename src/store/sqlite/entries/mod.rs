//! Answers and the points that lead to them.
//!
//! The tenant leads every primary key, and every statement that takes an entry id takes the tenant with it.

mod writes;

use std::future::poll_fn;

use futures_core::stream::BoxStream;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{query, query_scalar};

use self::writes::of_entry;
use super::super::read::{Reader, meta_columns, point_columns};
use super::super::{
    BoxFuture, Counts, Cursor, Entry, EntryFilter, EntryMeta, EntryStore, EntryWrite, Exported, Found, Loaded, Point,
    StoreError,
};
use super::SqliteStore;
use super::cells::{Cells, stored};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, TenantId};

/// The conditions of an [`EntryFilter`] and of the cursor; a condition that is `NULL` holds always.
macro_rules! filter {
    () => {
        "(?1 IS NULL OR e.model = ?1) AND (?2 IS NULL OR e.namespace = ?2) AND (?3 IS NULL OR e.writer = ?3) \
         AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(e.tags) AS t \
              WHERE t.value ->> 0 = ?4 AND t.value ->> 1 = ?5)) \
         AND (?6 IS NULL OR (e.id, e.tenant) < (?6, ?7)) "
    };
}

const ENTRY: &str = concat!(
    "SELECT ",
    meta_columns!(),
    ", b.body FROM entries AS e JOIN bodies AS b ON b.tenant = e.tenant AND b.entry = e.id ",
    "WHERE e.tenant = ?1 AND e.id = ?2"
);
const POINTS_OF: &str =
    concat!("SELECT ", point_columns!(), " FROM points AS p WHERE p.tenant = ?1 AND p.entry = ?2 ORDER BY p.id");

const SCAN_ENTRIES: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE (e.tenant, e.id) > (?1, ?2) AND e.expires_at > ?3 ORDER BY e.tenant, e.id LIMIT ?4"
);
const SCAN_POINTS: &str = concat!(
    "SELECT ",
    point_columns!(),
    " FROM points AS p WHERE (p.tenant, p.entry) >= (?1, ?2) AND (p.tenant, p.entry) <= (?3, ?4) ",
    "ORDER BY p.tenant, p.entry, p.id"
);

const META: &str = concat!("SELECT ", meta_columns!(), " FROM entries AS e WHERE e.tenant = ?1 AND e.id = ?2");
const BODY: &str = "SELECT body FROM bodies WHERE tenant = ?1 AND entry = ?2";
const EXPORT: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE (e.tenant, e.id) > (?1, ?2) ORDER BY e.tenant, e.id LIMIT ?3"
);

/// Entries that no row of REM data stands for.
macro_rules! without_row {
    ($with:literal, $of:literal) => {
        concat!(
            $with,
            "SELECT ",
            meta_columns!(),
            " FROM ",
            $of,
            " AND (e.tenant, e.id) > (?1, ?2) AND e.expires_at > ?4 AND e.dialect <> 'embeddings' \
             AND NOT EXISTS (SELECT 1 FROM rem_rows AS r WHERE r.tenant = e.tenant AND r.entry = e.id) \
             ORDER BY e.tenant, e.id LIMIT ?3"
        )
    };
}
const WITHOUT_ROW: &str = without_row!("", "entries AS e WHERE true");
/// Of these identities, a range for each tenant: the first column of the index is gone through step by step.
pub(super) const NEW_WITHOUT_ROW: &str = without_row!(
    "WITH RECURSIVE c (tenant) AS (SELECT min(tenant) FROM entries WHERE tenant >= ?1 UNION ALL \
        SELECT (SELECT min(tenant) FROM entries WHERE tenant > c.tenant) FROM c WHERE c.tenant IS NOT NULL) ",
    "c CROSS JOIN entries AS e ON e.tenant = c.tenant AND e.id >= ?5 WHERE true"
);

const LIST_ALL: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE ",
    filter!(),
    "ORDER BY e.id DESC, e.tenant DESC LIMIT ?8"
);
const LIST_TENANT: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE ",
    filter!(),
    "AND e.tenant = ?9 ORDER BY e.id DESC LIMIT ?8"
);

const SEARCH_ALL: &str = concat!(
    "SELECT ",
    meta_columns!(),
    ", p.prompt FROM points AS p JOIN entries AS e ON e.tenant = p.tenant AND e.id = p.entry ",
    "WHERE p.prompt LIKE ?1 ESCAPE '\\' ORDER BY p.id DESC LIMIT ?2"
);
const SEARCH_TENANT: &str = concat!(
    "SELECT ",
    meta_columns!(),
    ", p.prompt FROM points AS p JOIN entries AS e ON e.tenant = p.tenant AND e.id = p.entry ",
    "WHERE p.tenant = ?3 AND p.prompt LIKE ?1 ESCAPE '\\' ORDER BY p.id DESC LIMIT ?2"
);

const EXPIRED: &str = "SELECT tenant, id FROM entries WHERE expires_at <= ?1 ORDER BY expires_at, tenant, id LIMIT ?2";
const COUNTS: &str = "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM points)";
/// Deleted words stay in the index of words until its parts are merged.
const MERGE_WORDS: &str = "INSERT INTO rem_words (rem_words) VALUES ('optimize')";
const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

impl EntryStore for SqliteStore {
    fn apply<'a>(&'a self, writes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if writes.is_empty() {
                return Ok(());
            }
            let mut transaction = self.begin_write().await?;
            for write in writes {
                self.apply_one(&mut transaction, write).await?;
            }
            self.commit(transaction).await
        })
    }

    fn entry<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Option<Entry>> {
        Box::pin(async move {
            let row = query(ENTRY)
                .bind(tenant.as_str())
                .bind(&id.to_bytes()[..])
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            row.map(|row| Reader::default().entry(&row)).transpose()
        })
    }

    fn points_of<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Vec<Point>> {
        Box::pin(async move {
            let rows = query(POINTS_OF)
                .bind(tenant.as_str())
                .bind(&id.to_bytes()[..])
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            let mut reader = Reader::default();
            rows.iter().map(|row| reader.point(&mut Cells::of("points", row))).collect()
        })
    }

    fn scan<'a>(&'a self, now: UnixMs, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            // One snapshot, so that an entry is never seen with the points of another moment.
            let mut snapshot = self.begin_read().await?;
            let mut reader = Reader::default();
            let entries = self.scan_entries(&mut snapshot, &mut reader, now, after, limit).await?;
            let mut loaded: Vec<Loaded> = entries.into_iter().map(|meta| Loaded { meta, points: Vec::new() }).collect();
            self.scan_points(&mut snapshot, &mut reader, &mut loaded).await?;
            self.commit(snapshot).await?;
            Ok(loaded)
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
            let after_id = after.map(|cursor| cursor.entry.to_bytes());
            let mut statement = query(if tenant.is_some() { LIST_TENANT } else { LIST_ALL })
                .bind(&filter.model)
                .bind(&filter.namespace)
                .bind(filter.writer.as_ref().map(KeyId::as_str))
                .bind(filter.tag.as_ref().map(|(name, _)| name))
                .bind(filter.tag.as_ref().map(|(_, value)| value))
                .bind(after_id.as_ref().map(|id| &id[..]))
                .bind(after.map(|cursor| cursor.tenant.as_str()))
                .bind(limit);
            if let Some(tenant) = tenant {
                statement = statement.bind(tenant.as_str());
            }
            let rows = statement.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            let mut reader = Reader::default();
            rows.iter().map(|row| reader.meta(&mut Cells::of("entries", row))).collect()
        })
    }

    fn search<'a>(&'a self, tenant: Option<&'a TenantId>, text: &'a str, limit: u32) -> BoxFuture<'a, Vec<Found>> {
        Box::pin(async move {
            let mut statement =
                query(if tenant.is_some() { SEARCH_TENANT } else { SEARCH_ALL }).bind(containing(text)).bind(limit);
            if let Some(tenant) = tenant {
                statement = statement.bind(tenant.as_str());
            }
            let rows = statement.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            let mut reader = Reader::default();
            rows.iter().map(|row| reader.found(row)).collect()
        })
    }

    fn expired(&self, now: UnixMs, limit: u32) -> BoxFuture<'_, Vec<(TenantId, EntryId)>> {
        Box::pin(async move {
            let rows = query(EXPIRED)
                .bind(stored(now))
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            let mut reader = Reader::default();
            rows.iter().map(|row| reader.key(&mut Cells::of("entries", row))).collect()
        })
    }

    fn load<'a>(&'a self, keys: &'a [(TenantId, EntryId)]) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let mut reader = Reader::default();
            let mut loaded = Vec::with_capacity(keys.len());
            for (tenant, id) in keys {
                let row = of_entry(META, tenant, *id).fetch_optional(&mut *snapshot).await;
                let Some(row) = row.map_err(|error| self.fault(error))? else { continue };
                let meta = reader.meta(&mut Cells::of("entries", &row))?;
                let rows = of_entry(POINTS_OF, tenant, *id).fetch_all(&mut *snapshot).await;
                let rows = rows.map_err(|error| self.fault(error))?;
                let points =
                    rows.iter().map(|row| reader.point(&mut Cells::of("points", row))).collect::<Result<_, _>>()?;
                loaded.push(Loaded { meta, points });
            }
            self.commit(snapshot).await?;
            Ok(loaded)
        })
    }

    fn export<'a>(&'a self, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let mut reader = Reader::default();
            let entries = self.export_entries(&mut snapshot, &mut reader, after, limit).await?;
            let exported = self.whole(&mut snapshot, &mut reader, entries).await?;
            self.commit(snapshot).await?;
            Ok(exported)
        })
    }

    fn counts(&self) -> BoxFuture<'_, Counts> {
        Box::pin(async move {
            let row = query(COUNTS).fetch_one(&self.readers).await.map_err(|error| self.fault(error))?;
            let mut cells = Cells::of("entries", &row);
            Ok(Counts { entries: cells.count()?, points: cells.count()? })
        })
    }

    /// Deleted rows are overwritten in the file as they are deleted; what is left are words, whose index is merged here, and the log,
    /// which is emptied.
    fn purge(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            query(MERGE_WORDS).execute(&self.writer).await.map_err(|error| self.fault(error))?;
            let blocked: i64 =
                query_scalar(EMPTY_LOG).fetch_one(&self.writer).await.map_err(|error| self.fault(error))?;
            if blocked == 0 { Ok(()) } else { Err(StoreError::Busy { place: self.path.display().to_string() }) }
        })
    }
}

impl SqliteStore {
    /// Entries without a row of REM data, as in an export.
    pub(super) async fn export_without_row(
        &self,
        snapshot: &mut SqliteConnection,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Exported>, StoreError> {
        let mut reader = Reader::default();
        let (tenant, id) = from(after);
        let asked = query(if since.is_some() { NEW_WITHOUT_ROW } else { WITHOUT_ROW });
        let mut asked = asked.bind(tenant).bind(id).bind(limit).bind(stored(now));
        if let Some(since) = since {
            asked = asked.bind(since.to_bytes().to_vec());
        }
        let rows = asked.fetch_all(&mut *snapshot).await.map_err(|error| self.fault(error))?;
        let entries = rows.iter().map(|row| reader.meta(&mut Cells::of("entries", row))).collect::<Result<_, _>>()?;
        self.whole(snapshot, &mut reader, entries).await
    }

    /// Entries with their points and bodies.
    async fn whole(
        &self,
        snapshot: &mut SqliteConnection,
        reader: &mut Reader,
        entries: Vec<EntryMeta>,
    ) -> Result<Vec<Exported>, StoreError> {
        let mut loaded: Vec<Loaded> = entries.into_iter().map(|meta| Loaded { meta, points: Vec::new() }).collect();
        self.scan_points(snapshot, reader, &mut loaded).await?;
        let mut exported = Vec::with_capacity(loaded.len());
        for Loaded { meta, points } in loaded {
            let body: Vec<u8> = query_scalar(BODY)
                .bind(meta.entry.tenant.as_str())
                .bind(&meta.entry.id.to_bytes()[..])
                .fetch_one(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            exported.push(Exported { entry: Entry { body: body.into(), ..meta.entry }, points });
        }
        Ok(exported)
    }

    async fn export_entries(
        &self,
        snapshot: &mut SqliteConnection,
        reader: &mut Reader,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<EntryMeta>, StoreError> {
        let (tenant, id) = from(after);
        let rows = query(EXPORT).bind(tenant).bind(id).bind(limit).fetch_all(snapshot).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        rows.iter().map(|row| reader.meta(&mut Cells::of("entries", row))).collect()
    }

    async fn scan_entries(
        &self,
        snapshot: &mut SqliteConnection,
        reader: &mut Reader,
        now: UnixMs,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<EntryMeta>, StoreError> {
        let (tenant, id) = from(after);
        let mut rows = query(SCAN_ENTRIES).bind(tenant).bind(id).bind(stored(now)).bind(limit).fetch(snapshot);
        let mut entries = Vec::new();
        while let Some(row) = next(&mut rows).await {
            let row = row.map_err(|error| self.fault(error))?;
            entries.push(reader.meta(&mut Cells::of("entries", &row))?);
        }
        Ok(entries)
    }

    /// Hands each entry its points. Both come in the order of tenant and entry.
    async fn scan_points(
        &self,
        snapshot: &mut SqliteConnection,
        reader: &mut Reader,
        loaded: &mut [Loaded],
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (loaded.first(), loaded.last()) else { return Ok(()) };
        let (first_tenant, last_tenant) = (first.meta.entry.tenant.clone(), last.meta.entry.tenant.clone());
        let (first_id, last_id) = (first.meta.entry.id.to_bytes(), last.meta.entry.id.to_bytes());
        let mut rows = query(SCAN_POINTS)
            .bind(first_tenant.as_str())
            .bind(&first_id[..])
            .bind(last_tenant.as_str())
            .bind(&last_id[..])
            .fetch(snapshot);
        let mut entries = loaded.iter_mut();
        let mut current = entries.next();
        while let Some(row) = next(&mut rows).await {
            let row = row.map_err(|error| self.fault(error))?;
            let point = reader.point(&mut Cells::of("points", &row))?;
            let key = (&point.tenant, point.entry);
            while current.as_ref().is_some_and(|entry| (&entry.meta.entry.tenant, entry.meta.entry.id) < key) {
                current = entries.next();
            }
            // Otherwise the point belongs to an entry that has expired.
            if let Some(entry) = &mut current
                && (&entry.meta.entry.tenant, entry.meta.entry.id) == key
            {
                entry.points.push(point);
            }
        }
        Ok(())
    }
}

/// Where a page begins: no tenant and no id sort before the empty text and the empty blob.
fn from(after: Option<&Cursor>) -> (&str, Vec<u8>) {
    after.map_or(("", Vec::new()), |cursor| (cursor.tenant.as_str(), cursor.entry.to_bytes().to_vec()))
}

/// The next row as it comes, so that a scan never holds a page of rows besides what it makes of them.
async fn next(rows: &mut BoxStream<'_, Result<SqliteRow, sqlx::Error>>) -> Option<Result<SqliteRow, sqlx::Error>> {
    poll_fn(|context| rows.as_mut().poll_next(context)).await
}

/// A `LIKE` pattern for texts that contain `text`, none of whose characters is a wildcard.
fn containing(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
