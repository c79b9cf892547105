//! The requests ledger.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Sqlite, query, query_scalar};

use super::super::{BoxFuture, LedgerRow, LedgerStore, Spend, StoreError, Tokens};
use super::SqliteStore;
use super::cells::{Cells, stored, stored_or_null, tags_text};
use crate::clock::UnixMs;
use crate::ids::{EntryId, KeyId, RequestId, TenantId};

/// All columns, in the order in which rows are written and read.
macro_rules! columns {
    () => {
        "id, started_at, tenant, key, user, tags, route, dialect, model_asked, model_answered, stream, outcome, tier, \
         reason, similarity, entry, status, upstream, upstream_status, tokens_input, tokens_cache_read, \
         tokens_cache_write, tokens_output, tokens_reasoning, tokens_source, latency_us, ttft_us, overhead_us, \
         cost_nano_usd, saved_nano_usd, price_version"
    };
}

/// Placeholders of one row, of four and of sixteen.
macro_rules! one_row {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
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
    concat!("INSERT INTO requests (", columns!(), ") VALUES ", one_row!(), " ON CONFLICT (id) DO NOTHING");
const APPEND_MANY: &str =
    concat!("INSERT INTO requests (", columns!(), ") VALUES ", sixteen_rows!(), " ON CONFLICT (id) DO NOTHING");
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
            let (chunks, rest) = rows.as_chunks::<MANY>();
            for chunk in chunks {
                self.append_chunk(&mut transaction, APPEND_MANY, chunk).await?;
            }
            for row in rest {
                self.append_chunk(&mut transaction, APPEND_ONE, std::slice::from_ref(row)).await?;
            }
            self.commit(transaction).await
        })
    }

    fn request(&self, id: RequestId) -> BoxFuture<'_, Option<LedgerRow>> {
        Box::pin(async move {
            let row = query(REQUEST)
                .bind(&id.to_bytes()[..])
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
                Some(tenant) => query(RECENT_TENANT).bind(limit).bind(tenant.as_str()),
                None => query(RECENT_ALL).bind(limit),
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
                .bind(limit)
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
                .bind(entry.to_bytes().to_vec())
                .bind(tenant.as_str())
                .bind(stored(since))
                .bind(limit)
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

impl SqliteStore {
    async fn append_chunk(
        &self,
        connection: &mut SqliteConnection,
        statement: &'static str,
        rows: &[LedgerRow],
    ) -> Result<(), StoreError> {
        let mut insert = query(statement);
        for row in rows {
            insert = bind(insert, row)?;
        }
        insert.execute(connection).await.map(|_| ()).map_err(|error| self.fault(error))
    }
}

type Insert<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Binds one row in the order of the columns.
fn bind<'q>(insert: Insert<'q>, row: &'q LedgerRow) -> Result<Insert<'q>, StoreError> {
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
        .bind(row.price_version.as_deref()))
}

fn read(row: &SqliteRow) -> Result<LedgerRow, StoreError> {
    let mut cells = Cells::of("requests", row);
    Ok(LedgerRow {
        request: RequestId::from_bytes(cells.id()?),
        started_at: cells.count()?,
        tenant: cells.take::<Option<&str>>()?.map(TenantId::new),
        key: cells.take::<Option<&str>>()?.map(KeyId::new),
        user: cells.take()?,
        tags: cells.tags()?,
        route: cells.take()?,
        dialect: cells.word()?,
        model_asked: cells.take()?,
        model_answered: cells.take()?,
        stream: cells.take()?,
        outcome: cells.word()?,
        tier: cells.word_or_null()?,
        reason: cells.word_or_null()?,
        similarity: cells.take()?,
        entry: cells.id_or_null()?.map(EntryId::from_bytes),
        status: cells.small()?,
        upstream: cells.take()?,
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
        price_version: cells.take()?,
    })
}
