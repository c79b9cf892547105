//! Answers and the points that lead to them.
//!
//! The tenant leads every primary key, and every statement that takes an entry id takes the tenant with it.

use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{query, query_scalar};

use super::super::{
    BoxFuture, Counts, Cursor, Entry, EntryFilter, EntryMeta, EntryStore, EntryWrite, Found, Loaded, Point, StoreError,
};
use super::SqliteStore;
use super::cells::{Cells, stored, stored_or_null, tags_text, vector_bytes};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, PointId, TenantId};

/// The columns of an entry's metadata, in the order [`Reader::meta`] reads them.
macro_rules! meta_columns {
    () => {
        "e.tenant, e.id, e.partition, e.namespace, e.dialect, e.model, e.finish, e.completion_tokens, e.token_limit, \
         e.writer, e.tags, e.created_at, e.expires_at, e.body_len"
    };
}

/// The columns of a point, in the order [`Reader::point`] reads them.
macro_rules! point_columns {
    () => {
        "p.tenant, p.entry, p.id, p.partition, p.fingerprint, p.normalised, p.space, p.writer, p.created_at, \
         p.vector, p.prompt"
    };
}

/// The conditions of an [`EntryFilter`] and of the cursor; a condition that is `NULL` holds always.
macro_rules! filter {
    () => {
        "(?1 IS NULL OR e.model = ?1) AND (?2 IS NULL OR e.namespace = ?2) AND (?3 IS NULL OR e.writer = ?3) \
         AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(e.tags) AS t \
              WHERE t.value ->> 0 = ?4 AND t.value ->> 1 = ?5)) \
         AND (?6 IS NULL OR (e.id, e.tenant) < (?6, ?7)) "
    };
}

const PUT_ENTRY: &str = "INSERT INTO entries (tenant, id, partition, namespace, dialect, model, finish, completion_tokens, token_limit, \
     writer, tags, created_at, expires_at, body_len) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO NOTHING";
const PUT_BODY: &str = "INSERT INTO bodies (tenant, entry, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
// A point whose entry was deleted meanwhile must not fail the batch it is in.
const PUT_POINT: &str = "INSERT INTO points (tenant, entry, id, partition, fingerprint, normalised, space, writer, created_at, vector, \
     prompt) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 \
     WHERE EXISTS (SELECT 1 FROM entries WHERE tenant = ?1 AND id = ?2) ON CONFLICT DO NOTHING";
// The body and the points go with it, by foreign key.
const DELETE_ENTRY: &str = "DELETE FROM entries WHERE tenant = ?1 AND id = ?2";

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
            rows.iter().map(|row| reader.point(row)).collect()
        })
    }

    fn scan<'a>(&'a self, now: UnixMs, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            // One snapshot, so that an entry is never seen with the points of another moment.
            let mut snapshot = self.begin_read().await?;
            let mut reader = Reader::default();
            let entries = self.scan_entries(&mut snapshot, &mut reader, now, after, limit).await?;
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Vec::new()) };
            let points = query(SCAN_POINTS)
                .bind(first.entry.tenant.as_str())
                .bind(&first.entry.id.to_bytes()[..])
                .bind(last.entry.tenant.as_str())
                .bind(&last.entry.id.to_bytes()[..])
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            self.commit(snapshot).await?;
            merge(entries, &points, &mut reader)
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

    fn counts(&self) -> BoxFuture<'_, Counts> {
        Box::pin(async move {
            let row = query(COUNTS).fetch_one(&self.readers).await.map_err(|error| self.fault(error))?;
            let mut cells = Cells::of("entries", &row);
            Ok(Counts { entries: cells.count()?, points: cells.count()? })
        })
    }

    /// Deleted rows are overwritten in the file as they are deleted; what is left is the log, which is emptied here.
    fn purge(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let blocked: i64 =
                query_scalar(EMPTY_LOG).fetch_one(&self.writer).await.map_err(|error| self.fault(error))?;
            if blocked == 0 { Ok(()) } else { Err(StoreError::Busy { path: self.path.clone() }) }
        })
    }
}

impl SqliteStore {
    async fn apply_one(&self, connection: &mut SqliteConnection, write: &EntryWrite) -> Result<(), StoreError> {
        match write {
            EntryWrite::Put { entry, points } => {
                self.put_entry(connection, entry).await?;
                // A point of another entry or tenant is a slip of the caller's, and must not lead to an answer.
                for point in points.iter().filter(|point| point.entry == entry.id && point.tenant == entry.tenant) {
                    self.put_point(connection, point).await?;
                }
                Ok(())
            }
            EntryWrite::AddPoint(point) => self.put_point(connection, point).await,
            EntryWrite::Delete { tenant, entry } => {
                let delete = query(DELETE_ENTRY).bind(tenant.as_str()).bind(&entry.to_bytes()[..]);
                delete.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
            }
        }
    }

    async fn put_entry(&self, connection: &mut SqliteConnection, entry: &Entry) -> Result<(), StoreError> {
        let id = entry.id.to_bytes();
        let put = query(PUT_ENTRY)
            .bind(entry.tenant.as_str())
            .bind(&id[..])
            .bind(&entry.partition[..])
            .bind(&entry.namespace)
            .bind(&*entry.dialect)
            .bind(&entry.model)
            .bind(&*entry.finish)
            .bind(stored_or_null(entry.completion_tokens))
            .bind(stored_or_null(entry.token_limit))
            .bind(entry.writer.as_str())
            .bind(tags_text(&entry.tags)?)
            .bind(stored(entry.created_at))
            .bind(stored(entry.expires_at))
            .bind(stored(entry.body.len() as u64))
            .execute(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        if put.rows_affected() == 0 {
            return Ok(());
        }
        let put = query(PUT_BODY).bind(entry.tenant.as_str()).bind(&id[..]).bind(&entry.body[..]);
        put.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
    }

    async fn put_point(&self, connection: &mut SqliteConnection, point: &Point) -> Result<(), StoreError> {
        query(PUT_POINT)
            .bind(point.tenant.as_str())
            .bind(&point.entry.to_bytes()[..])
            .bind(&point.id.to_bytes()[..])
            .bind(&point.partition[..])
            .bind(&point.fingerprint[..])
            .bind(point.normalised.as_ref().map(|digest| &digest[..]))
            .bind(point.space.as_deref())
            .bind(point.writer.as_str())
            .bind(stored(point.created_at))
            .bind(point.vector.as_deref().map(vector_bytes))
            .bind(point.prompt.as_deref())
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(|error| self.fault(error))
    }

    async fn scan_entries(
        &self,
        snapshot: &mut SqliteConnection,
        reader: &mut Reader,
        now: UnixMs,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<EntryMeta>, StoreError> {
        // No tenant and no id sort before the empty text and the empty blob.
        let (tenant, id) = after.map_or(("", None), |cursor| (cursor.tenant.as_str(), Some(cursor.entry.to_bytes())));
        let rows = query(SCAN_ENTRIES)
            .bind(tenant)
            .bind(id.as_ref().map_or(&[][..], |id| &id[..]))
            .bind(stored(now))
            .bind(limit)
            .fetch_all(snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        rows.iter().map(|row| reader.meta(&mut Cells::of("entries", row))).collect()
    }
}

/// Hands each entry its points; both come in the order of tenant and entry.
fn merge(entries: Vec<EntryMeta>, points: &[SqliteRow], reader: &mut Reader) -> Result<Vec<Loaded>, StoreError> {
    let mut points = points.iter().map(|row| reader.point(row)).peekable();
    let mut loaded = Vec::with_capacity(entries.len());
    for meta in entries {
        let key = (&meta.entry.tenant, meta.entry.id);
        let mut own = Vec::new();
        // Points before this entry belong to one that has expired.
        while let Some(point) = points.next_if(|next| match next {
            Ok(point) => (&point.tenant, point.entry) <= key,
            Err(_) => true,
        }) {
            let point = point?;
            if (&point.tenant, point.entry) == key {
                own.push(point);
            }
        }
        loaded.push(Loaded { meta, points: own });
    }
    Ok(loaded)
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

/// Turns rows into our types. Neighbouring rows mostly share tenant and writer, which are then shared in memory too.
#[derive(Default)]
struct Reader {
    tenant: Option<TenantId>,
    writer: Option<KeyId>,
}

impl Reader {
    fn tenant(&mut self, cells: &mut Cells<'_>) -> Result<TenantId, StoreError> {
        let text: &str = cells.take()?;
        match &self.tenant {
            Some(last) if last.as_str() == text => Ok(last.clone()),
            _ => Ok(self.tenant.insert(TenantId::new(text)).clone()),
        }
    }

    fn writer(&mut self, cells: &mut Cells<'_>) -> Result<KeyId, StoreError> {
        let text: &str = cells.take()?;
        match &self.writer {
            Some(last) if last.as_str() == text => Ok(last.clone()),
            _ => Ok(self.writer.insert(KeyId::new(text)).clone()),
        }
    }

    fn key(&mut self, cells: &mut Cells<'_>) -> Result<(TenantId, EntryId), StoreError> {
        Ok((self.tenant(cells)?, EntryId::from_bytes(cells.id()?)))
    }

    fn meta(&mut self, cells: &mut Cells<'_>) -> Result<EntryMeta, StoreError> {
        let (tenant, id) = self.key(cells)?;
        let entry = Entry {
            id,
            tenant,
            partition: cells.digest()?,
            namespace: cells.take()?,
            dialect: cells.word()?,
            model: cells.take()?,
            body: Bytes::new(),
            finish: cells.word()?,
            completion_tokens: cells.count_or_null()?,
            token_limit: cells.count_or_null()?,
            writer: self.writer(cells)?,
            tags: cells.tags()?,
            created_at: cells.count()?,
            expires_at: cells.count()?,
        };
        Ok(EntryMeta { entry, body_len: cells.count()? })
    }

    fn entry(&mut self, row: &SqliteRow) -> Result<Entry, StoreError> {
        let mut cells = Cells::of("entries", row);
        let meta = self.meta(&mut cells)?;
        let body: Vec<u8> = cells.take()?;
        Ok(Entry { body: Bytes::from(body), ..meta.entry })
    }

    fn found(&mut self, row: &SqliteRow) -> Result<Found, StoreError> {
        let mut cells = Cells::of("points", row);
        Ok(Found { meta: self.meta(&mut cells)?, prompt: cells.take()? })
    }

    fn point(&mut self, row: &SqliteRow) -> Result<Point, StoreError> {
        let mut cells = Cells::of("points", row);
        let (tenant, entry) = self.key(&mut cells)?;
        Ok(Point {
            tenant,
            entry,
            id: PointId::from_bytes(cells.id()?),
            partition: cells.digest()?,
            fingerprint: cells.digest()?,
            normalised: cells.digest_or_null()?,
            space: cells.take()?,
            writer: self.writer(&mut cells)?,
            created_at: cells.count()?,
            vector: cells.vector_or_null()?,
            prompt: cells.take()?,
        })
    }
}
