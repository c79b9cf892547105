//! Searches for what a replica does not hold in memory.
//!
//! A small partition is searched vector by vector. A large one is searched through the index over half-precision vectors
//! of all partitions: the scan goes on until enough of what it meets is of the partition asked for and alive
//! (`hnsw.iterative_scan`), and the cosine is then computed on the full vectors. If the index gives too few, every vector
//! is looked at after all.
//!
//! It must never return a point of another tenant or partition, however the search is made.

use pgvector::Vector;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, query, query_scalar};

use super::super::read::{Reader, meta_columns};
use super::super::{BoxFuture, Digest, Loaded, NearPoint, PartitionSize, Question, Search, SearchStore, StoreError};
use super::PostgresStore;
use super::cells::{Cells, escaped, stored};
use super::entries::placed_point_columns;
use super::spaces::is_indexed;
use crate::clock::UnixMs;
use crate::ids::{EntryId, TenantId};

/// Points of a partition from which on the index is used: below, reading all of them takes a few milliseconds.
pub(super) const FAST_FROM: i64 = 4_096;

/// A read whose settings end with it. Sorting is out because the planner would prefer it to the index by a wrong guess
/// of how many rows pass the filter.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '5s'; \
    SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.ef_search = 200; SET LOCAL hnsw.max_scan_tuples = 50000";
const NO_SORT: &str = "SET LOCAL enable_sort = off";

const PARTITIONS: &str = "SELECT p.tenant, p.partition, count(*), max(p.created_at) \
    FROM points AS p JOIN entries AS e ON e.tenant = p.tenant AND e.id = p.entry WHERE e.expires_at > $1 \
    GROUP BY p.tenant, p.partition ORDER BY max(p.created_at) DESC, p.tenant, p.partition";
const SCAN: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM entries AS e WHERE e.tenant = $1 AND e.id > $4 AND e.expires_at > $3 AND EXISTS (SELECT 1 FROM points AS p ",
    "WHERE p.tenant = $1 AND p.partition = $2 AND p.entry = e.id) ORDER BY e.id LIMIT $5"
);
const BY_FINGERPRINT: &str = concat!(
    "SELECT ",
    meta_columns!(),
    " FROM points AS p JOIN entries AS e ON e.tenant = p.tenant AND e.id = p.entry ",
    "WHERE p.tenant = $1 AND p.fingerprint = $2 AND e.expires_at > $3 ORDER BY e.id DESC LIMIT 1"
);

impl SearchStore for PostgresStore {
    fn partitions(&self, now: UnixMs) -> BoxFuture<'_, Vec<PartitionSize>> {
        Box::pin(async move {
            let rows = query(PARTITIONS)
                .bind(stored(now))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            rows.iter()
                .map(|row| {
                    let mut cells = Cells::of("points", row);
                    Ok(PartitionSize {
                        tenant: TenantId::new(cells.take::<&str>()?),
                        partition: cells.digest()?,
                        points: cells.count()?,
                        newest: cells.count()?,
                    })
                })
                .collect()
        })
    }

    fn scan_partition<'a>(
        &'a self,
        tenant: &'a TenantId,
        partition: &'a Digest,
        now: UnixMs,
        after: Option<EntryId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let rows = query(SCAN)
                .bind(tenant.as_str())
                .bind(&partition[..])
                .bind(stored(now))
                .bind(after.map_or_else(Vec::new, |id| id.to_bytes().to_vec()))
                .bind(i64::from(limit))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let loaded = self.loaded(&mut snapshot, &rows).await?;
            self.commit(snapshot).await?;
            Ok(loaded)
        })
    }

    fn by_fingerprint<'a>(
        &'a self,
        tenant: &'a TenantId,
        fingerprint: &'a Digest,
        now: UnixMs,
    ) -> BoxFuture<'a, Option<Loaded>> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let rows = query(BY_FINGERPRINT)
                .bind(tenant.as_str())
                .bind(&fingerprint[..])
                .bind(stored(now))
                .fetch_all(&mut *snapshot)
                .await
                .map_err(|error| self.fault(error))?;
            let loaded = self.loaded(&mut snapshot, &rows).await?;
            self.commit(snapshot).await?;
            Ok(loaded.into_iter().next())
        })
    }

    fn nearest<'a>(&'a self, question: &'a Question<'a>) -> BoxFuture<'a, Vec<NearPoint>> {
        Box::pin(async move {
            let dimensions = i32::try_from(question.query.len()).unwrap_or(i32::MAX);
            let begun = self.readers.begin_with(BEGIN).await;
            let mut snapshot = begun.map_err(|error| self.pool_fault(&self.readers, error))?;
            let space = (escaped(question.space).into_owned(), dimensions);
            let Some(table) = self.table_of(&mut snapshot, &space).await? else { return Ok(Vec::new()) };
            let mut near = None;
            if question.how == Search::Fast
                && is_indexed(dimensions)
                && self.is_large(&mut snapshot, table, question).await?
            {
                query(NO_SORT).execute(&mut *snapshot).await.map_err(|error| self.fault(error))?;
                let found = self.ask(&mut snapshot, fast_sql(table, dimensions), question).await?;
                // Fewer than asked for: the scan gave up before it had met enough of this partition.
                near = Some(found).filter(|found| found.len() as u64 >= u64::from(question.k));
            }
            let near = match near {
                Some(near) => near,
                None => self.ask(&mut snapshot, exact_sql(table), question).await?,
            };
            self.commit(snapshot).await?;
            Ok(near)
        })
    }
}

impl PostgresStore {
    async fn loaded(&self, snapshot: &mut PgConnection, rows: &[PgRow]) -> Result<Vec<Loaded>, StoreError> {
        let mut reader = Reader::default();
        let metas = rows.iter().map(|row| reader.meta(&mut Cells::of("entries", row))).collect::<Result<_, _>>()?;
        self.with_points(snapshot, metas).await
    }

    /// Whether the partition has so many vectors that the index is worth it.
    async fn is_large(
        &self,
        snapshot: &mut PgConnection,
        table: i32,
        question: &Question<'_>,
    ) -> Result<bool, StoreError> {
        let statement = format!(
            "SELECT count(*) FROM (SELECT 1 FROM vectors_{table} WHERE tenant = $1 AND partition = $2 LIMIT $3) AS few"
        );
        let count: i64 = query_scalar(AssertSqlSafe(statement))
            .bind(question.tenant.as_str())
            .bind(&question.partition[..])
            .bind(self.fast_from)
            .fetch_one(snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        Ok(count >= self.fast_from)
    }

    async fn ask(
        &self,
        snapshot: &mut PgConnection,
        statement: String,
        question: &Question<'_>,
    ) -> Result<Vec<NearPoint>, StoreError> {
        let rows = query(AssertSqlSafe(statement))
            .bind(question.tenant.as_str())
            .bind(&question.partition[..])
            .bind(stored(question.now))
            .bind(Vector::from(question.query.to_vec()))
            .bind(i64::from(question.k))
            .fetch_all(snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        let mut reader = Reader::default();
        rows.iter()
            .map(|row| {
                let mut cells = Cells::of("points", row);
                let cosine: f64 = cells.take()?;
                let meta = reader.meta(&mut cells)?;
                let point = reader.point(&mut cells)?;
                Ok(NearPoint { point, cosine: narrowed(cosine), meta })
            })
            .collect()
    }
}

/// A cosine is small and f32 is what the program computes with.
#[expect(clippy::cast_possible_truncation, reason = "the precision is what is given up, not the value")]
fn narrowed(cosine: f64) -> f32 {
    cosine as f32
}

/// Columns and joins around the vectors found, best first by the full vectors.
macro_rules! of_found {
    () => {
        concat!(
            " SELECT f.cosine, ",
            meta_columns!(),
            ", ",
            placed_point_columns!(),
            " FROM found AS f JOIN points AS p ON p.tenant = f.tenant AND p.entry = f.entry AND p.id = f.point ",
            "JOIN entries AS e ON e.tenant = f.tenant AND e.id = f.entry WHERE f.cosine <> 'NaN' ORDER BY f.cosine DESC, f.point LIMIT $5"
        )
    };
}

/// The expiry of a vector's entry, written so that it is looked up for each vector met and the order of the scan stays.
const ALIVE: &str = "(SELECT e.expires_at FROM entries AS e WHERE e.tenant = v.tenant AND e.id = v.entry) > $3";

/// Every vector of the partition. The index is on another expression and cannot be used.
fn exact_sql(table: i32) -> String {
    format!(
        "WITH found AS MATERIALIZED (SELECT v.tenant, v.entry, v.point, 1 - (v.embedding <=> $4) AS cosine \
         FROM vectors_{table} AS v JOIN entries AS e ON e.tenant = v.tenant AND e.id = v.entry \
         WHERE v.tenant = $1 AND v.partition = $2 AND e.expires_at > $3 ORDER BY v.embedding <=> $4 LIMIT $5){}",
        of_found!()
    )
}

/// Through the index: more than asked for, because half precision may swap neighbours.
fn fast_sql(table: i32, dimensions: i32) -> String {
    format!(
        "WITH met AS MATERIALIZED (SELECT v.tenant, v.entry, v.point, v.embedding FROM vectors_{table} AS v \
         WHERE v.tenant = $1 AND v.partition = $2 AND {ALIVE} \
         ORDER BY v.embedding::halfvec({dimensions}) <=> $4::vector::halfvec({dimensions}) LIMIT $5 * 4), \
         found AS (SELECT m.tenant, m.entry, m.point, 1 - (m.embedding <=> $4) AS cosine FROM met AS m){}",
        of_found!()
    )
}
