//! Edges, both ways.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Postgres, query};

use super::super::super::StoreError;
use super::super::super::rem::{RemEdge, RemEdges, Scope, key_digest};
use super::super::PostgresStore;
use super::super::cells::{Cells, escaped};
use super::rows::{bytes, edge, edge_columns, owners};
use crate::ids::RemId;

/// Conditions on an edge. Requests are never hidden.
macro_rules! wanted {
    () => {
        "e.owner = ANY ($3) AND e.weight >= $4 AND (cardinality($5::text[]) = 0 OR e.kind = ANY ($5)) \
         AND (e.source_tab = 3 OR EXISTS (SELECT 1 FROM rem_rows AS r WHERE r.tenant = e.tenant AND r.id = e.source \
              AND r.owner = ANY ($3) AND r.deleted_at IS NULL)) "
    };
}

pub(super) const FROM: &str = concat!(
    "SELECT ",
    edge_columns!(),
    " FROM rem_edges AS e WHERE e.tenant = $1 AND e.source = ANY ($2::bytea[]) AND ",
    wanted!(),
    "ORDER BY e.weight DESC, e.kind, e.target, e.source LIMIT $6"
);
pub(super) const TO: &str = concat!(
    "SELECT ",
    edge_columns!(),
    " FROM rem_edges AS e WHERE e.tenant = $1 AND e.target_key = ANY ($2::bytea[]) AND ",
    wanted!(),
    "ORDER BY e.weight DESC, e.kind, e.source, e.target LIMIT $6"
);

impl PostgresStore {
    pub(super) async fn edges_from(
        &self,
        scope: &Scope,
        sources: &[RemId],
        wanted: RemEdges<'_>,
    ) -> Result<Vec<RemEdge>, StoreError> {
        let asked = query(FROM).bind(scope.tenant.as_str()).bind(bytes(sources));
        self.edges(asked, scope, wanted).await
    }

    pub(super) async fn edges_to(
        &self,
        scope: &Scope,
        keys: &[String],
        wanted: RemEdges<'_>,
    ) -> Result<Vec<RemEdge>, StoreError> {
        // Nothing is found by the empty form.
        let keys: Vec<_> = keys.iter().filter(|key| !key.is_empty()).map(|key| key_digest(key)).collect();
        let asked = query(TO).bind(scope.tenant.as_str()).bind(keys);
        self.edges(asked, scope, wanted).await
    }

    async fn edges(
        &self,
        asked: Query<'_, Postgres, PgArguments>,
        scope: &Scope,
        wanted: RemEdges<'_>,
    ) -> Result<Vec<RemEdge>, StoreError> {
        let asked = asked
            .bind(owners(scope))
            .bind(wanted.min_weight)
            .bind(wanted.kinds.iter().map(|kind| escaped(kind).into_owned()).collect::<Vec<_>>())
            .bind(i64::from(wanted.limit));
        let mut snapshot = self.begin_rem("").await?;
        let found = asked.fetch_all(&mut *snapshot).await.map_err(|error| self.fault(error))?;
        snapshot.end(self).await?;
        found.iter().map(|found| edge(&mut Cells::of("rem_edges", found))).collect()
    }
}
