//! Reports on the ledger, and the sums that they are made from. One connection writes, so sums are brought up to date with
//! each batch.

use std::fmt::Write as _;
use std::sync::LazyLock;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, query, query_scalar};

use super::super::report::{Source, from_source};
use super::super::rollup::{COLUMNS, Delta, Deltas, Group, MEASURES, Part, columns_of, filters_of, ordered, parts_of};
use super::super::{BoxFuture, Correction, LedgerRow, Rated, StoreError, UsageAsk, UsageRow, UsageStore, read};
use super::SqliteStore;
use super::cells::Cells;
use super::ledger::OF_IDS;
use crate::clock::UnixMs;
use crate::ids::{RequestId, TenantId};

/// Sums of one statement where there are many.
const MANY: usize = 8;
/// What a group paid, to order by: `sum` would refuse what exceeds 63 bits.
const PAID: &str = "total(cost) + total(check_cost) + total(embedding)";
static ADD_ONE: LazyLock<String> = LazyLock::new(|| add(1));
static ADD_MANY: LazyLock<String> = LazyLock::new(|| add(MANY));
/// Rows that get into the sums in one transaction.
const MISSED_AT_ONCE: u32 = 5_000;
const MISSED: &str = "SELECT request FROM usage_missed ORDER BY request LIMIT ?1";
const NOT_MISSED: &str = "DELETE FROM usage_missed WHERE request IN (SELECT unhex(value) FROM json_each(?1))";

/// Adds to sums. What exceeds 63 bits stays there: SQLite would make it a number with a fraction, and refuse that.
fn add(groups: usize) -> String {
    let mut sql = format!(
        "INSERT INTO usage_sums (kind, slot, tenant, key, model, label, value, {}) VALUES ",
        COLUMNS.join(", ")
    );
    let places = format!("({})", vec!["?"; 7 + MEASURES].join(", "));
    sql.push_str(&vec![places.as_str(); groups].join(", "));
    sql.push_str(" ON CONFLICT (kind, slot, tenant, key, model, label, value) DO UPDATE SET ");
    let sums = COLUMNS.map(|sum| {
        format!(
            "{sum} = iif(typeof({sum} + excluded.{sum}) = 'integer', {sum} + excluded.{sum}, \
             iif({sum} > 0, 9223372036854775807, -9223372036854775807))"
        )
    });
    sql.push_str(&sums.join(", "));
    sql
}

impl UsageStore for SqliteStore {
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
                report = report.bind(text);
            }
            let rows = report.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            let rows = rows.iter().map(|row| read::usage(ask, row, sum)).collect::<Result<Vec<_>, _>>()?;
            Ok(ordered(ask, rows))
        })
    }

    fn correct<'a>(&'a self, corrections: &'a [Correction]) -> BoxFuture<'a, u64> {
        Box::pin(self.correct_all(corrections))
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
        Box::pin(async move {
            let mut transaction = self.begin_write().await?;
            let summed = self.sum_missed(&mut transaction).await?;
            self.commit(transaction).await?;
            Ok(summed)
        })
    }
}

impl SqliteStore {
    /// Adds to the sums.
    pub(super) async fn add_deltas(
        &self,
        connection: &mut SqliteConnection,
        deltas: &Deltas,
    ) -> Result<(), StoreError> {
        let all: Vec<(&Group, &Delta)> = deltas.0.iter().collect();
        let (chunks, rest) = all.as_chunks::<MANY>();
        let many = chunks.iter().map(|chunk| (ADD_MANY.as_str(), chunk.as_slice()));
        let ones = rest.iter().map(|one| (ADD_ONE.as_str(), std::slice::from_ref(one)));
        for (statement, chunk) in many.chain(ones) {
            let mut insert = query(statement);
            for (group, delta) in chunk {
                insert = insert.bind(group.kind.code()).bind(group.slot);
                for text in [&group.tenant, &group.key, &group.model, &group.label, &group.value] {
                    insert = insert.bind(text);
                }
                for sum in delta.0 {
                    insert = insert.bind(sum);
                }
            }
            insert.execute(&mut *connection).await.map_err(|error| self.fault(error))?;
        }
        Ok(())
    }

    /// Sums rows that are in no sum yet, some of them; returns how many.
    pub(super) async fn sum_missed(&self, connection: &mut SqliteConnection) -> Result<u64, StoreError> {
        let missed: Vec<Vec<u8>> = query_scalar(MISSED)
            .bind(MISSED_AT_ONCE)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        if missed.is_empty() {
            return Ok(0);
        }
        let ids = missed.iter().filter_map(|id| id.as_slice().try_into().ok().map(RequestId::from_bytes));
        let ids = super::cells::ids_text(ids);
        let rows = self.rows_of(connection, query(OF_IDS).bind(ids.as_str())).await?;
        let mut deltas = Deltas::default();
        rows.iter().for_each(|row| deltas.add_row(row, &self.caps));
        self.add_deltas(connection, &deltas).await?;
        query(NOT_MISSED).bind(ids).execute(connection).await.map_err(|error| self.fault(error))?;
        Ok(missed.len() as u64)
    }
}

/// The statement of a question.
fn report(ask: &UsageAsk, parts: &[Part]) -> String {
    let slot = ask.slot.map_or("0".to_owned(), |slot| format!("slot - slot % {}", slot.ms()));
    let by = columns_of(&ask.by);
    let mut sql = format!("SELECT {slot} AS of_slot");
    by.iter().for_each(|column| _ = write!(sql, ", {column}"));
    // Halves, because `sum` fails where it exceeds 63 bits.
    COLUMNS
        .iter()
        .for_each(|sum| _ = write!(sql, ", coalesce(sum({sum} >> 32), 0), coalesce(sum({sum} & 4294967295), 0)"));
    let mut table = "(".to_owned();
    let mut place = 0;
    for (at, _) in parts.iter().enumerate() {
        if at > 0 {
            table.push_str(" UNION ALL ");
        }
        let _ = write!(
            table,
            "SELECT * FROM usage_sums WHERE kind = ?{} AND slot >= ?{} AND slot < ?{}",
            place + 1,
            place + 2,
            place + 3
        );
        place += 3;
    }
    table.push(')');
    from_source(&mut sql, ask, &Source { table: &table, parameters: place, mark: '?', paid: PAID });
    sql
}

/// A sum of which the halves were selected.
fn sum(cells: &mut Cells<'_>) -> Result<i64, StoreError> {
    let (high, low): (i64, i64) = (cells.take()?, cells.take()?);
    Ok(whole(high, low))
}

/// A sum from those of its halves; what exceeds 63 bits stays there.
fn whole(high: i64, low: i64) -> i64 {
    let sum = (i128::from(high) << 32) + i128::from(low);
    i64::try_from(sum).unwrap_or(if sum > 0 { i64::MAX } else { -i64::MAX })
}
