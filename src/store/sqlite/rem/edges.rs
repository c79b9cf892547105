//! Edges from both ends.

use sqlx::query;
use sqlx::sqlite::SqliteRow;

use super::super::super::StoreError;
use super::super::super::rem::*;
use super::super::SqliteStore;
use super::super::cells::Cells;
use super::columns::{edge_columns, hex_list, id_list, read_edge, text_list};
use super::conditions::most;
use crate::ids::RemId;

/// What every edge must fulfil, but for where it begins or ends.
macro_rules! wanted {
    () => {
        " AND e.owner IN (?3, 'public') AND e.weight >= ?4 \
         AND (?5 IS NULL OR e.kind IN (SELECT value FROM json_each(?5)))"
    };
}

pub(super) const FROM: &str = concat!(
    "SELECT ",
    edge_columns!(),
    " FROM json_each(?2) AS s LEFT JOIN rem_rows AS h ON h.tenant = ?1 AND h.id = unhex(s.value) AND h.deleted_at IS NOT NULL \
     CROSS JOIN rem_edges AS e ON e.tenant = ?1 AND e.source = unhex(s.value) WHERE h.no IS NULL",
    wanted!(),
    " ORDER BY e.weight DESC, e.kind, e.target, e.source LIMIT ?6"
);
// Without statistics the planner would rather read all edges of the tenant, since they lie in the table itself.
pub(super) const TO: &str = concat!(
    "SELECT ",
    edge_columns!(),
    " FROM json_each(?2) AS k CROSS JOIN rem_edges AS e INDEXED BY rem_edges_by_target \
     ON e.tenant = ?1 AND e.target_key = unhex(k.value) \
     WHERE NOT EXISTS (SELECT 1 FROM rem_rows AS h WHERE h.tenant = ?1 AND h.id = e.source AND h.deleted_at IS NOT NULL)",
    wanted!(),
    " ORDER BY e.weight DESC, e.kind, e.source, e.target LIMIT ?6"
);

impl SqliteStore {
    pub(super) async fn edges_from(
        &self,
        scope: &Scope,
        sources: &[RemId],
        wanted: RemEdges<'_>,
    ) -> Result<Vec<RemEdge>, StoreError> {
        let mut sources = sources.to_vec();
        sources.sort_unstable();
        sources.dedup();
        self.edges(FROM, scope, id_list(&sources), wanted).await
    }

    pub(super) async fn edges_to(
        &self,
        scope: &Scope,
        keys: &[String],
        wanted: RemEdges<'_>,
    ) -> Result<Vec<RemEdge>, StoreError> {
        let mut keys: Vec<_> = keys.iter().filter(|key| !key.is_empty()).map(|key| key_digest(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        self.edges(TO, scope, hex_list(keys.iter().map(<[u8; 32]>::as_slice)), wanted).await
    }

    async fn edges(
        &self,
        statement: &'static str,
        scope: &Scope,
        ends: String,
        wanted: RemEdges<'_>,
    ) -> Result<Vec<RemEdge>, StoreError> {
        let mut search = self.search(scope).await?;
        let rows: Vec<SqliteRow> = query(statement)
            .bind(scope.tenant.as_str())
            .bind(ends)
            .bind(scope.owner().to_string())
            .bind(wanted.min_weight)
            .bind(text_list(wanted.kinds)?)
            .bind(most(wanted.limit))
            .fetch_all(&mut *search)
            .await
            .map_err(|error| self.fault(error))?;
        rows.iter().map(|row| read_edge(&mut Cells::of("rem_edges", row))).collect()
    }
}
