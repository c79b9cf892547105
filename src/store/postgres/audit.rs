//! The audit of admin changes. The tables refuse to change or to lose a row.

use sqlx::postgres::PgConnection;
use sqlx::{query, query_scalar};

use super::super::audit::{NO_HASH, adopted};
use super::super::{AuditHead, AuditRow, AuditStore, BoxFuture, Chained, EntryWrite, StoreError, audit_hash, read};
use super::cells::{escaped, escaped_or_null, stored};
use super::{PostgresStore, pause};
use crate::ids::AuditId;

const RECORD: &str = "INSERT INTO admin_audit (id, at, actor, action, reason, what, result) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
const CHAIN: &str =
    "INSERT INTO audit_chain (seq, id, hash) SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])";
const HEAD: &str = "SELECT seq, hash FROM audit_head";
// One after another: what is recorded meanwhile waits for this row.
const LOCK_HEAD: &str = "SELECT seq, hash FROM audit_head FOR UPDATE";
const SET_HEAD: &str = "INSERT INTO audit_head (one, seq, hash) VALUES (true, $1, $2) \
    ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash";
const CHAINED: &str = "SELECT a.id, a.at, a.actor, a.action, a.reason, a.what, a.result, c.seq, c.hash \
    FROM audit_chain AS c JOIN admin_audit AS a ON a.id = c.id WHERE c.seq > $1 ORDER BY c.seq LIMIT $2";
const UNCHAINED: &str = "SELECT id, at, actor, action, reason, what, result FROM admin_audit AS a \
    WHERE NOT EXISTS (SELECT 1 FROM audit_chain AS c WHERE c.id = a.id) ORDER BY id LIMIT $1";
const COUNT_UNCHAINED: &str = "SELECT count(*) FROM admin_audit AS a \
    WHERE NOT EXISTS (SELECT 1 FROM audit_chain AS c WHERE c.id = a.id)";
/// Rows taken into the chain at once.
const MANY: i64 = 500;
const TRAIL: &str = "SELECT id, at, actor, action, reason, what, result FROM admin_audit \
    WHERE $1::bytea IS NULL OR id < $1 ORDER BY id DESC LIMIT $2";
// No id sorts before the empty one.
const PAGE: &str =
    "SELECT id, at, actor, action, reason, what, result FROM admin_audit WHERE id > $1 ORDER BY id LIMIT $2";

impl AuditStore for PostgresStore {
    fn record<'a>(&'a self, row: &'a AuditRow, changes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut round = 0;
            loop {
                match self.record_once(row, changes).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
        })
    }

    fn trail(&self, before: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        Box::pin(async move {
            let rows = query(TRAIL)
                .bind(before.map(AuditId::to_bytes))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            rows.iter().map(read::audit).collect()
        })
    }

    fn audit_page(&self, after: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        Box::pin(async move {
            let after = after.map(AuditId::to_bytes);
            let rows = query(PAGE)
                .bind(after.as_ref().map_or(&[][..], |id| &id[..]))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            rows.iter().map(read::audit).collect()
        })
    }

    fn audit_head(&self) -> BoxFuture<'_, Option<AuditHead>> {
        Box::pin(async move {
            let row = query(HEAD).fetch_optional(&self.readers).await.map_err(|error| self.fault(error))?;
            let head = row.as_ref().map(read::audit_head).transpose()?;
            Ok(head.filter(|head| head.seq > 0))
        })
    }

    fn audit_chain(&self, after: u64, limit: u32) -> BoxFuture<'_, Vec<Chained>> {
        Box::pin(async move {
            let rows = query(CHAINED).bind(stored(after)).bind(i64::from(limit)).fetch_all(&self.readers).await;
            let rows = rows.map_err(|error| self.fault(error))?;
            rows.iter().map(read::chained).collect()
        })
    }

    fn audit_unchained(&self) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let count = query_scalar(COUNT_UNCHAINED).fetch_one(&self.readers).await;
            count.map(i64::unsigned_abs).map_err(|error| self.fault(error))
        })
    }
}

impl PostgresStore {
    async fn record_once(&self, row: &AuditRow, changes: &[EntryWrite]) -> Result<(), StoreError> {
        let mut transaction = self.begin_write().await?;
        let touched = self.apply_all(&mut transaction, changes).await?;
        self.append_audit(&mut transaction, row).await?;
        self.number(&mut transaction, &touched).await?;
        self.commit(transaction).await
    }

    /// Adds a row and its place in the chain; one that is there already is ignored.
    pub(super) async fn append_audit(&self, connection: &mut PgConnection, row: &AuditRow) -> Result<(), StoreError> {
        let head = self.lock_head(connection).await?;
        let added = query(RECORD)
            .bind(row.id.to_bytes())
            .bind(stored(row.at))
            .bind(escaped(&row.actor))
            .bind(escaped(&row.action))
            .bind(escaped_or_null(row.reason.as_deref()))
            .bind(escaped(&row.what))
            .bind(escaped(&row.result))
            .execute(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        if added.rows_affected() == 0 {
            return Ok(());
        }
        self.chain(connection, head, std::slice::from_ref(row)).await.map(|_| ())
    }

    /// Takes rows into the chain that were recorded before there was one, or by a program that does not know it. Where the
    /// chain had begun, they may be anybody's: it says that they were adopted, and which.
    pub(super) async fn chain_the_rest(&self) -> Result<(), StoreError> {
        let some = query(UNCHAINED).bind(1_i64).fetch_optional(&self.readers).await;
        if some.map_err(|error| self.fault(error))?.is_none() {
            return Ok(());
        }
        let mut transaction = self.begin_write().await?;
        let mut head = self.lock_head(&mut transaction).await?;
        let begun = head.seq > 0;
        loop {
            let rows = query(UNCHAINED).bind(MANY).fetch_all(&mut *transaction).await;
            let rows = rows.map_err(|error| self.fault(error))?;
            if rows.is_empty() {
                return self.commit(transaction).await;
            }
            let rows = rows.iter().map(read::audit).collect::<Result<Vec<_>, _>>()?;
            head = self.chain(&mut transaction, head, &rows).await?;
            if begun {
                self.append_audit(&mut transaction, &adopted(&rows)).await?;
                head = self.lock_head(&mut transaction).await?;
            }
        }
    }

    async fn lock_head(&self, connection: &mut PgConnection) -> Result<AuditHead, StoreError> {
        let row = query(LOCK_HEAD).fetch_optional(connection).await.map_err(|error| self.fault(error))?;
        row.as_ref().map_or(Ok(AuditHead { seq: 0, hash: NO_HASH }), read::audit_head)
    }

    async fn chain(
        &self,
        connection: &mut PgConnection,
        head: AuditHead,
        rows: &[AuditRow],
    ) -> Result<AuditHead, StoreError> {
        let AuditHead { mut seq, mut hash } = head;
        let (mut numbers, mut hashes) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            seq += 1;
            hash = audit_hash(&hash, seq, row);
            numbers.push(stored(seq));
            hashes.push(hash);
        }
        let ids: Vec<[u8; 16]> = rows.iter().map(|row| row.id.to_bytes()).collect();
        let placed = query(CHAIN).bind(numbers).bind(ids).bind(hashes).execute(&mut *connection).await;
        placed.map_err(|error| self.fault(error))?;
        let moved = query(SET_HEAD).bind(stored(seq)).bind(hash).execute(connection).await;
        moved.map(|_| AuditHead { seq, hash }).map_err(|error| self.fault(error))
    }
}
