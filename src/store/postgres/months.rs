//! The months of the ledger and of its attempts: a partition for each, made before it is needed, so that old ones can go as a whole.
//!
//! A partition that cannot be made is no reason to lose a row: the row then goes to the default partition.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};
use sqlx::{AssertSqlSafe, query, query_scalar, raw_sql};

use super::super::{LedgerRow, StoreError};
use super::PostgresStore;
use crate::clock::UnixMs;

const LOCK: &str = "SELECT pg_advisory_xact_lock(5940263861203503)";
const EXISTS: &str = "SELECT to_regclass($1) IS NOT NULL";

/// The months whose partition is there, or could not be made.
#[derive(Debug, Default)]
pub(super) struct Made(Mutex<BTreeSet<Date>>);

impl Made {
    fn has(&self, month: Date) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&month)
    }

    fn add(&self, month: Date) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(month);
    }
}

impl PostgresStore {
    /// Makes the partitions for these rows and for the month after each.
    pub(super) async fn prepare_months(&self, rows: &[LedgerRow]) -> Result<(), StoreError> {
        let mut wanted = BTreeSet::new();
        for month in rows.iter().filter_map(|row| month_of(row.started_at)) {
            wanted.insert(month);
            wanted.extend(month.checked_add(1.month()));
        }
        for month in wanted {
            if self.months.has(month) {
                continue;
            }
            match self.make_month(month).await {
                // Without a server the rows cannot be written either, and it is tried again with them.
                Err(error @ (StoreError::Unreachable { .. } | StoreError::ReadOnly { .. } | StoreError::Closed)) => {
                    return Err(error);
                }
                Ok(()) | Err(_) => self.months.add(month),
            }
        }
        Ok(())
    }

    async fn make_month(&self, month: Date) -> Result<(), StoreError> {
        // Each by itself: an older program makes the one without the other.
        let made = self.make_month_of("requests", month).await;
        self.make_month_of("attempts", month).await?;
        made
    }

    async fn make_month_of(&self, table: &str, month: Date) -> Result<(), StoreError> {
        let name = name(table, month);
        let Some((from, to)) = bounds(month) else { return Ok(()) };
        let mut transaction = self.begin_write().await?;
        let there = query_scalar(EXISTS).bind(&name).fetch_one(&mut *transaction).await;
        if there.map_err(|error| self.fault(error))? {
            return Ok(());
        }
        query(LOCK).execute(&mut *transaction).await.map_err(|error| self.fault(error))?;
        let there = query_scalar(EXISTS).bind(&name).fetch_one(&mut *transaction).await;
        if there.map_err(|error| self.fault(error))? {
            return Ok(());
        }
        // Made first and attached then, which does not keep readers and writers of other months waiting.
        let make = format!(
            "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
        );
        raw_sql(AssertSqlSafe(make)).execute(&mut *transaction).await.map_err(|error| self.fault(error))?;
        self.commit(transaction).await
    }
}

/// The first day of the month of a time, for times in this century; others have no partition of their own.
fn month_of(at: UnixMs) -> Option<Date> {
    let at = Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()?;
    let day = Offset::UTC.to_datetime(at).date();
    (2000..2100).contains(&day.year()).then(|| day.first_of_month())
}

/// From the first millisecond of the month to that of the next.
fn bounds(month: Date) -> Option<(i64, i64)> {
    let start = |day: Date| Some(Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()?.as_millisecond());
    Some((start(month)?, start(month.checked_add(1.month()).ok()?)?))
}

fn name(table: &str, month: Date) -> String {
    format!("{table}_{:04}_{:02}", month.year(), month.month())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_month_is_from_its_first_millisecond_to_that_of_the_next() {
        let december = date(2026, 12, 1);
        let (from, to) = bounds(december).unwrap();
        assert_eq!((from, to - from), (1_796_083_200_000, 31 * 86_400_000));
        let at = |ms: i64| month_of(u64::try_from(ms).unwrap());
        assert_eq!((at(from), at(to - 1), at(to)), (Some(december), Some(december), Some(date(2027, 1, 1))));
        assert_eq!(name("requests", december), "requests_2026_12");
    }

    #[test]
    fn times_that_cannot_be_meant_have_no_partition_of_their_own() {
        for odd in [0, 1, u64::MAX, u64::MAX >> 1, 4_102_444_800_000] {
            assert_eq!(month_of(odd), None, "{odd}");
        }
    }
}
