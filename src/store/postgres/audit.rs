//! The audit of admin changes. The table refuses to change or to lose a row.

use sqlx::postgres::PgRow;
use sqlx::query;

use super::super::{AuditRow, AuditStore, BoxFuture, EntryWrite, StoreError};
use super::cells::{Cells, escaped, escaped_or_null, stored};
use super::{PostgresStore, pause};
use crate::ids::AuditId;

const RECORD: &str = "INSERT INTO admin_audit (id, at, actor, action, reason, what, result) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
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
            rows.iter().map(read).collect()
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
            rows.iter().map(read).collect()
        })
    }
}

impl PostgresStore {
    async fn record_once(&self, row: &AuditRow, changes: &[EntryWrite]) -> Result<(), StoreError> {
        let mut transaction = self.begin_write().await?;
        let touched = self.apply_all(&mut transaction, changes).await?;
        query(RECORD)
            .bind(row.id.to_bytes())
            .bind(stored(row.at))
            .bind(escaped(&row.actor))
            .bind(escaped(&row.action))
            .bind(escaped_or_null(row.reason.as_deref()))
            .bind(escaped(&row.what))
            .bind(escaped(&row.result))
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.fault(error))?;
        self.number(&mut transaction, &touched).await?;
        self.commit(transaction).await
    }
}

fn read(row: &PgRow) -> Result<AuditRow, StoreError> {
    let mut cells = Cells::of("admin_audit", row);
    Ok(AuditRow {
        id: AuditId::from_bytes(cells.id()?),
        at: cells.count()?,
        actor: cells.text()?.into_owned(),
        action: cells.word()?,
        reason: cells.text_or_null()?,
        what: cells.text()?.into_owned(),
        result: cells.text()?.into_owned(),
    })
}
