//! Answers and the points that lead to them.
//!
//! The tenant leads every primary key, and every statement that takes an entry id takes the tenant with it.

mod points;
mod writes;

use std::collections::HashSet;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, query, query_scalar, raw_sql};

use super::super::read::{Reader, meta_columns};
use super::super::{
    BoxFuture, Counts, Cursor, Entry, EntryFilter, EntryMeta, EntryStore, EntryWrite, Exported, Found, Loaded, Point,
    StoreError,
};
use super::cells::{Cells, escaped, stored};
use super::{PostgresStore, pause};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, TenantId};

/// The columns of a point, and then the number of the table with its vector if that is not beside it.
macro_rules! placed_point_columns {
    () => {
        concat!($crate::store::read::point_columns!(), ", p.vectors")
    };
}

pub(super) use placed_point_columns;

/// The conditions of an [`EntryFilter`] and of the cursor; a condition that is `NULL` holds always.
macro_rules! filter {
    () => {
        "($1::text IS NULL OR e.model = $1) AND ($2::text IS NULL OR e.namespace = $2) \
         AND ($3::text IS NULL OR e.writer = $3) \
         AND ($4::text IS NULL OR EXISTS (SELECT 1 FROM json_array_elements(e.tags::json) AS t (tag) \
              WHERE t.tag ->> 0 = $4 AND t.tag ->> 1 = $5)) \
         AND ($6::bytea IS NULL OR (e.id, e.tenant) < ($6, $7)) "
    };
}

const ENTRY: &str = concat!(
    "SELECT ",
    meta_columns!(),
    ", b.body FROM entries AS e JOIN bodies AS b ON b.tenant = e.tenant AND b.entry = e.id ",
    "WHERE e.tenant = $1 AND e.id = $2"
);
const SCAN: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE (e.tenant, e.id) > ($1, $2) AND e.expires_at > $3 ORDER BY e.tenant, e.id LIMIT $4"
);
const LOAD: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM unnest($1::text[], $2::bytea[]) AS k (tenant, id) ",
    "JOIN entries AS e ON e.tenant = k.tenant AND e.id = k.id"
);
const EXPORT: &str = concat!(
    "SELECT ",
    meta_columns!(),
    ", b.body FROM entries AS e JOIN bodies AS b ON b.tenant = e.tenant AND b.entry = e.id ",
    "WHERE (e.tenant, e.id) > ($1, $2) ORDER BY e.tenant, e.id LIMIT $3"
);
const LIST_ALL: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE ",
    filter!(),
    "ORDER BY e.id DESC, e.tenant DESC LIMIT $8"
);
const LIST_TENANT: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE ",
    filter!(),
    "AND e.tenant = $9 ORDER BY e.id DESC LIMIT $8"
);
// Lower case in the collation "C" is that of ASCII letters only.
const SEARCH_ALL: &str = concat!(
    "SELECT ",
    meta_columns!(),
    ", p.prompt FROM points AS p JOIN entries AS e ON e.tenant = p.tenant AND e.id = p.entry ",
    "WHERE lower(p.prompt COLLATE \"C\") LIKE $1 ORDER BY p.id DESC LIMIT $2"
);
const SEARCH_TENANT: &str = concat!(
    "SELECT ",
    meta_columns!(),
    ", p.prompt FROM points AS p JOIN entries AS e ON e.tenant = p.tenant AND e.id = p.entry ",
    "WHERE p.tenant = $3 AND lower(p.prompt COLLATE \"C\") LIKE $1 ORDER BY p.id DESC LIMIT $2"
);
const EXPIRED: &str = "SELECT tenant, id FROM entries WHERE expires_at <= $1 ORDER BY expires_at, tenant, id LIMIT $2";
const COUNTS: &str = "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM points)";
const SPACES: &str = "SELECT number FROM spaces ORDER BY number";

impl EntryStore for PostgresStore {
    fn apply<'a>(&'a self, writes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut round = 0;
            while !writes.is_empty() {
                match self.apply_once(writes).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
            Ok(())
        })
    }

    fn entry<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Option<Entry>> {
        Box::pin(async move {
            let row = query(ENTRY)
                .bind(tenant.as_str())
                .bind(id.to_bytes())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            row.map(|row| Reader::default().entry(&row)).transpose()
        })
    }

    fn points_of<'a>(&'a self, tenant: &'a TenantId, id: EntryId) -> BoxFuture<'a, Vec<Point>> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let key = (tenant.clone(), id);
            let points = self.points_for(&mut snapshot, std::slice::from_ref(&key)).await?.remove(&key);
            self.commit(snapshot).await?;
            Ok(points.unwrap_or_default())
        })
    }

    fn scan<'a>(&'a self, now: UnixMs, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            // One snapshot, so that an entry is never seen with the points of another moment.
            let mut snapshot = self.begin_read().await?;
            let (tenant, id) = place(after);
            let rows = query(SCAN)
                .bind(tenant)
                .bind(id)
                .bind(stored(now))
                .bind(i64::from(limit))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let loaded = self.with_points(&mut snapshot, metas(&rows)?).await?;
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
            let mut statement = query(if tenant.is_some() { LIST_TENANT } else { LIST_ALL })
                .bind(filter.model.as_deref().map(escaped))
                .bind(filter.namespace.as_deref().map(escaped))
                .bind(filter.writer.as_ref().map(KeyId::as_str))
                .bind(filter.tag.as_ref().map(|(name, _)| escaped(name)))
                .bind(filter.tag.as_ref().map(|(_, value)| escaped(value)))
                .bind(after.map(|cursor| cursor.entry.to_bytes()))
                .bind(after.map(|cursor| cursor.tenant.as_str()))
                .bind(i64::from(limit));
            if let Some(tenant) = tenant {
                statement = statement.bind(tenant.as_str());
            }
            let rows = statement.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            metas(&rows)
        })
    }

    fn search<'a>(&'a self, tenant: Option<&'a TenantId>, text: &'a str, limit: u32) -> BoxFuture<'a, Vec<Found>> {
        Box::pin(async move {
            let mut statement = query(if tenant.is_some() { SEARCH_TENANT } else { SEARCH_ALL })
                .bind(containing(text))
                .bind(i64::from(limit));
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
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            let mut reader = Reader::default();
            rows.iter().map(|row| reader.key(&mut Cells::of("entries", row))).collect()
        })
    }

    fn load<'a>(&'a self, keys: &'a [(TenantId, EntryId)]) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            let keys: HashSet<&(TenantId, EntryId)> = keys.iter().collect();
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut snapshot = self.begin_read().await?;
            let rows = query(LOAD)
                .bind(keys.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>())
                .bind(keys.iter().map(|(_, id)| id.to_bytes()).collect::<Vec<_>>())
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let loaded = self.with_points(&mut snapshot, metas(&rows)?).await?;
            self.commit(snapshot).await?;
            Ok(loaded)
        })
    }

    fn export<'a>(&'a self, after: Option<&'a Cursor>, limit: u32) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let (tenant, id) = place(after);
            let rows = query(EXPORT)
                .bind(tenant)
                .bind(id)
                .bind(i64::from(limit))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let exported = self.exported(&mut snapshot, &rows).await?;
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

    /// Gives the space of deleted rows back for use by others, which then overwrite it. That is all a server promises:
    /// until then the bytes may be found in its files, and after it in its log and in backups. What must not be read
    /// from a disk that is taken away needs a disk that is encrypted.
    fn purge(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let spaces: Vec<i32> =
                query_scalar(SPACES).fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            let mut connection = self.server.connect().await?;
            let tables = ["entries", "bodies", "points", "decisions", "learned", "rem_rows", "rem_names", "rem_edges"];
            let rem = self.rem_tables(&mut connection, None).await?;
            let vectors = spaces.into_iter().map(|number| format!("vectors_{number}"));
            let vectors = vectors.chain(rem.iter().map(|table| format!("rem_vectors_{}", table.number)));
            for table in tables.map(str::to_owned).into_iter().chain(vectors) {
                let vacuum = raw_sql(AssertSqlSafe(format!("VACUUM {table}"))).execute(&mut connection).await;
                vacuum.map_err(|error| self.fault(error))?;
            }
            // A plain VACUUM leaves the bytes of a key that was replaced on its page. This table is small.
            let rewrite = raw_sql(AssertSqlSafe("VACUUM FULL meta".to_owned())).execute(&mut connection).await;
            rewrite.map_err(|error| self.fault(error))?;
            connection.close().await.map_err(|error| self.fault(error))
        })
    }
}

impl PostgresStore {
    /// Entries with their bodies, and their points.
    pub(super) async fn exported(
        &self,
        snapshot: &mut PgConnection,
        rows: &[PgRow],
    ) -> Result<Vec<Exported>, StoreError> {
        let mut reader = Reader::default();
        let entries = rows.iter().map(|row| reader.entry(row)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = entries.iter().map(|entry| (entry.tenant.clone(), entry.id)).collect();
        let mut points = self.points_for(snapshot, &keys).await?;
        let with_points = |(entry, key)| Exported { entry, points: points.remove(&key).unwrap_or_default() };
        Ok(entries.into_iter().zip(keys).map(with_points).collect())
    }

    async fn apply_once(&self, writes: &[EntryWrite]) -> Result<(), StoreError> {
        let mut transaction = self.begin_write().await?;
        let touched = self.apply_all(&mut transaction, writes).await?;
        self.number(&mut transaction, &touched).await?;
        self.commit(transaction).await
    }
}

/// Where a listing by tenant and id goes on; no tenant and no id sort before the empty ones.
fn place(after: Option<&Cursor>) -> (&str, Vec<u8>) {
    after.map_or(("", Vec::new()), |cursor| (cursor.tenant.as_str(), cursor.entry.to_bytes().to_vec()))
}

fn metas(rows: &[PgRow]) -> Result<Vec<EntryMeta>, StoreError> {
    let mut reader = Reader::default();
    rows.iter().map(|row| reader.meta(&mut Cells::of("entries", row))).collect()
}

/// A `LIKE` pattern for texts in lower case that contain `text`, none of whose characters is a wildcard.
fn containing(text: &str) -> String {
    let text = escaped(text);
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character.to_ascii_lowercase());
    }
    pattern.push('%');
    pattern
}
