//! Calls to upstreams, beside the ledger rows of their requests and in months like those.

use std::collections::HashMap;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::query;

use super::super::read::{self, attempt_columns};
use super::super::{Attempt, LedgerRow, StoreError};
use super::PostgresStore;
use super::cells::{Cells, escaped, escaped_or_null, stored};
use crate::clock::UnixMs;
use crate::ids::RequestId;

/// All columns, in the order in which attempts are written.
macro_rules! columns {
    () => {
        concat!("request, asked_at, ", attempt_columns!())
    };
}

const ADD: &str = concat!(
    "INSERT INTO attempts (",
    columns!(),
    ") SELECT * FROM unnest(",
    "$1::bytea[], $2::bigint[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::text[], ",
    "$8::integer[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], ",
    "$14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], ",
    "$20::text[], $21::text[], $22::bigint[], $23::text[]",
    ") ON CONFLICT DO NOTHING"
);
// With the time of the request only its month is looked at.
const OF: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM attempts JOIN unnest($1::bytea[], $2::bigint[]) AS asked (request, asked_at) USING (request, asked_at) ",
    "ORDER BY request, number"
);

/// An attempt with its request and when that began.
type Of<'r> = (RequestId, UnixMs, &'r Attempt);

impl PostgresStore {
    /// Adds the attempts of rows that have just been added.
    pub(super) async fn add_attempts(
        &self,
        connection: &mut PgConnection,
        rows: &[&LedgerRow],
    ) -> Result<(), StoreError> {
        let mut all: Vec<Of<'_>> = Vec::new();
        for row in rows {
            all.extend(row.attempts.iter().map(|attempt| (row.request, row.started_at, attempt)));
        }
        if all.is_empty() {
            return Ok(());
        }
        let mut insert = query(ADD)
            .bind(column(&all, |(request, ..)| request.to_bytes()))
            .bind(column(&all, |(_, asked_at, _)| stored(*asked_at)))
            .bind(column(&all, |(.., attempt)| i32::from(attempt.number)))
            .bind(column(&all, |(.., attempt)| escaped(&attempt.kind)))
            .bind(column(&all, |(.., attempt)| stored(attempt.started_at)))
            .bind(column(&all, |(.., attempt)| escaped(&attempt.upstream)))
            .bind(column(&all, |(.., attempt)| escaped_or_null(attempt.model.as_deref())))
            .bind(column(&all, |(.., attempt)| attempt.status.map(i32::from)))
            .bind(column(&all, |(.., attempt)| stored(attempt.latency_us)));
        let mut counts: [Vec<i64>; 10] = Default::default();
        for (.., attempt) in &all {
            for (column, count) in counts.iter_mut().zip(attempt.tokens.counts()) {
                column.push(stored(count));
            }
        }
        for column in counts {
            insert = insert.bind(column);
        }
        let added = insert
            .bind(column(&all, |(.., attempt)| escaped_or_null(attempt.tokens_source.as_deref())))
            .bind(column(&all, |(.., attempt)| escaped_or_null(attempt.service.as_deref())))
            .bind(column(&all, |(.., attempt)| attempt.cost_nano_usd))
            .bind(column(&all, |(.., attempt)| escaped_or_null(attempt.price_version.as_deref())))
            .execute(connection)
            .await;
        added.map(|_| ()).map_err(|error| self.fault(error))
    }

    /// Gives rows their attempts.
    pub(super) async fn give_attempts(
        &self,
        connection: &mut PgConnection,
        rows: &mut [LedgerRow],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let found = query(OF)
            .bind(rows.iter().map(|row| row.request.to_bytes()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| stored(row.started_at)).collect::<Vec<_>>())
            .fetch_all(connection)
            .await
            .map_err(|error| self.fault(error))?;
        let mut attempts: HashMap<RequestId, Vec<Attempt>> = HashMap::new();
        for row in &found {
            let (request, attempt) = read(row)?;
            attempts.entry(request).or_default().push(attempt);
        }
        for row in rows {
            row.attempts = attempts.remove(&row.request).unwrap_or_default();
        }
        Ok(())
    }
}

/// One column of many attempts.
fn column<'r, T>(all: &[Of<'r>], cell: impl Fn(&Of<'r>) -> T) -> Vec<T> {
    all.iter().map(cell).collect()
}

fn read(row: &PgRow) -> Result<(RequestId, Attempt), StoreError> {
    let mut cells = Cells::of("attempts", row);
    let request = RequestId::from_bytes(cells.id()?);
    cells.count()?;
    Ok((request, read::attempt(&mut cells)?))
}
