//! The requests ledger.

use std::collections::HashSet;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Sqlite, query, query_scalar};

use super::super::read::{self, request_columns};
use super::super::rollup::Deltas;
use super::super::{BoxFuture, LedgerRow, LedgerStore, Spend, StoreError};
use super::SqliteStore;
use super::cells::{Cells, stored, stored_or_null, tags_text};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RequestId, TenantId};

macro_rules! columns {
    () => {
        request_columns!("user")
    };
}

/// Placeholders of one row, of four and of sixteen.
macro_rules! one_row {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
}
macro_rules! four_rows {
    () => {
        concat!(one_row!(), ", ", one_row!(), ", ", one_row!(), ", ", one_row!())
    };
}
macro_rules! sixteen_rows {
    () => {
        concat!(four_rows!(), ", ", four_rows!(), ", ", four_rows!(), ", ", four_rows!())
    };
}

/// Rows of one statement in a large batch. A statement costs a trip to the writing thread, which is most of what a
/// row costs when it travels alone.
const MANY: usize = 16;
const APPEND_ONE: &str =
    concat!("INSERT INTO requests (", columns!(), ") VALUES ", one_row!(), " ON CONFLICT (id) DO NOTHING RETURNING id");
const APPEND_MANY: &str = concat!(
    "INSERT INTO requests (",
    columns!(),
    ") VALUES ",
    sixteen_rows!(),
    " ON CONFLICT (id) DO NOTHING RETURNING id"
);
const REQUEST: &str = concat!("SELECT ", columns!(), " FROM requests WHERE id = ?1");
const COUNT: &str = "SELECT count(*) FROM requests";
// The index on entry and id keeps this short, and the tenant is checked on each row; the plus signs keep SQLite from
// taking the index on tenant and time.
pub(super) const SERVED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests WHERE entry = ?1 AND +tenant = ?2 AND outcome = 'hit' AND +started_at >= ?3 ",
    "ORDER BY id DESC LIMIT ?4"
);
// No id sorts before the empty blob.
const PAGE: &str = concat!("SELECT ", columns!(), " FROM requests WHERE id > ?1 ORDER BY id LIMIT ?2");
pub(super) const RATED_ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests WHERE id > ?1 AND id <= ?5 AND +started_at >= ?2 AND +started_at < ?3 ORDER BY id LIMIT ?4"
);
pub(super) const RATED_TENANT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests WHERE tenant = ?6 AND id > ?1 AND id <= ?5 AND +started_at >= ?2 AND +started_at < ?3 \
     ORDER BY id LIMIT ?4"
);
pub(super) const OF_IDS: &str =
    concat!("SELECT ", columns!(), " FROM requests WHERE id IN (SELECT unhex(value) FROM json_each(?1))");
// By id: an index over tenants would read all rows of one.
pub(super) const OF_KEY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests WHERE id IN (SELECT unhex(value) FROM json_each(?1)) AND +tenant = ?2 AND +key = ?3"
);
const RECENT_ALL: &str = concat!("SELECT ", columns!(), " FROM requests ORDER BY id DESC LIMIT ?1");
pub(super) const RECENT_TENANT: &str =
    concat!("SELECT ", columns!(), " FROM requests WHERE tenant = ?2 ORDER BY id DESC LIMIT ?1");

impl LedgerStore for SqliteStore {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if rows.is_empty() {
                return Ok(());
            }
            let mut transaction = self.begin_write().await?;
            let mut added = Vec::with_capacity(rows.len());
            let (chunks, rest) = rows.as_chunks::<MANY>();
            let many = chunks.iter().map(|chunk| (APPEND_MANY, chunk.as_slice()));
            let ones = rest.iter().map(|row| (APPEND_ONE, std::slice::from_ref(row)));
            for (statement, chunk) in many.chain(ones) {
                let mut ids = self.append_chunk(&mut transaction, statement, chunk).await?;
                // Of equal requests the first has been added.
                added.extend(chunk.iter().filter(|row| ids.remove(&row.request)));
            }
            self.add_attempts(&mut transaction, &added).await?;
            let mut deltas = Deltas::default();
            added.iter().for_each(|row| deltas.add_row(row, &self.caps));
            self.add_deltas(&mut transaction, &deltas).await?;
            self.commit(transaction).await
        })
    }

    fn request(&self, id: RequestId) -> BoxFuture<'_, Option<LedgerRow>> {
        Box::pin(async move {
            let rows = self.rows(query(REQUEST).bind(id.to_bytes().to_vec())).await?;
            Ok(rows.into_iter().next())
        })
    }

    fn count(&self) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let count: i64 = query_scalar(COUNT).fetch_one(&self.readers).await.map_err(|error| self.fault(error))?;
            Ok(count.unsigned_abs())
        })
    }

    fn recent<'a>(&'a self, tenant: Option<&'a TenantId>, limit: u32) -> BoxFuture<'a, Vec<LedgerRow>> {
        Box::pin(async move {
            let statement = match tenant {
                Some(tenant) => query(RECENT_TENANT).bind(limit).bind(tenant.as_str()),
                None => query(RECENT_ALL).bind(limit),
            };
            self.rows(statement).await
        })
    }

    fn page(&self, after: Option<RequestId>, limit: u32) -> BoxFuture<'_, Vec<LedgerRow>> {
        Box::pin(async move {
            let after = after.map(RequestId::to_bytes);
            self.rows(query(PAGE).bind(after.as_ref().map_or(&[][..], |id| &id[..])).bind(limit)).await
        })
    }

    fn served<'a>(
        &'a self,
        tenant: &'a TenantId,
        entry: EntryId,
        since: UnixMs,
        limit: u32,
    ) -> BoxFuture<'a, Vec<LedgerRow>> {
        Box::pin(async move {
            let served = query(SERVED).bind(entry.to_bytes().to_vec()).bind(tenant.as_str());
            self.rows(served.bind(stored(since)).bind(limit)).await
        })
    }

    fn spend<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        until: UnixMs,
        slot_ms: u64,
    ) -> BoxFuture<'a, Vec<Spend>> {
        Box::pin(self.sum_spend(tenant, since, until, slot_ms))
    }
}

impl SqliteStore {
    /// Rows with their attempts. Both are added together and never change, so they need no common snapshot.
    async fn rows(&self, statement: Statement<'_>) -> Result<Vec<LedgerRow>, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(|error| self.fault(error))?;
        self.rows_of(&mut connection, statement).await
    }

    /// [`Self::rows`] over a connection.
    pub(super) async fn rows_of(
        &self,
        connection: &mut SqliteConnection,
        statement: Statement<'_>,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        let rows = statement.fetch_all(&mut *connection).await.map_err(|error| self.fault(error))?;
        let mut rows = rows.iter().map(read::request).collect::<Result<Vec<_>, _>>()?;
        self.give_attempts(connection, &mut rows).await?;
        Ok(rows)
    }

    /// Adds those that are not there; returns which.
    async fn append_chunk(
        &self,
        connection: &mut SqliteConnection,
        statement: &'static str,
        rows: &[LedgerRow],
    ) -> Result<HashSet<RequestId>, StoreError> {
        let mut insert = query(statement);
        for row in rows {
            insert = bind(insert, row)?;
        }
        let added = insert.fetch_all(connection).await.map_err(|error| self.fault(error))?;
        added.iter().map(|row| Cells::of("requests", row).id().map(RequestId::from_bytes)).collect()
    }
}

pub(super) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Binds one row in the order of the columns.
fn bind<'q>(insert: Statement<'q>, row: &'q LedgerRow) -> Result<Statement<'q>, StoreError> {
    Ok(insert
        .bind(row.request.to_bytes().to_vec())
        .bind(stored(row.started_at))
        .bind(row.tenant.as_ref().map(TenantId::as_str))
        .bind(row.key.as_ref().map(KeyId::as_str))
        .bind(row.user.as_deref())
        .bind(tags_text(&row.tags)?)
        .bind(&row.route)
        .bind(&*row.dialect)
        .bind(row.model_asked.as_deref())
        .bind(row.model_answered.as_deref())
        .bind(row.stream)
        .bind(&*row.outcome)
        .bind(row.tier.as_deref())
        .bind(row.reason.as_deref())
        .bind(row.similarity)
        .bind(row.entry.map(|id| id.to_bytes().to_vec()))
        .bind(row.status)
        .bind(row.upstream.as_deref())
        .bind(row.upstream_status)
        .bind(stored(row.tokens.input))
        .bind(stored(row.tokens.cache_read))
        .bind(stored(row.tokens.cache_write))
        .bind(stored(row.tokens.output))
        .bind(stored(row.tokens.reasoning))
        .bind(row.tokens_source.as_deref())
        .bind(stored(row.latency_us))
        .bind(stored_or_null(row.ttft_us))
        .bind(stored(row.overhead_us))
        .bind(row.cost_nano_usd)
        .bind(row.saved_nano_usd)
        .bind(row.price_version.as_deref())
        .bind(stored(row.tokens.cache_write_1h))
        .bind(stored(row.tokens.audio_input))
        .bind(stored(row.tokens.audio_output))
        .bind(stored(row.tokens.image_input))
        .bind(stored(row.tokens.image_output))
        .bind(row.service.as_deref())
        .bind(row.embedding_nano_usd)
        .bind(row.saved_gross_nano_usd))
}
