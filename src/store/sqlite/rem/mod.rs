//! REM data in this database.
//!
//! Every statement that finds something for a caller takes tenant and owner with it; indexes that cannot, the one of words and that
//! of trigrams, begin with a digest of both.

mod columns;
mod conditions;
pub(super) mod edges;
pub(super) mod keep;
mod lexicon;
mod listing;
mod nearest;
mod shelf;
mod similar;
#[cfg(test)]
mod tests;
mod told;
mod worded;
mod writes;

use std::collections::HashMap;

use sqlx::query;

use self::columns::{hex_list, id_list, read_rem, read_row, row_columns, table_list};
pub(super) use self::lexicon::Lexicon;
pub(super) use self::shelf::{Part, Shelf};
use super::super::rem::passed::{ask_own, rem_others, rem_searches};
use super::super::rem::*;
use super::super::{BoxFuture, Cursor, Exported, StoreError};
use super::SqliteStore;
use super::cells::{Cells, ids_text};
use super::ledger::OF_KEY;
use crate::clock::UnixMs;
use crate::ids::{EntryId, RemId, RequestId, TenantId};

const NAMED: &str = concat!(
    "SELECT c.key, c.alias, c.name, ",
    row_columns!(),
    " FROM (SELECT k.key, n.alias, n.name, n.row FROM json_each(?2) AS k CROSS JOIN rem_names AS n \
     ON n.tenant = ?1 AND n.key = unhex(k.value) AND n.owner IN (?3, 'public') \
     WHERE ?4 IS NULL OR n.tab IN (SELECT value FROM json_each(?4)) \
     ORDER BY k.key, n.alias, n.tab, n.name, n.row LIMIT ?5) AS c CROSS JOIN rem_rows AS r ON r.no = c.row"
);
const ROWS: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM json_each(?2) AS i CROSS JOIN rem_rows AS r ON r.tenant = ?1 AND r.id = unhex(i.value) \
     WHERE r.owner IN (?3, 'public') AND r.deleted_at IS NULL"
);
const COSINES: &str = "SELECT r.id, v.vector FROM json_each(?2) AS i CROSS JOIN rem_rows AS r \
     ON r.tenant = ?1 AND r.id = unhex(i.value) CROSS JOIN rem_vectors AS v ON v.row = r.no AND v.space = ?4 \
     WHERE r.owner IN (?3, 'public') AND r.deleted_at IS NULL";

impl RemStore for SqliteStore {
    fn rem_apply<'a>(&'a self, tenant: &'a TenantId, writes: &'a [RemWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if writes.is_empty() {
                return Ok(());
            }
            let mut transaction = self.begin_write().await?;
            for write in writes {
                self.write_rem(&mut transaction, tenant, write).await?;
            }
            self.commit(transaction).await
        })
    }

    fn rem_statements(&self, scope: &Scope, read: RemRead<'_>) -> Vec<String> {
        Self::statements_rem(scope, read)
    }

    rem_searches!(ask_own);
    rem_others!(ask_own);

    fn rem_rows<'a>(&'a self, scope: &'a Scope, ids: &'a [RemId]) -> BoxFuture<'a, Vec<RemRow>> {
        Box::pin(self.rows_rem(scope, ids))
    }

    fn rem_forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(self.forget_rem(before, limit))
    }

    fn rem_forget_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner: Option<&'a Owner>,
        limit: u32,
    ) -> BoxFuture<'a, u64> {
        Box::pin(self.forget_rem_of(tenant, owner, limit))
    }

    fn rem_entries_without_row<'a>(
        &'a self,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&'a Cursor>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(self.entries_without_row(now, since, after, limit))
    }
}

impl SqliteStore {
    async fn named_rem(
        &self,
        scope: &Scope,
        keys: &[String],
        tables: &[RemTable],
        limit: u32,
    ) -> Result<Vec<RemNamed>, StoreError> {
        // An empty form is that of every name without letters, and stands for none of them.
        let digests: Vec<(usize, [u8; 32])> = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| !key.is_empty())
            .map(|(asked, key)| (asked, key_digest(key)))
            .collect();
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let mut search = self.search(scope).await?;
        let rows = query(NAMED)
            .bind(scope.tenant.as_str())
            .bind(hex_list(digests.iter().map(|(_, digest)| digest.as_slice())))
            .bind(scope.owner().to_string())
            .bind(table_list(tables))
            .bind(limit)
            .fetch_all(&mut *search)
            .await
            .map_err(|error| self.fault(error))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut cells = Cells::of("rem_names", row);
            let place: i64 = cells.take()?;
            let asked = usize::try_from(place).ok().and_then(|place| digests.get(place)).map(|(asked, _)| *asked);
            let Some(asked) = asked else { continue };
            found.push(RemNamed { asked, alias: cells.take()?, name: cells.take()?, row: read_row(&mut cells)? });
        }
        sort_named(&mut found);
        Ok(found)
    }

    async fn cosines_rem(
        &self,
        scope: &Scope,
        vector: &RemVector,
        ids: &[RemId],
    ) -> Result<Vec<(RemId, f64)>, StoreError> {
        if !is_direction(vector) {
            return Ok(Vec::new());
        }
        let mut search = self.search(scope).await?;
        let rows = query(COSINES)
            .bind(scope.tenant.as_str())
            .bind(id_list(ids))
            .bind(scope.owner().to_string())
            .bind(&vector.space)
            .fetch_all(&mut *search)
            .await
            .map_err(|error| self.fault(error))?;
        // Each id once, however often it was asked for.
        let mut cosines = HashMap::with_capacity(rows.len());
        for row in &rows {
            let mut cells = Cells::of("rem_vectors", row);
            let (id, stored) = (RemId::from_bytes(cells.id()?), cells.vector_or_null()?.unwrap_or_default());
            cosines.insert(id, cosine(&stored, &vector.vector));
        }
        Ok(cosines.into_iter().collect())
    }

    async fn rows_rem(&self, scope: &Scope, ids: &[RemId]) -> Result<Vec<RemRow>, StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut snapshot = self.begin_search(Some(scope)).await?;
        let rows = query(ROWS)
            .bind(scope.tenant.as_str())
            .bind(id_list(&ids))
            .bind(scope.owner().to_string())
            .fetch_all(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        let mut found = rows.iter().map(read_rem).collect::<Result<Vec<_>, _>>()?;
        if found.len() < ids.len() {
            let requests = ids_text(ids.iter().map(|id| RequestId::from_bytes(id.to_bytes())));
            let asked = query(OF_KEY).bind(requests).bind(scope.tenant.as_str()).bind(scope.key.as_str());
            let requests = self.rows_of(&mut snapshot, asked).await?;
            found.extend(requests.iter().filter_map(row_of_request));
        }
        self.end_search(snapshot).await?;
        Ok(found)
    }
}
