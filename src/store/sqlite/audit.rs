//! The audit of admin changes. The table refuses to change or to lose a row.

use sqlx::query;
use sqlx::sqlite::SqliteRow;

use super::super::{AuditRow, AuditStore, BoxFuture, EntryWrite, StoreError};
use super::SqliteStore;
use super::cells::{Cells, stored};
use crate::ids::AuditId;

const RECORD: &str = "INSERT INTO admin_audit (id, at, actor, action, reason, what, result) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING";
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
            query(RECORD)
                .bind(&row.id.to_bytes()[..])
                .bind(stored(row.at))
                .bind(&row.actor)
                .bind(&*row.action)
                .bind(&row.reason)
                .bind(&row.what)
                .bind(&row.result)
                .execute(&mut *transaction)
                .await
                .map_err(|error| self.fault(error))?;
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
            rows.iter().map(read).collect()
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
            rows.iter().map(read).collect()
        })
    }
}

fn read(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    let mut cells = Cells::of("admin_audit", row);
    Ok(AuditRow {
        id: AuditId::from_bytes(cells.id()?),
        at: cells.count()?,
        actor: cells.take()?,
        action: cells.word()?,
        reason: cells.take()?,
        what: cells.take()?,
        result: cells.take()?,
    })
}
