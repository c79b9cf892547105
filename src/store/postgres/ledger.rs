//! The requests ledger, partitioned by month.

use std::collections::HashSet;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{query, query_scalar};

use super::super::{BoxFuture, LedgerRow, LedgerStore, Spend, StoreError, Tokens};
use super::cells::{Cells, escaped, escaped_or_null, stored, stored_or_null, tags_text};
use super::{PostgresStore, pause};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RequestId, TenantId};

/// All columns, in the order in which rows are written and read.
macro_rules! columns {
    () => {
        "id, started_at, tenant, key, \"user\", tags, route, dialect, model_asked, model_answered, stream, outcome, tier, \
         reason, similarity, entry, status, upstream, upstream_status, tokens_input, tokens_cache_read, \
         tokens_cache_write, tokens_output, tokens_reasoning, tokens_source, latency_us, ttft_us, overhead_us, \
         cost_nano_usd, saved_nano_usd, price_version"
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
    "$27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[], $31::text[]",
    ") AS n (",
    columns!(),
    ") WHERE NOT EXISTS (SELECT 1 FROM requests AS r WHERE r.id = n.id) ON CONFLICT DO NOTHING"
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
            let row = query(REQUEST)
                .bind(id.to_bytes())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            row.as_ref().map(read).transpose()
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
            let rows = statement.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            rows.iter().map(read).collect()
        })
    }

    fn page(&self, after: Option<RequestId>, limit: u32) -> BoxFuture<'_, Vec<LedgerRow>> {
        Box::pin(async move {
            let after = after.map(RequestId::to_bytes);
            let rows = query(PAGE)
                .bind(after.as_ref().map_or(&[][..], |id| &id[..]))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            rows.iter().map(read).collect()
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
            let rows = query(SERVED)
                .bind(entry.to_bytes())
                .bind(tenant.as_str())
                .bind(stored(since))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            rows.iter().map(read).collect()
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

impl PostgresStore {
    async fn append_once(&self, rows: &[LedgerRow]) -> Result<(), StoreError> {
        self.prepare_months(rows).await?;
        let mut transaction = self.begin_write().await?;
        let mut seen = HashSet::with_capacity(rows.len());
        for chunk in rows.chunks(MANY) {
            // The first of equal requests stays.
            let chunk: Vec<&LedgerRow> = chunk.iter().filter(|row| seen.insert(row.request)).collect();
            self.append_chunk(&mut transaction, &chunk).await?;
        }
        self.commit(transaction).await
    }

    async fn append_chunk(&self, connection: &mut PgConnection, rows: &[&LedgerRow]) -> Result<(), StoreError> {
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
            .execute(connection)
            .await;
        appended.map(|_| ()).map_err(|error| self.fault(error))
    }
}

/// One column of many rows.
fn column<'r, T>(rows: &[&'r LedgerRow], cell: impl Fn(&'r LedgerRow) -> T) -> Vec<T> {
    rows.iter().map(|row| cell(row)).collect()
}

fn read(row: &PgRow) -> Result<LedgerRow, StoreError> {
    let mut cells = Cells::of("requests", row);
    Ok(LedgerRow {
        request: RequestId::from_bytes(cells.id()?),
        started_at: cells.count()?,
        tenant: cells.take::<Option<&str>>()?.map(TenantId::new),
        key: cells.take::<Option<&str>>()?.map(KeyId::new),
        user: cells.text_or_null()?,
        tags: cells.tags()?,
        route: cells.text()?.into_owned(),
        dialect: cells.word()?,
        model_asked: cells.text_or_null()?,
        model_answered: cells.text_or_null()?,
        stream: cells.take()?,
        outcome: cells.word()?,
        tier: cells.word_or_null()?,
        reason: cells.word_or_null()?,
        similarity: cells.take()?,
        entry: cells.id_or_null()?.map(EntryId::from_bytes),
        status: cells.small()?,
        upstream: cells.text_or_null()?,
        upstream_status: cells.small_or_null()?,
        tokens: Tokens {
            input: cells.count()?,
            cache_read: cells.count()?,
            cache_write: cells.count()?,
            output: cells.count()?,
            reasoning: cells.count()?,
        },
        tokens_source: cells.word_or_null()?,
        latency_us: cells.count()?,
        ttft_us: cells.count_or_null()?,
        overhead_us: cells.count()?,
        cost_nano_usd: cells.take()?,
        saved_nano_usd: cells.take()?,
        price_version: cells.text_or_null()?,
    })
}
