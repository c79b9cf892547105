//! What tasks in the background need: what is to be embedded or filled in, what is old, and all of it for a copy.

use std::collections::HashMap;

use pgvector::Vector;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, query, raw_sql};

use super::super::super::read::meta_columns;
use super::super::super::rem::{Owner, RemExported, RemRow, RemVector};
use super::super::super::{Cursor, Exported, StoreError};
use super::super::PostgresStore;
use super::super::cells::{Cells, escaped, stored};
use super::PLAN_EACH;
use super::rows::{edge, edge_columns, owner, row, row_columns};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RemId, TenantId};

const FORGET_MADE: &str = "DELETE FROM rem_rows WHERE no IN (SELECT no FROM rem_rows \
    WHERE made AND tab IN (1, 2) AND updated_at < $1 ORDER BY updated_at, no LIMIT $2 FOR UPDATE SKIP LOCKED)";
const FORGET_HIDDEN: &str = "DELETE FROM rem_rows WHERE no IN (SELECT no FROM rem_rows \
    WHERE deleted_at IS NOT NULL AND deleted_at < $1 ORDER BY deleted_at, no LIMIT $2 FOR UPDATE SKIP LOCKED)";
const FORGET_EDGES: &str = "DELETE FROM rem_edges WHERE ctid IN (SELECT ctid FROM rem_edges \
    WHERE source_tab = 3 AND created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
const OWNS: &str = "SELECT EXISTS (SELECT 1 FROM rem_rows WHERE tenant = $1 AND owner = $2) \
    OR EXISTS (SELECT 1 FROM rem_rows WHERE tenant = $1 AND writer = $3 AND owner = 'public') \
    OR EXISTS (SELECT 1 FROM rem_edges WHERE tenant = $1 AND owner = $2)";
const FORGET_ROWS_OF: &str = "DELETE FROM rem_rows WHERE no IN (SELECT no FROM rem_rows \
    WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) ORDER BY id LIMIT $3 FOR UPDATE)";
const FORGET_EDGES_OF: &str = "DELETE FROM rem_edges WHERE ctid IN (SELECT ctid FROM rem_edges \
    WHERE tenant = $1 AND ($2::text IS NULL OR owner = $2) ORDER BY source LIMIT $3 FOR UPDATE)";
const PAGE: &str = "SELECT k.tenant, k.id FROM ( \
        (SELECT tenant, id FROM rem_rows WHERE (tenant, id) > ($1, $2) ORDER BY tenant, id LIMIT $3) UNION \
        (SELECT DISTINCT tenant, source FROM rem_edges WHERE source_tab = 3 AND (tenant, source) > ($1, $2) \
            ORDER BY tenant, source LIMIT $3)) AS k \
    ORDER BY k.tenant, k.id LIMIT $3";
const ROWS: &str = concat!(
    "SELECT r.tenant, ",
    row_columns!(),
    " FROM unnest($1::text[], $2::bytea[]) AS k (tenant, id) JOIN rem_rows AS r ON r.tenant = k.tenant AND r.id = k.id"
);
const EDGES: &str = concat!(
    "SELECT e.tenant, e.owner, ",
    edge_columns!(),
    " FROM unnest($1::text[], $2::bytea[]) AS k (tenant, id) JOIN rem_edges AS e ON e.tenant = k.tenant AND e.source = k.id ",
    "ORDER BY e.kind, e.target"
);
/// Entries that no row stands for, of all that there are or of these.
macro_rules! without_row {
    ($with:literal, $of:literal) => {
        concat!(
            $with,
            "SELECT ",
            meta_columns!(),
            ", b.body FROM ",
            $of,
            " AS e JOIN bodies AS b ON b.tenant = e.tenant AND b.entry = e.id ",
            "WHERE (e.tenant, e.id) > ($1, $2) AND e.expires_at > $3 ",
            "AND e.dialect <> 'embeddings' ",
            "AND NOT EXISTS (SELECT 1 FROM rem_rows AS r WHERE r.tenant = e.tenant AND r.entry = e.id) ",
            "ORDER BY e.tenant, e.id LIMIT $4"
        )
    };
}
const ENTRIES: &str = without_row!("", "entries");
/// Their index is that of ages, whatever the order says.
pub(super) const NEW_ENTRIES: &str =
    without_row!("WITH fresh AS MATERIALIZED (SELECT * FROM entries WHERE id >= $5) ", "fresh");

/// A task in the background may read for longer than a caller.
const TASK: &str = "SET LOCAL statement_timeout = '30s'";

type Key = (TenantId, RemId);

/// Rows that have no vector yet, or got their last one in another space, and have none in these tables. Those that got it in this one
/// are never read.
pub(super) fn unembedded_sql(tables: &[i32]) -> String {
    let has = |table| format!(" AND NOT EXISTS (SELECT 1 FROM rem_vectors_{table} AS v WHERE v.row = r.no)");
    let without: String = tables.iter().map(has).collect();
    let ranges = ["r.embedded = ''", "r.embedded > '' AND r.embedded < $2", "r.embedded > $2 AND r.embedded <> ''"]
        .map(|range| {
            format!(
                "(SELECT r.no FROM rem_rows AS r WHERE r.deleted_at IS NULL AND r.text <> '' AND {range}{without} \
             ORDER BY r.updated_at, r.no LIMIT $1)"
            )
        });
    let columns = row_columns!();
    format!(
        "SELECT r.tenant, {columns} FROM ({}) AS c JOIN rem_rows AS r ON r.no = c.no ORDER BY r.updated_at, r.no LIMIT $1",
        ranges.join(" UNION ALL ")
    )
}

impl PostgresStore {
    pub(super) async fn unembedded(&self, space: &str, limit: u32) -> Result<Vec<(TenantId, RemRow)>, StoreError> {
        let mut snapshot = self.begin_rem(TASK).await?;
        let tables = self.rem_tables(&mut snapshot, Some(space)).await?;
        let numbers: Vec<i32> = tables.iter().map(|table| table.number).collect();
        let statement = AssertSqlSafe(unembedded_sql(&numbers));
        let found = query(statement).bind(i64::from(limit)).bind(escaped(space)).fetch_all(&mut *snapshot).await;
        let found = found.map_err(|error| self.fault(error))?;
        snapshot.end(self).await?;
        found
            .iter()
            .map(|found| {
                let mut cells = Cells::of("rem_rows", found);
                Ok((TenantId::new(cells.take::<&str>()?), row(&mut cells)?))
            })
            .collect()
    }

    pub(super) async fn forget_once(&self, before: UnixMs, limit: u32) -> Result<u64, StoreError> {
        let mut transaction = self.begin_rem_write().await?;
        let mut gone = 0;
        for statement in [FORGET_MADE, FORGET_HIDDEN, FORGET_EDGES] {
            let left = i64::from(limit).saturating_sub(stored(gone));
            let done = query(statement).bind(stored(before)).bind(left).execute(&mut *transaction).await;
            gone += done.map_err(|error| self.fault(error))?.rows_affected();
        }
        self.commit(transaction).await?;
        Ok(gone)
    }

    pub(super) async fn owns_rem(&self, tenant: &TenantId, owner: &Owner) -> Result<bool, StoreError> {
        let found =
            sqlx::query_scalar(OWNS).bind(tenant.as_str()).bind(owner.to_string()).bind(owner.key().map(KeyId::as_str));
        let found = found.fetch_one(&self.readers).await;
        found.map_err(|error| self.fault(error))
    }

    pub(super) async fn forget_of_once(
        &self,
        tenant: &TenantId,
        owner: Option<&Owner>,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin_rem_write().await?;
        let mut gone = 0;
        for statement in [FORGET_ROWS_OF, FORGET_EDGES_OF] {
            let left = i64::from(limit).saturating_sub(stored(gone));
            let forget = query(statement).bind(tenant.as_str()).bind(owner.map(Owner::to_string)).bind(left);
            let done = forget.execute(&mut *transaction).await;
            gone += done.map_err(|error| self.fault(error))?.rows_affected();
        }
        self.commit(transaction).await?;
        Ok(gone)
    }

    pub(super) async fn export_rem(
        &self,
        after: Option<&(TenantId, RemId)>,
        limit: u32,
    ) -> Result<Vec<RemExported>, StoreError> {
        // No tenant and no id sort before the empty ones.
        let (tenant, id) = after.map_or(("", Vec::new()), |(tenant, id)| (tenant.as_str(), id.to_bytes().to_vec()));
        let mut snapshot = self.begin_read().await?;
        let keys = query(PAGE).bind(tenant).bind(id).bind(i64::from(limit)).fetch_all(&mut *snapshot).await;
        let mut page: Vec<RemExported> = Vec::new();
        let mut places: HashMap<Key, usize> = HashMap::new();
        for found in &keys.map_err(|error| self.fault(error))? {
            let key = key(&mut Cells::of("rem_rows", found))?;
            let tenant = key.0.clone();
            places.insert(key, page.len());
            page.push(RemExported { tenant, row: None, vectors: Vec::new(), edges: Vec::new() });
        }
        self.fill_page(&mut snapshot, &places, &mut page).await?;
        self.commit(snapshot).await?;
        Ok(page)
    }

    async fn fill_page(
        &self,
        snapshot: &mut PgConnection,
        places: &HashMap<Key, usize>,
        page: &mut [RemExported],
    ) -> Result<(), StoreError> {
        let tenants: Vec<&str> = places.keys().map(|(tenant, _)| tenant.as_str()).collect();
        let ids: Vec<_> = places.keys().map(|(_, id)| id.to_bytes()).collect();
        let rows = query(ROWS).bind(&tenants).bind(&ids).fetch_all(&mut *snapshot).await;
        for found in &rows.map_err(|error| self.fault(error))? {
            let mut cells = Cells::of("rem_rows", found);
            let tenant = TenantId::new(cells.take::<&str>()?);
            let row = row(&mut cells)?;
            if let Some(each) = places.get(&(tenant, row.id)).and_then(|place| page.get_mut(*place)) {
                each.row = Some(row);
            }
        }
        let edges = query(EDGES).bind(&tenants).bind(&ids).fetch_all(&mut *snapshot).await;
        for found in &edges.map_err(|error| self.fault(error))? {
            let mut cells = Cells::of("rem_edges", found);
            let (tenant, owner) = (TenantId::new(cells.take::<&str>()?), owner(&mut cells)?);
            let edge = edge(&mut cells)?;
            if let Some(each) = places.get(&(tenant, edge.source)).and_then(|place| page.get_mut(*place)) {
                each.edges.push((owner, edge));
            }
        }
        for table in self.rem_tables(&mut *snapshot, None).await? {
            let statement = format!(
                "SELECT r.tenant, r.id, v.embedding FROM unnest($1::text[], $2::bytea[]) AS k (tenant, id) \
                 JOIN rem_rows AS r ON r.tenant = k.tenant AND r.id = k.id JOIN rem_vectors_{} AS v ON v.row = r.no",
                table.number
            );
            let found = query(AssertSqlSafe(statement)).bind(&tenants).bind(&ids).fetch_all(&mut *snapshot).await;
            for found in &found.map_err(|error| self.fault(error))? {
                let mut cells = Cells::of("rem_vectors", found);
                let key = key(&mut cells)?;
                let vector: Vector = cells.take()?;
                if let Some(each) = places.get(&key).and_then(|place| page.get_mut(*place)) {
                    each.vectors.push(RemVector { space: table.name.clone(), vector: vector.to_vec() });
                }
            }
        }
        Ok(())
    }

    pub(super) async fn entries_without_row(
        &self,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Exported>, StoreError> {
        let (tenant, id) =
            after.map_or(("", Vec::new()), |cursor| (cursor.tenant.as_str(), cursor.entry.to_bytes().to_vec()));
        let mut snapshot = self.begin_read().await?;
        raw_sql(PLAN_EACH).execute(&mut *snapshot).await.map_err(|error| self.fault(error))?;
        let asked = query(if since.is_some() { NEW_ENTRIES } else { ENTRIES });
        let mut asked = asked.bind(tenant).bind(id).bind(stored(now)).bind(i64::from(limit));
        if let Some(since) = since {
            asked = asked.bind(since.to_bytes());
        }
        let found = asked.fetch_all(&mut *snapshot).await.map_err(|error| self.fault(error))?;
        let entries = self.exported(&mut snapshot, &found).await?;
        self.commit(snapshot).await?;
        Ok(entries)
    }
}

fn key(cells: &mut Cells<'_>) -> Result<Key, StoreError> {
    Ok((TenantId::new(cells.take::<&str>()?), RemId::from_bytes(cells.id()?)))
}
