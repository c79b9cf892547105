//! Calls to upstreams, beside the ledger rows of their requests.

use std::collections::HashMap;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Sqlite, query};

use super::super::read::{self, attempt_columns};
use super::super::{Attempt, LedgerRow, StoreError};
use super::SqliteStore;
use super::cells::{Cells, ids_text, stored};
use crate::ids::RequestId;

macro_rules! columns {
    () => {
        concat!("request, ", attempt_columns!())
    };
}

/// Placeholders of one row and of eight.
macro_rules! one_row {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
}
macro_rules! four_rows {
    () => {
        concat!(one_row!(), ", ", one_row!(), ", ", one_row!(), ", ", one_row!())
    };
}

/// Rows of one statement where there are many.
const MANY: usize = 8;
const ADD_ONE: &str = concat!("INSERT INTO attempts (", columns!(), ") VALUES ", one_row!(), " ON CONFLICT DO NOTHING");
const ADD_MANY: &str = concat!(
    "INSERT INTO attempts (",
    columns!(),
    ") VALUES ",
    four_rows!(),
    ", ",
    four_rows!(),
    " ON CONFLICT DO NOTHING"
);
const OF: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM attempts WHERE request IN (SELECT unhex(value) FROM json_each(?1)) ORDER BY request, number"
);

type Insert<'q> = Query<'q, Sqlite, SqliteArguments>;

impl SqliteStore {
    /// Adds the attempts of rows that have just been added.
    pub(super) async fn add_attempts(
        &self,
        connection: &mut SqliteConnection,
        rows: &[&LedgerRow],
    ) -> Result<(), StoreError> {
        let mut all: Vec<(RequestId, &Attempt)> = Vec::new();
        for row in rows {
            all.extend(row.attempts.iter().map(|attempt| (row.request, attempt)));
        }
        let (chunks, rest) = all.as_chunks::<MANY>();
        let many = chunks.iter().map(|chunk| (ADD_MANY, chunk.as_slice()));
        let ones = rest.iter().map(|one| (ADD_ONE, std::slice::from_ref(one)));
        for (statement, chunk) in many.chain(ones) {
            let mut insert = query(statement);
            for (request, attempt) in chunk {
                insert = bind(insert, *request, attempt);
            }
            insert.execute(&mut *connection).await.map_err(|error| self.fault(error))?;
        }
        Ok(())
    }

    /// Gives rows their attempts.
    pub(super) async fn give_attempts(
        &self,
        connection: &mut SqliteConnection,
        rows: &mut [LedgerRow],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let ids = ids_text(rows.iter().map(|row| row.request));
        let found = query(OF).bind(ids).fetch_all(connection).await.map_err(|error| self.fault(error))?;
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

fn bind<'q>(insert: Insert<'q>, request: RequestId, attempt: &'q Attempt) -> Insert<'q> {
    let mut insert = insert
        .bind(request.to_bytes().to_vec())
        .bind(attempt.number)
        .bind(&*attempt.kind)
        .bind(stored(attempt.started_at))
        .bind(&attempt.upstream)
        .bind(attempt.model.as_deref())
        .bind(attempt.status)
        .bind(stored(attempt.latency_us));
    for count in attempt.tokens.counts() {
        insert = insert.bind(stored(count));
    }
    insert
        .bind(attempt.tokens_source.as_deref())
        .bind(attempt.service.as_deref())
        .bind(attempt.cost_nano_usd)
        .bind(attempt.price_version.as_deref())
}

fn read(row: &SqliteRow) -> Result<(RequestId, Attempt), StoreError> {
    let mut cells = Cells::of("attempts", row);
    let request = RequestId::from_bytes(cells.id()?);
    Ok((request, read::attempt(&mut cells)?))
}
