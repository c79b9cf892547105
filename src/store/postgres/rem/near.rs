//! Nearest rows.
//!
//! Where few rows come into question, all their vectors are looked at. Where they are many, the index over half-precision
//! vectors is gone through from the nearest on, with scope and condition checked at each vector that is met, and more are taken
//! than asked for, because half precision may swap neighbours. If that gives too few, all are looked at after all. So the
//! number of rows is always exact, and only which of many near ones they are is as good as the index.
//!
//! The server's cosine only chooses; the one that counts is computed from the full vectors.

use pgvector::Vector;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, query_scalar};

use super::super::super::StoreError;
use super::super::super::rem::{RemNear, RemQuestion, RemVector, Scope, cosine, sort_near};
use super::super::PostgresStore;
use super::super::cells::Cells;
use super::super::spaces::is_indexed;
use super::filter::{Filter, Statement};
use super::rows::{bytes, owners, row, row_columns};
use super::spaces::space_of;
use crate::ids::RemId;

/// A read whose settings end with it. The index scan goes on until enough of what it meets is wanted, but not through all:
/// then to look at every vector is cheaper.
const SETTINGS: &str = "SET LOCAL hnsw.iterative_scan = relaxed_order; \
    SET LOCAL hnsw.ef_search = 200; SET LOCAL hnsw.max_scan_tuples = 20000; SET LOCAL hnsw.scan_mem_multiplier = 4";
/// For the scan of the index: the planner would prefer to sort by a wrong guess of how many rows pass the filter.
const NO_SORT: &str = "SET LOCAL enable_sort = off";
/// For looking at every vector.
const MAY_SORT: &str = "SET LOCAL enable_sort = on";

/// About how many vectors a table has.
const ALL: &str =
    "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass('rem_vectors_' || $1::integer)";

/// By how much the server's cosine, in single precision, may be off.
const SLACK: f64 = 1e-5;

/// A question, with what its statements are made of.
struct Ask<'a> {
    scope: &'a Scope,
    vector: &'a RemVector,
    least: f64,
    question: &'a RemQuestion<'a>,
    filter: Filter<'a>,
    table: i32,
    dimensions: i32,
}

impl PostgresStore {
    pub(super) async fn nearest_rem(
        &self,
        scope: &Scope,
        vector: &RemVector,
        least: f64,
        question: &RemQuestion<'_>,
    ) -> Result<Vec<RemNear>, StoreError> {
        let Some(space) = space_of(vector) else { return Ok(Vec::new()) };
        if question.limit == 0 {
            return Ok(Vec::new());
        }
        let mut snapshot = self.begin_rem(SETTINGS).await?;
        let Some(table) = self.rem_table_of(&mut snapshot, &space).await? else {
            snapshot.end(self).await?;
            return Ok(Vec::new());
        };
        let filter = Filter::of(question);
        let ask = Ask { scope, vector, least, question, filter, table, dimensions: space.1 };
        let table = table.to_string();
        let mut found = None;
        if is_indexed(space.1) && self.are_many(&mut snapshot, &ask).await? {
            self.rem_set(&mut snapshot, NO_SORT).await?;
            let statement = fast_sql(&ask.filter, &table, &ask.dimensions.to_string());
            let near = self.ask_near(&mut snapshot, &ask, statement, i64::from(ask.more())).await?;
            // Fewer than asked for: the scan gave up, or the index has missed one that is just near enough.
            found = Some(near).filter(|near| near.len() as u64 >= u64::from(question.limit));
            self.rem_set(&mut snapshot, MAY_SORT).await?;
        }
        let found = match found {
            Some(found) => found,
            None => {
                self.ask_near(&mut snapshot, &ask, exact_sql(&ask.filter, &table), i64::from(question.limit)).await?
            }
        };
        snapshot.end(self).await?;
        Ok(found)
    }

    pub(super) async fn cosines_rem(
        &self,
        scope: &Scope,
        vector: &RemVector,
        ids: &[RemId],
    ) -> Result<Vec<(RemId, f64)>, StoreError> {
        let Some(space) = space_of(vector) else { return Ok(Vec::new()) };
        let mut snapshot = self.begin_rem("").await?;
        let Some(table) = self.rem_table_of(&mut snapshot, &space).await? else {
            snapshot.end(self).await?;
            return Ok(Vec::new());
        };
        let found = sqlx::query(AssertSqlSafe(cosines_sql(&table.to_string())))
            .bind(scope.tenant.as_str())
            .bind(bytes(ids))
            .bind(owners(scope))
            .fetch_all(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        snapshot.end(self).await?;
        found
            .iter()
            .map(|found| {
                let mut cells = Cells::of("rem_vectors", found);
                let id = RemId::from_bytes(cells.id()?);
                let embedding: Vector = cells.take()?;
                Ok((id, cosine(embedding.as_slice(), &vector.vector)))
            })
            .collect()
    }

    /// Whether so many rows come into question that the index is worth it.
    async fn are_many(&self, snapshot: &mut PgConnection, ask: &Ask<'_>) -> Result<bool, StoreError> {
        let all: i64 =
            query_scalar(ALL).bind(ask.table).fetch_one(&mut *snapshot).await.map_err(|error| self.fault(error))?;
        // The index meets about `more` × all / wanted vectors, each of which costs as much as about 16 read one after another.
        let bound = (i64::from(ask.more()).saturating_mul(16).saturating_mul(all)).isqrt().max(self.fast_from);
        let count = format!(
            "SELECT count(*) FROM (SELECT 1 FROM rem_vectors_{} \
             WHERE tenant = $1 AND tab = $2 AND owner = ANY ($3) LIMIT $4) AS few",
            ask.table
        );
        let count: i64 = query_scalar(AssertSqlSafe(count))
            .bind(ask.scope.tenant.as_str())
            .bind(ask.question.table.code())
            .bind(owners(ask.scope))
            .bind(bound)
            .fetch_one(&mut *snapshot)
            .await
            .map_err(|error| self.fault(error))?;
        if count < bound {
            return Ok(false);
        }
        if ask.filter.is_empty() {
            return Ok(true);
        }
        // Rows are larger than vectors and are looked up one by one. The server's guess is enough: a wrong one costs time only.
        Ok(self.guess(snapshot, ask).await? >= bound / 2)
    }

    /// About how many rows fulfil the condition.
    async fn guess(&self, snapshot: &mut PgConnection, ask: &Ask<'_>) -> Result<i64, StoreError> {
        let statement = format!(
            "EXPLAIN SELECT 1 FROM rem_rows AS r \
             WHERE r.tenant = $1 AND r.tab = $2 AND r.owner = ANY ($3) AND ({})",
            ask.filter.sql(4)
        );
        let plan =
            ask.filter.bind(ask.bind_scope(statement)).fetch_all(snapshot).await.map_err(|error| self.fault(error))?;
        // The first line is the whole: `… (cost=0.28..8.30 rows=1 width=4)`.
        let first: Option<&str> = plan.first().map(|line| Cells::of("rem_rows", line).take()).transpose()?;
        let rows = first.and_then(|line| line.split("rows=").nth(1)?.split(' ').next()?.parse().ok());
        Ok(rows.unwrap_or(0))
    }

    async fn ask_near(
        &self,
        snapshot: &mut PgConnection,
        ask: &Ask<'_>,
        statement: String,
        take: i64,
    ) -> Result<Vec<RemNear>, StoreError> {
        let asked = ask
            .bind_scope(statement)
            .bind(Vector::from(ask.vector.vector.clone()))
            .bind(take)
            .bind(1.0 - ask.least + SLACK);
        let found = ask.filter.bind(asked).fetch_all(snapshot).await.map_err(|error| self.fault(error))?;
        let mut near = found.iter().map(|found| ask.read(found)).collect::<Result<Vec<_>, _>>()?;
        near.retain(|near| near.cosine >= ask.least);
        sort_near(&mut near);
        near.truncate(usize::try_from(ask.question.limit).unwrap_or(usize::MAX));
        Ok(near)
    }
}

impl Ask<'_> {
    /// How many are taken through the index.
    fn more(&self) -> u32 {
        let limit = self.question.limit;
        limit.saturating_mul(4).min(limit.saturating_add(300))
    }

    fn bind_scope(&self, statement: String) -> Statement {
        sqlx::query(AssertSqlSafe(statement))
            .bind(self.scope.tenant.as_str().to_owned())
            .bind(self.question.table.code())
            .bind(owners(self.scope))
    }

    fn read(&self, found: &PgRow) -> Result<RemNear, StoreError> {
        let mut cells = Cells::of("rem_vectors", found);
        let embedding: Vector = cells.take()?;
        Ok(RemNear { row: row(&mut cells)?, cosine: cosine(embedding.as_slice(), &self.vector.vector) })
    }
}

/// Every vector in question. The index is on another expression and cannot be used. What is as near as the last one wanted,
/// but for the server's precision, is given too, so that ties are broken by the full precision.
pub(super) fn exact_sql(filter: &Filter<'_>, table: &str) -> String {
    let from = if filter.is_empty() {
        format!("FROM rem_vectors_{table} AS v WHERE v.tenant = $1 AND v.tab = $2 AND v.owner = ANY ($3)")
    } else {
        format!(
            "FROM rem_rows AS r JOIN rem_vectors_{table} AS v ON v.row = r.no \
             WHERE r.tenant = $1 AND r.tab = $2 AND r.owner = ANY ($3) AND ({})",
            filter.sql(7)
        )
    };
    format!(
        "WITH near AS MATERIALIZED (SELECT v.row, v.embedding <=> $4 AS far {from}), \
         best AS (SELECT max(b.far) AS far FROM (SELECT n.far FROM near AS n ORDER BY n.far LIMIT $5) AS b), \
         met AS MATERIALIZED (SELECT n.row FROM near AS n, best AS b WHERE n.far <= $6 AND n.far <= b.far + {SLACK} \
            ORDER BY n.far, n.row LIMIT $5 * 4 + 1000) {}",
        rows_of_met(table)
    )
}

/// Through the index. The condition is written so that it is looked up for each vector met and the order of the scan stays.
pub(super) fn fast_sql(filter: &Filter<'_>, table: &str, dimensions: &str) -> String {
    let filter = if filter.is_empty() {
        String::new()
    } else {
        format!(" AND (SELECT {} FROM rem_rows AS r WHERE r.no = v.row)", filter.sql(7))
    };
    format!(
        "WITH met AS MATERIALIZED (SELECT v.row, v.embedding FROM rem_vectors_{table} AS v \
         WHERE v.tenant = $1 AND v.tab = $2 AND v.owner = ANY ($3){filter} \
         ORDER BY v.embedding::halfvec({dimensions}) <=> $4::vector::halfvec({dimensions}) LIMIT $5), \
         enough AS (SELECT m.row FROM met AS m WHERE m.embedding <=> $4 <= $6) {}",
        rows_of_met(table).replace("met AS m", "enough AS m")
    )
}

/// The rows and vectors of what was met, looked up one by one: the planner does not know how few they are.
fn rows_of_met(table: &str) -> String {
    format!(
        concat!(
            "SELECT v.embedding, ",
            row_columns!(),
            " FROM met AS m CROSS JOIN LATERAL (SELECT o.* FROM rem_rows AS o WHERE o.no = m.row OFFSET 0) AS r ",
            "CROSS JOIN LATERAL (SELECT e.embedding FROM rem_vectors_{} AS e WHERE e.row = m.row OFFSET 0) AS v ",
            "WHERE r.tenant = $1 AND r.tab = $2 AND r.owner = ANY ($3) AND r.deleted_at IS NULL"
        ),
        table
    )
}

pub(super) fn cosines_sql(table: &str) -> String {
    format!(
        "SELECT r.id, v.embedding FROM rem_rows AS r JOIN rem_vectors_{table} AS v ON v.row = r.no \
         WHERE r.tenant = $1 AND r.id = ANY ($2) AND r.owner = ANY ($3) AND r.deleted_at IS NULL"
    )
}
