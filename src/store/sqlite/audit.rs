//! The audit of admin changes. The tables refuse to change or to lose a row.

use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};

use super::super::audit::{NO_HASH, adopted};
use super::super::{AuditHead, AuditRow, AuditStore, BoxFuture, Chained, EntryWrite, StoreError, audit_hash, read};
use super::SqliteStore;
use super::cells::stored;
use crate::ids::AuditId;

const RECORD: &str = "INSERT INTO admin_audit (id, at, actor, action, reason, what, result) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING";
const CHAIN: &str = "INSERT INTO audit_chain (seq, id, hash) VALUES (?1, ?2, ?3)";
const HEAD: &str = "SELECT seq, hash FROM audit_head";
const SET_HEAD: &str = "INSERT INTO audit_head (one, seq, hash) VALUES (1, ?1, ?2) \
    ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, hash = excluded.hash";
const CHAINED: &str = "SELECT a.id, a.at, a.actor, a.action, a.reason, a.what, a.result, c.seq, c.hash \
    FROM audit_chain AS c JOIN admin_audit AS a ON a.id = c.id WHERE c.seq > ?1 ORDER BY c.seq LIMIT ?2";
const UNCHAINED: &str = "SELECT id, at, actor, action, reason, what, result FROM admin_audit AS a \
    WHERE NOT EXISTS (SELECT 1 FROM audit_chain AS c WHERE c.id = a.id) ORDER BY id LIMIT ?1";
const COUNT_UNCHAINED: &str = "SELECT count(*) FROM admin_audit AS a \
    WHERE NOT EXISTS (SELECT 1 FROM audit_chain AS c WHERE c.id = a.id)";
/// Rows taken into the chain at once.
const MANY: u32 = 500;
const TRAIL: &str = "SELECT id, at, actor, action, reason, what, result FROM admin_audit \
    WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2";
// No id sorts before the empty blob.
const PAGE: &str =
    "SELECT id, at, actor, action, reason, what, result FROM admin_audit WHERE id > ?1 ORDER BY id LIMIT ?2";

impl AuditStore for SqliteStore {
    fn record<'a>(&'a self, row: &'a AuditRow, changes: &'a [EntryWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut transaction = self.begin_write().await?;
            for change in changes {
                self.apply_one(&mut transaction, change).await?;
            }
            self.append_audit(&mut transaction, row).await?;
            self.commit(transaction).await
        })
    }

    fn trail(&self, before: Option<AuditId>, limit: u32) -> BoxFuture<'_, Vec<AuditRow>> {
        Box::pin(async move {
            let before = before.map(AuditId::to_bytes);
            let rows = query(TRAIL)
                .bind(before.as_ref().map(|id| &id[..]))
                .bind(limit)
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
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            rows.iter().map(read::audit).collect()
        })
    }

    fn audit_head(&self) -> BoxFuture<'_, Option<AuditHead>> {
        Box::pin(async move {
            let row = query(HEAD).fetch_optional(&self.readers).await.map_err(|error| self.fault(error))?;
            row.as_ref().map(read::audit_head).transpose()
        })
    }

    fn audit_chain(&self, after: u64, limit: u32) -> BoxFuture<'_, Vec<Chained>> {
        Box::pin(async move {
            let rows = query(CHAINED).bind(stored(after)).bind(limit).fetch_all(&self.readers).await;
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

impl SqliteStore {
    /// Adds a row and its place in the chain; one that is there already is ignored.
    pub(super) async fn append_audit(
        &self,
        connection: &mut SqliteConnection,
        row: &AuditRow,
    ) -> Result<(), StoreError> {
        let added = query(RECORD)
            .bind(&row.id.to_bytes()[..])
            .bind(stored(row.at))
            .bind(&row.actor)
            .bind(&*row.action)
            .bind(&row.reason)
            .bind(&row.what)
            .bind(&row.result)
            .execute(&mut *connection)
            .await
            .map_err(|error| self.fault(error))?;
        if added.rows_affected() == 0 {
            return Ok(());
        }
        self.chain(connection, std::slice::from_ref(row)).await
    }

    /// Takes rows into the chain that were recorded before there was one, or by a program that does not know it. Where the
    /// chain had begun, they may be anybody's: it says that they were adopted, and which.
    pub(super) async fn chain_the_rest(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let begun = query(HEAD).fetch_optional(&mut *connection).await.map_err(|error| self.fault(error))?.is_some();
        loop {
            let rows = query(UNCHAINED).bind(MANY).fetch_all(&mut *connection).await;
            let rows = rows.map_err(|error| self.fault(error))?;
            if rows.is_empty() {
                return Ok(());
            }
            let rows = rows.iter().map(read::audit).collect::<Result<Vec<_>, _>>()?;
            self.chain(connection, &rows).await?;
            if begun {
                self.append_audit(connection, &adopted(&rows)).await?;
            }
        }
    }

    async fn chain(&self, connection: &mut SqliteConnection, rows: &[AuditRow]) -> Result<(), StoreError> {
        let head = query(HEAD).fetch_optional(&mut *connection).await.map_err(|error| self.fault(error))?;
        let head = head.as_ref().map(read::audit_head).transpose()?;
        let (mut seq, mut hash) = head.map_or((0, NO_HASH), |head| (head.seq, head.hash));
        for row in rows {
            seq += 1;
            hash = audit_hash(&hash, seq, row);
            let place = query(CHAIN).bind(stored(seq)).bind(row.id.to_bytes().to_vec()).bind(hash.to_vec());
            place.execute(&mut *connection).await.map_err(|error| self.fault(error))?;
        }
        let moved = query(SET_HEAD).bind(stored(seq)).bind(hash.to_vec()).execute(connection).await;
        moved.map(|_| ()).map_err(|error| self.fault(error))
    }
}
