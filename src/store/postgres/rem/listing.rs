//! Rows of a table, page by page: one range of an index for each of the two owners that the caller sees. And rows that may be hidden.

use sqlx::query;

use super::super::super::StoreError;
use super::super::super::rem::{RemRow, RemTable, Scope};
use super::super::PostgresStore;
use super::super::cells::Cells;
use super::rows::{bytes, owners, row, row_columns};
use crate::ids::RemId;

pub(super) const LISTED: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM ((SELECT no FROM rem_rows WHERE tenant = $1 AND owner = ($4::text[])[1] AND tab = $3 AND id > $2 \
            AND deleted_at IS NULL ORDER BY id LIMIT $5) \
        UNION ALL (SELECT no FROM rem_rows WHERE tenant = $1 AND owner = ($4::text[])[2] AND tab = $3 AND id > $2 \
            AND deleted_at IS NULL ORDER BY id LIMIT $5)) AS c \
     JOIN rem_rows AS r ON r.no = c.no ORDER BY r.id LIMIT $5"
);

const STORED: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM rem_rows AS r WHERE r.tenant = $1 AND r.id = ANY ($2::bytea[]) AND r.owner = ANY ($3)"
);

impl PostgresStore {
    pub(super) async fn stored_rem(&self, scope: &Scope, ids: &[RemId]) -> Result<Vec<RemRow>, StoreError> {
        let mut snapshot = self.begin_rem("").await?;
        let found = query(STORED)
            .bind(scope.tenant.as_str())
            .bind(bytes(ids))
            .bind(owners(scope))
            .fetch_all(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        snapshot.end(self).await?;
        found.iter().map(|found| row(&mut Cells::of("rem_rows", found))).collect()
    }

    pub(super) async fn listed_rem(
        &self,
        scope: &Scope,
        table: RemTable,
        after: Option<RemId>,
        limit: u32,
    ) -> Result<Vec<RemRow>, StoreError> {
        let mut snapshot = self.begin_rem("").await?;
        let found = query(LISTED)
            .bind(scope.tenant.as_str())
            // No row has the identity of no bytes.
            .bind(after.map(|after| after.to_bytes().to_vec()).unwrap_or_default())
            .bind(table.code())
            .bind(owners(scope))
            .bind(i64::from(limit))
            .fetch_all(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        snapshot.end(self).await?;
        found.iter().map(|found| row(&mut Cells::of("rem_rows", found))).collect()
    }
}
