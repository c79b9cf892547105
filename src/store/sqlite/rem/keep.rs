//! What the tasks in the background ask for: what is to be filled and embedded, forgotten, and copied.

use sqlx::query;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::super::rem::*;
use super::super::super::{Cursor, Exported, StoreError};
use super::super::SqliteStore;
use super::super::cells::{Cells, stored};
use super::columns::{edge_columns, owner, read_edge, read_tenants, row_columns};
use super::conditions::most;
use super::writes::of_row;
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RemId, TenantId};

/// Rows that have no vector yet, or got their last one in another space. Those in a space before and behind this one are two
/// ranges of the index; those with this space are never read.
pub(super) const UNEMBEDDED: &str = concat!(
    "SELECT r.tenant, ",
    row_columns!(),
    " FROM rem_rows AS r WHERE r.deleted_at IS NULL AND r.text <> '' AND r.no IN (\
        SELECT no FROM rem_rows WHERE deleted_at IS NULL AND text <> '' AND embedded < ?1 \
        UNION ALL SELECT no FROM rem_rows WHERE deleted_at IS NULL AND text <> '' AND embedded > ?1) \
     AND NOT EXISTS (SELECT 1 FROM rem_vectors AS v WHERE v.row = r.no AND v.space = ?1) \
     ORDER BY r.updated_at, r.tenant, r.id LIMIT ?2"
);

pub(super) const FORGET_HIDDEN: &str = "DELETE FROM rem_rows WHERE no IN (\
    SELECT no FROM rem_rows WHERE deleted_at IS NOT NULL AND deleted_at < ?1 ORDER BY deleted_at LIMIT ?2)";
pub(super) const FORGET_MADE: &str = "DELETE FROM rem_rows WHERE no IN (\
    SELECT no FROM rem_rows WHERE made = 1 AND tab <> 0 AND updated_at < ?1 ORDER BY updated_at LIMIT ?2)";
pub(super) const FORGET_EDGES: &str = "DELETE FROM rem_edges WHERE (tenant, source, kind, target_key) IN (\
    SELECT tenant, source, kind, target_key FROM rem_edges WHERE source_tab = 3 AND created_at < ?1 \
    ORDER BY created_at LIMIT ?2)";
/// Whether the index of words still has words of rows that are gone: it notes them in pages of their own (FTS5, "tombstones"),
/// which have the highest numbers, and takes the words away when it merges.
const GONE_WORDS: &str = "SELECT EXISTS (SELECT 1 FROM rem_words_data WHERE id >= 9007199254740992)";
/// Begins to merge all there is into one, and goes on with it.
const MERGE_WORDS: [&str; 2] = [
    "INSERT INTO rem_words (rem_words, rank) VALUES ('merge', -256)",
    "INSERT INTO rem_words (rem_words, rank) VALUES ('merge', 256)",
];
/// Steps of a merge in one sweep, each of 256 pages and in a transaction of its own, so that no writer waits for long. The next
/// sweep goes on.
const MERGE_STEPS: usize = 64;
const OWNS: &str = "SELECT EXISTS (SELECT 1 FROM rem_rows WHERE tenant = ?1 AND owner = ?2) \
    OR EXISTS (SELECT 1 FROM rem_rows WHERE tenant = ?1 AND writer = ?3 AND owner = 'public') \
    OR EXISTS (SELECT 1 FROM rem_edges WHERE tenant = ?1 AND owner = ?2)";
const FORGET_ROWS: &str = "DELETE FROM rem_rows WHERE no IN (\
    SELECT no FROM rem_rows WHERE tenant = ?1 AND (?2 IS NULL OR owner = ?2) LIMIT ?3)";
const FORGET_EDGES_OF: &str = "DELETE FROM rem_edges WHERE (tenant, source, kind, target_key) IN (\
    SELECT tenant, source, kind, target_key FROM rem_edges WHERE tenant = ?1 AND (?2 IS NULL OR owner = ?2) LIMIT ?3)";

const EXPORT_ROWS: &str = concat!(
    "SELECT r.tenant, ",
    row_columns!(),
    " FROM rem_rows AS r WHERE (r.tenant, r.id) > (?1, ?2) ORDER BY r.tenant, r.id LIMIT ?3"
);
const EXPORT_REQUESTS: &str = "SELECT DISTINCT tenant, source FROM rem_edges WHERE source_tab = 3 AND (tenant, source) > (?1, ?2) \
    AND (?3 IS NULL OR (tenant, source) <= (?3, ?4)) ORDER BY tenant, source LIMIT ?5";
const VECTORS_OF: &str = "SELECT v.space, v.vector FROM rem_rows AS r CROSS JOIN rem_vectors AS v ON v.row = r.no \
    WHERE r.tenant = ?1 AND r.id = ?2 ORDER BY v.space";
const EDGES_OF: &str = concat!(
    "SELECT e.owner, ",
    edge_columns!(),
    " FROM rem_edges AS e WHERE e.tenant = ?1 AND e.source = ?2 ORDER BY e.kind, e.target"
);

impl SqliteStore {
    pub(super) async fn unembedded(&self, space: &str, limit: u32) -> Result<Vec<(TenantId, RemRow)>, StoreError> {
        let mut search = self.begin_search(None).await?;
        let rows = query(UNEMBEDDED).bind(space).bind(most(limit)).fetch_all(&mut *search).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        self.end_search(search).await?;
        rows.iter().map(read_tenants).collect()
    }

    pub(super) async fn forget_rem(&self, before: UnixMs, limit: u32) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write().await?;
        let mut gone = 0;
        for statement in [FORGET_HIDDEN, FORGET_MADE, FORGET_EDGES] {
            let left = u64::from(limit).saturating_sub(gone);
            if left > 0 {
                let forget = query(statement).bind(stored(before)).bind(stored(left));
                let done = forget.execute(&mut *transaction).await.map_err(|error| self.fault(error))?;
                gone += done.rows_affected();
            }
        }
        self.commit(transaction).await?;
        // A sweep has come to its end.
        if gone < u64::from(limit) {
            self.merge_words().await?;
        }
        Ok(gone)
    }

    /// Takes words of rows that are gone out of the index of words, if there are any.
    async fn merge_words(&self) -> Result<(), StoreError> {
        let [begin, go_on] = MERGE_WORDS;
        for statement in std::iter::once(begin).chain(std::iter::repeat_n(go_on, MERGE_STEPS)) {
            let gone = sqlx::query_scalar(GONE_WORDS).fetch_one(&self.readers).await;
            if !gone.map_err(|error| self.fault(error))? {
                break;
            }
            let mut transaction = self.begin_write().await?;
            query(statement).execute(&mut *transaction).await.map_err(|error| self.fault(error))?;
            self.commit(transaction).await?;
        }
        Ok(())
    }

    pub(super) async fn owns_rem(&self, tenant: &TenantId, owner: &Owner) -> Result<bool, StoreError> {
        let owns = sqlx::query_scalar(OWNS).bind(tenant.as_str()).bind(owner.to_string());
        let found = owns.bind(owner.key().map(KeyId::as_str)).fetch_one(&self.readers);
        found.await.map_err(|error| self.fault(error))
    }

    pub(super) async fn forget_rem_of(
        &self,
        tenant: &TenantId,
        owner: Option<&Owner>,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write().await?;
        let mut gone = 0;
        for statement in [FORGET_ROWS, FORGET_EDGES_OF] {
            let left = u64::from(limit).saturating_sub(gone);
            if left > 0 {
                let owner = owner.map(ToString::to_string);
                let forget = query(statement).bind(tenant.as_str()).bind(owner).bind(stored(left));
                let done = forget.execute(&mut *transaction).await.map_err(|error| self.fault(error))?;
                gone += done.rows_affected();
            }
        }
        self.commit(transaction).await?;
        Ok(gone)
    }

    pub(super) async fn export_rem(
        &self,
        after: Option<&(TenantId, RemId)>,
        limit: u32,
    ) -> Result<Vec<RemExported>, StoreError> {
        // No tenant and no id sort before the empty text and the empty blob.
        let (tenant, id) = after.map_or(("", Vec::new()), |(tenant, id)| (tenant.as_str(), id.to_bytes().to_vec()));
        let mut snapshot = self.begin_search(None).await?;
        let rows = query(EXPORT_ROWS).bind(tenant).bind(&id).bind(most(limit)).fetch_all(&mut *snapshot).await;
        let rows = rows.map_err(|error| self.fault(error))?.iter().map(read_tenants).collect::<Result<Vec<_>, _>>()?;
        // If there are more rows than these, requests behind the last one belong to a later page.
        let full = u64::try_from(rows.len()).is_ok_and(|len| len >= u64::from(limit));
        let last = rows.last().filter(|_| full);
        let requests = query(EXPORT_REQUESTS)
            .bind(tenant)
            .bind(&id)
            .bind(last.map(|(tenant, _)| tenant.as_str()))
            .bind(last.map(|(_, row)| row.id.to_bytes().to_vec()))
            .bind(most(limit))
            .fetch_all(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        let mut all: Vec<(TenantId, RemId, Option<RemRow>)> =
            rows.into_iter().map(|(tenant, row)| (tenant, row.id, Some(row))).collect();
        for request in &requests {
            let mut cells = Cells::of("rem_edges", request);
            all.push((TenantId::new(cells.take::<&str>()?), RemId::from_bytes(cells.id()?), None));
        }
        all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut exported = Vec::with_capacity(all.len());
        for (tenant, id, row) in all {
            exported.push(self.whole_rem(&mut snapshot, tenant, id, row).await?);
        }
        self.end_search(snapshot).await?;
        Ok(exported)
    }

    async fn whole_rem(
        &self,
        snapshot: &mut SqliteConnection,
        tenant: TenantId,
        id: RemId,
        row: Option<RemRow>,
    ) -> Result<RemExported, StoreError> {
        let vectors = of_row(VECTORS_OF, &tenant, id).fetch_all(&mut *snapshot).await;
        let vectors = vectors.map_err(|error| self.fault(error))?;
        let read_vector = |row| {
            let mut cells = Cells::of("rem_vectors", row);
            Ok(RemVector { space: cells.take()?, vector: cells.vector_or_null()?.unwrap_or_default() })
        };
        let vectors = vectors.iter().map(read_vector).collect::<Result<_, StoreError>>()?;
        let edges = of_row(EDGES_OF, &tenant, id).fetch_all(&mut *snapshot).await.map_err(|error| self.fault(error))?;
        let read_owned = |row: &SqliteRow| {
            let mut cells = Cells::of("rem_edges", row);
            Ok((owner(&mut cells)?, read_edge(&mut cells)?))
        };
        let edges = edges.iter().map(read_owned).collect::<Result<_, StoreError>>()?;
        Ok(RemExported { tenant, row, vectors, edges })
    }

    pub(super) async fn entries_without_row(
        &self,
        now: UnixMs,
        since: Option<EntryId>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Exported>, StoreError> {
        let mut snapshot = self.begin_search(None).await?;
        let exported = self.export_without_row(&mut snapshot, now, since, after, limit).await?;
        self.end_search(snapshot).await?;
        Ok(exported)
    }
}
