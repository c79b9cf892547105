//! Rows of a table, page by page: one range of an index for each of the two owners that the caller sees. And rows that may be hidden.

use sqlx::query;

use super::super::super::StoreError;
use super::super::super::rem::*;
use super::super::SqliteStore;
use super::columns::{id_list, read_rem, row_columns};
use crate::ids::RemId;

pub(super) const LISTED: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM (SELECT no FROM (SELECT no FROM rem_rows WHERE tenant = ?1 AND owner = 'public' AND tab = ?3 AND id > ?2 \
            AND deleted_at IS NULL ORDER BY id LIMIT ?5) \
        UNION ALL SELECT no FROM (SELECT no FROM rem_rows WHERE tenant = ?1 AND owner = ?4 AND tab = ?3 AND id > ?2 \
            AND deleted_at IS NULL ORDER BY id LIMIT ?5)) AS c \
     CROSS JOIN rem_rows AS r ON r.no = c.no ORDER BY r.id LIMIT ?5"
);

const STORED: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM json_each(?2) AS k CROSS JOIN rem_rows AS r ON r.tenant = ?1 AND r.id = unhex(k.value) \
     WHERE r.owner IN (?3, 'public')"
);

impl SqliteStore {
    pub(super) async fn stored_rem(&self, scope: &Scope, ids: &[RemId]) -> Result<Vec<RemRow>, StoreError> {
        let rows = query(STORED)
            .bind(scope.tenant.as_str())
            .bind(id_list(ids))
            .bind(scope.owner().to_string())
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.fault(error))?;
        rows.iter().map(read_rem).collect()
    }

    pub(super) async fn listed_rem(
        &self,
        scope: &Scope,
        table: RemTable,
        after: Option<RemId>,
        limit: u32,
    ) -> Result<Vec<RemRow>, StoreError> {
        // No row has the identity of no bytes.
        let after = after.map(|after| after.to_bytes().to_vec()).unwrap_or_default();
        let mut search = self.search(scope).await?;
        let rows = query(LISTED)
            .bind(scope.tenant.as_str())
            .bind(after)
            .bind(table.code())
            .bind(scope.owner().to_string())
            .bind(limit)
            .fetch_all(&mut *search)
            .await
            .map_err(|error| self.fault(error))?;
        rows.iter().map(read_rem).collect()
    }
}
