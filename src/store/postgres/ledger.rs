//! The requests ledger, partitioned by month.

use std::collections::HashSet;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, query, query_scalar};

use super::super::read::{self, request_columns};
use super::super::rollup::Deltas;
use super::super::{BoxFuture, LedgerRow, LedgerStore, Spend, StoreError};
use super::cells::{Cells, escaped, escaped_or_null, stored, stored_or_null, tags_text};
use super::{PostgresStore, pause};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RequestId, TenantId};

macro_rules! columns {
    () => {
        request_columns!("\"user\"")
    };
}

/// Rows of one statement.
const MANY: usize = 2_000;
// The key of a partitioned table includes what it is partitioned by, so that a request has one row is checked by id.
const APPEND: &str = concat!(
    "INSERT INTO requests (",
    columns!(),
    ") SELECT * FROM unnest(",
    "$1::bytea[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], ",
    "$8::text[], $9::text[], $10::text[], $11::boolean[], $12::text[], $13::text[], $14::text[], ",
    "$15::real[], $16::bytea[], $17::integer[], $18::text[], $19::integer[], $20::bigint[], ",
    "$21::bigint[], $22::bigint[], $23::bigint[], $24::bigint[], $25::text[], $26::bigint[], ",
    "$27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[], $31::text[], $32::bigint[], ",
    "$33::bigint[], $34::bigint[], $35::bigint[], $36::bigint[], $37::text[], $38::bigint[], $39::bigint[]",
    ") AS n (",
    columns!(),
    ") WHERE NOT EXISTS (SELECT 1 FROM requests AS r WHERE r.id = n.id) ON CONFLICT DO NOTHING RETURNING id"
);
const REQUEST: &str = concat!("SELECT ", columns!(), " FROM requests WHERE id = $1");
const COUNT: &str = "SELECT count(*) FROM requests";
// The index on entry and id keeps this short, and the tenant is checked on each row.
const SERVED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests WHERE entry = $1 AND tenant = $2 AND outcome = 'hit' AND started_at >= $3 ",
    "ORDER BY id DESC LIMIT $4"
);
// No id sorts before the empty one.
const PAGE: &str = concat!("SELECT ", columns!(), " FROM requests WHERE id > $1 ORDER BY id LIMIT $2");
pub(super) const RATED_ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests WHERE id > $1 AND id <= $5 AND started_at >= $2 AND started_at < $3 ORDER BY id LIMIT $4"
);
pub(super) const RATED_TENANT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests WHERE tenant = $6 AND id > $1 AND id <= $5 AND started_at >= $2 AND started_at < $3 \
     ORDER BY id LIMIT $4"
);
pub(super) const OF_IDS: &str = concat!("SELECT ", columns!(), " FROM requests WHERE id = ANY ($1::bytea[])");
// With the time only its month is looked at.
pub(super) const OF_KEYS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests JOIN unnest($1::bytea[], $2::bigint[]) AS asked (id, started_at) USING (id, started_at)"
);
// With the times only their months are looked at.
pub(super) const OF_KEY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM requests AS r JOIN unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS asked (asked_id, since, until) ",
    "ON r.id = asked.asked_id AND r.started_at BETWEEN asked.since AND asked.until WHERE r.tenant = $4 AND r.key = $5"
);
const RECENT_ALL: &str = concat!("SELECT ", columns!(), " FROM requests ORDER BY id DESC LIMIT $1");
const RECENT_TENANT: &str =
    concat!("SELECT ", columns!(), " FROM requests WHERE tenant = $2 ORDER BY id DESC LIMIT $1");

impl LedgerStore for PostgresStore {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut round = 0;
            while !rows.is_empty() {
                match self.append_once(rows).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
            Ok(())
        })
    }

    fn request(&self, id: RequestId) -> BoxFuture<'_, Option<LedgerRow>> {
        Box::pin(async move {
            let rows = self.rows(query(REQUEST).bind(id.to_bytes())).await?;
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
                Some(tenant) => query(RECENT_TENANT).bind(i64::from(limit)).bind(tenant.as_str()),
                None => query(RECENT_ALL).bind(i64::from(limit)),
            };
            self.rows(statement).await
        })
    }

    fn page(&self, after: Option<RequestId>, limit: u32) -> BoxFuture<'_, Vec<LedgerRow>> {
        Box::pin(async move {
            let after = after.map(RequestId::to_bytes);
            self.rows(query(PAGE).bind(after.as_ref().map_or(&[][..], |id| &id[..])).bind(i64::from(limit))).await
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
            let served = query(SERVED).bind(entry.to_bytes()).bind(tenant.as_str());
            self.rows(served.bind(stored(since)).bind(i64::from(limit))).await
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

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

impl PostgresStore {
    /// Rows with their attempts. Both are added together and never change, so they need no common snapshot.
    async fn rows(&self, statement: Statement<'_>) -> Result<Vec<LedgerRow>, StoreError> {
        let mut connection = self.readers.acquire().await.map_err(|error| self.fault(error))?;
        self.rows_of(&mut connection, statement).await
    }

    /// [`Self::rows`] over a connection.
    pub(super) async fn rows_of(
        &self,
        connection: &mut PgConnection,
        statement: Statement<'_>,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        let rows = statement.fetch_all(&mut *connection).await.map_err(|error| self.fault(error))?;
        let mut rows = rows.iter().map(read::request).collect::<Result<Vec<_>, _>>()?;
        self.give_attempts(connection, &mut rows).await?;
        Ok(rows)
    }

    async fn append_once(&self, rows: &[LedgerRow]) -> Result<(), StoreError> {
        self.prepare_months(rows).await?;
        let mut transaction = self.begin_write().await?;
        let mut seen = HashSet::with_capacity(rows.len());
        let mut deltas = Deltas::default();
        for chunk in rows.chunks(MANY) {
            // The first of equal requests stays.
            let mut chunk: Vec<&LedgerRow> = chunk.iter().filter(|row| seen.insert(row.request)).collect();
            let added = self.append_chunk(&mut transaction, &chunk).await?;
            chunk.retain(|row| added.contains(&row.request.to_bytes()));
            self.add_attempts(&mut transaction, &chunk).await?;
            chunk.iter().for_each(|row| deltas.add_row(row, &self.caps));
        }
        self.add_deltas(&mut transaction, &deltas).await?;
        self.commit(transaction).await
    }

    /// Adds those that are not there; returns which.
    async fn append_chunk(
        &self,
        connection: &mut PgConnection,
        rows: &[&LedgerRow],
    ) -> Result<HashSet<[u8; 16]>, StoreError> {
        let tags = rows.iter().map(|row| tags_text(&row.tags)).collect::<Result<Vec<_>, _>>()?;
        let appended = query(APPEND)
            .bind(column(rows, |row| row.request.to_bytes()))
            .bind(column(rows, |row| stored(row.started_at)))
            .bind(column(rows, |row| row.tenant.as_ref().map(TenantId::as_str)))
            .bind(column(rows, |row| row.key.as_ref().map(KeyId::as_str)))
            .bind(column(rows, |row| escaped_or_null(row.user.as_deref())))
            .bind(tags)
            .bind(column(rows, |row| escaped(&row.route)))
            .bind(column(rows, |row| escaped(&row.dialect)))
            .bind(column(rows, |row| escaped_or_null(row.model_asked.as_deref())))
            .bind(column(rows, |row| escaped_or_null(row.model_answered.as_deref())))
            .bind(column(rows, |row| row.stream))
            .bind(column(rows, |row| escaped(&row.outcome)))
            .bind(column(rows, |row| row.tier.as_deref()))
            .bind(column(rows, |row| row.reason.as_deref()))
            .bind(column(rows, |row| row.similarity))
            .bind(column(rows, |row| row.entry.map(EntryId::to_bytes)))
            .bind(column(rows, |row| i32::from(row.status)))
            .bind(column(rows, |row| escaped_or_null(row.upstream.as_deref())))
            .bind(column(rows, |row| row.upstream_status.map(i32::from)))
            .bind(column(rows, |row| stored(row.tokens.input)))
            .bind(column(rows, |row| stored(row.tokens.cache_read)))
            .bind(column(rows, |row| stored(row.tokens.cache_write)))
            .bind(column(rows, |row| stored(row.tokens.output)))
            .bind(column(rows, |row| stored(row.tokens.reasoning)))
            .bind(column(rows, |row| row.tokens_source.as_deref()))
            .bind(column(rows, |row| stored(row.latency_us)))
            .bind(column(rows, |row| stored_or_null(row.ttft_us)))
            .bind(column(rows, |row| stored(row.overhead_us)))
            .bind(column(rows, |row| row.cost_nano_usd))
            .bind(column(rows, |row| row.saved_nano_usd))
            .bind(column(rows, |row| escaped_or_null(row.price_version.as_deref())))
            .bind(column(rows, |row| stored(row.tokens.cache_write_1h)))
            .bind(column(rows, |row| stored(row.tokens.audio_input)))
            .bind(column(rows, |row| stored(row.tokens.audio_output)))
            .bind(column(rows, |row| stored(row.tokens.image_input)))
            .bind(column(rows, |row| stored(row.tokens.image_output)))
            .bind(column(rows, |row| escaped_or_null(row.service.as_deref())))
            .bind(column(rows, |row| row.embedding_nano_usd))
            .bind(column(rows, |row| row.saved_gross_nano_usd))
            .fetch_all(connection)
            .await;
        appended.map_err(|error| self.fault(error))?.iter().map(|row| Cells::of("requests", row).id()).collect()
    }
}

/// One column of many rows.
fn column<'r, T>(rows: &[&'r LedgerRow], cell: impl Fn(&'r LedgerRow) -> T) -> Vec<T> {
    rows.iter().map(|row| cell(row)).collect()
}
