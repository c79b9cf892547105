//! Reports on the ledger, and the sums that they are made from.
//!
//! Replicas write at once, and all of them would meet on the sums of this hour. So a batch only adds rows to `usage_deltas`, in
//! its own transaction; from there one replica at a time brings them into `usage_sums`. A report reads both in one statement,
//! and so at one moment: it is exact at any time.

use std::fmt::Write as _;
use std::sync::LazyLock;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, query, query_as, query_scalar};

use super::super::report::{Source, from_source};
use super::super::rollup::{COLUMNS, Deltas, MEASURES, Part, columns_of, filters_of, ordered, parts_of};
use super::super::{BoxFuture, Correction, LedgerRow, Rated, StoreError, UsageAsk, UsageRow, UsageStore, read};
use super::cells::{Cells, escaped};
use super::ledger::OF_KEYS;
use super::{PostgresStore, pause};
use crate::clock::UnixMs;
use crate::ids::{RequestId, TenantId};

/// Columns that say which sum it is.
const GROUP: &str = "kind, slot, tenant, key, model, label, value";
/// Rows that get into the sums in one transaction: few, because the server ends one that says nothing for ten seconds.
const MISSED_AT_ONCE: i64 = 2_000;
// What another replica is at is not waited for.
const TAKE_MISSED: &str = "DELETE FROM usage_missed WHERE request IN \
    (SELECT request FROM usage_missed ORDER BY request LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING request, started_at";
/// Rows of deltas that are brought into the sums in one transaction.
const FOLD_AT_ONCE: i64 = 20_000;
const FOLD_LOCK: &str = "SELECT pg_try_advisory_xact_lock(5940263861203507)";
/// What a group paid, to order by.
const PAID: &str = "coalesce(sum(cost), 0) + coalesce(sum(check_cost), 0) + coalesce(sum(embedding), 0)";
static ADD: LazyLock<String> = LazyLock::new(add);
static FOLD: LazyLock<String> = LazyLock::new(fold);

/// A sum, not NULL, as a column holds it: what exceeds 63 bits stays there.
fn clamped(sum: &str) -> String {
    format!("least(greatest({sum}, -9223372036854775807), 9223372036854775807)::bigint")
}

fn add() -> String {
    let mut sql = format!(
        "INSERT INTO usage_deltas ({GROUP}, {}) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], \
         $4::text[], $5::text[], $6::text[], $7::text[]",
        COLUMNS.join(", ")
    );
    (8..8 + MEASURES).for_each(|place| _ = write!(sql, ", ${place}::bigint[]"));
    sql.push(')');
    sql
}

/// In the order of the groups, and all in one statement.
fn fold() -> String {
    let columns = COLUMNS.join(", ");
    let sums = COLUMNS.map(|sum| format!("nullif({}, 0)", clamped(&format!("coalesce(sum({sum}), 0)")))).join(", ");
    let added = COLUMNS
        .map(|sum| {
            let both = format!("coalesce(s.{sum}, 0)::numeric + coalesce(excluded.{sum}, 0)");
            format!("{sum} = nullif({}, 0)", clamped(&both))
        })
        .join(", ");
    format!(
        "WITH taken AS (DELETE FROM usage_deltas WHERE seq = ANY (ARRAY(SELECT seq FROM usage_deltas ORDER BY seq LIMIT $1)) \
         RETURNING *), folded AS (INSERT INTO usage_sums AS s ({GROUP}, {columns}) SELECT {GROUP}, {sums} FROM taken \
         GROUP BY {GROUP} ORDER BY {GROUP} ON CONFLICT ({GROUP}) DO UPDATE SET {added}) SELECT count(*) FROM taken"
    )
}

impl UsageStore for PostgresStore {
    fn usage<'a>(&'a self, ask: &'a UsageAsk) -> BoxFuture<'a, Vec<UsageRow>> {
        Box::pin(async move {
            ask.check().map_err(|error| StoreError::Failed(error.into()))?;
            let parts = parts_of(ask);
            if parts.is_empty() {
                return Ok(Vec::new());
            }
            let mut report = query(AssertSqlSafe(report(ask, &parts)));
            for part in parts {
                report = report.bind(part.kind.code()).bind(part.since).bind(part.until);
            }
            for (_, text) in filters_of(ask) {
                report = report.bind(escaped(&text).into_owned());
            }
            let rows = report.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            let rows = rows.iter().map(|row| read::usage(ask, row, Cells::take)).collect::<Result<Vec<_>, _>>()?;
            Ok(ordered(ask, rows))
        })
    }

    fn correct<'a>(&'a self, corrections: &'a [Correction]) -> BoxFuture<'a, u64> {
        Box::pin(async move {
            let mut round = 0;
            loop {
                match self.correct_all(corrections).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
        })
    }

    fn corrections(&self, request: RequestId) -> BoxFuture<'_, Vec<Correction>> {
        Box::pin(self.corrections_of(request))
    }

    fn correction_page(&self, after: Option<(RequestId, UnixMs)>, limit: u32) -> BoxFuture<'_, Vec<Correction>> {
        Box::pin(self.corrections_after(after, limit))
    }

    fn rated_page<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<(LedgerRow, Rated)>> {
        Box::pin(self.rated(tenant, since, until, after, limit))
    }

    fn fold(&self) -> BoxFuture<'_, u64> {
        Box::pin(async move { Ok(self.sum_missed().await? + self.fold_once().await?) })
    }
}

impl PostgresStore {
    /// Adds to the sums.
    pub(super) async fn add_deltas(&self, connection: &mut PgConnection, deltas: &Deltas) -> Result<(), StoreError> {
        if deltas.0.is_empty() {
            return Ok(());
        }
        let groups = || deltas.0.keys();
        let mut insert = query(ADD.as_str())
            .bind(groups().map(|group| group.kind.code()).collect::<Vec<_>>())
            .bind(groups().map(|group| group.slot).collect::<Vec<_>>())
            .bind(groups().map(|group| escaped(&group.tenant)).collect::<Vec<_>>())
            .bind(groups().map(|group| escaped(&group.key)).collect::<Vec<_>>())
            .bind(groups().map(|group| escaped(&group.model)).collect::<Vec<_>>())
            .bind(groups().map(|group| escaped(&group.label)).collect::<Vec<_>>())
            .bind(groups().map(|group| escaped(&group.value)).collect::<Vec<_>>());
        let mut columns: [Vec<Option<i64>>; MEASURES] = std::array::from_fn(|_| Vec::with_capacity(deltas.0.len()));
        for delta in deltas.0.values() {
            for (column, sum) in columns.iter_mut().zip(delta.0) {
                column.push(Some(sum).filter(|sum| *sum != 0));
            }
        }
        for column in columns {
            insert = insert.bind(column);
        }
        insert.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
    }

    /// Sums rows that are in no sum yet, some of them; returns how many.
    async fn sum_missed(&self) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write().await?;
        let missed: Vec<([u8; 16], i64)> = query_as(TAKE_MISSED)
            .bind(MISSED_AT_ONCE)
            .fetch_all(&mut *transaction)
            .await
            .map_err(|error| self.fault(error))?;
        if missed.is_empty() {
            return Ok(0);
        }
        let count = missed.len() as u64;
        let (ids, times): (Vec<_>, Vec<_>) = missed.into_iter().unzip();
        let rows = self.rows_of(&mut transaction, query(OF_KEYS).bind(ids).bind(times)).await?;
        let mut deltas = Deltas::default();
        rows.iter().for_each(|row| deltas.add_row(row, &self.caps));
        self.add_deltas(&mut transaction, &deltas).await?;
        self.commit(transaction).await?;
        Ok(count)
    }

    /// Brings deltas into the sums, some of them, unless another replica is at it; returns how many.
    async fn fold_once(&self) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write().await?;
        let ours: bool =
            query_scalar(FOLD_LOCK).fetch_one(&mut *transaction).await.map_err(|error| self.fault(error))?;
        if !ours {
            return Ok(0);
        }
        let folded: i64 = query_scalar(FOLD.as_str())
            .bind(FOLD_AT_ONCE)
            .fetch_one(&mut *transaction)
            .await
            .map_err(|error| self.fault(error))?;
        self.commit(transaction).await?;
        Ok(folded.unsigned_abs())
    }
}

/// The statement of a question.
fn report(ask: &UsageAsk, parts: &[Part]) -> String {
    let slot = ask.slot.map_or("0::bigint".to_owned(), |slot| format!("slot - slot % {}", slot.ms()));
    let by = columns_of(&ask.by);
    let columns = COLUMNS.join(", ");
    let mut sql = format!("SELECT {slot} AS of_slot");
    by.iter().for_each(|column| _ = write!(sql, ", {column}"));
    COLUMNS.iter().for_each(|sum| _ = write!(sql, ", {}", clamped(&format!("coalesce(sum({sum}), 0)"))));
    let mut table = "(".to_owned();
    let mut place = 0;
    for (at, _) in parts.iter().enumerate() {
        for (second, sums) in ["usage_sums", "usage_deltas"].into_iter().enumerate() {
            if at + second > 0 {
                table.push_str(" UNION ALL ");
            }
            let (kind, since, until) = (place + 1, place + 2, place + 3);
            let _ = write!(
                table,
                "SELECT {GROUP}, {columns} FROM {sums} WHERE kind = ${kind} AND slot >= ${since} AND slot < ${until}"
            );
        }
        place += 3;
    }
    table.push_str(") AS parts");
    from_source(&mut sql, ask, &Source { table: &table, parameters: place, mark: '$', paid: PAID });
    sql
}
