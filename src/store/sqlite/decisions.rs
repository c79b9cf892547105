//! Decisions of the semantic tier, and what was learnt from them.
//!
//! A decision is written once; only its label changes. It may hold a prompt, so it is forgotten by age.

use sqlx::query;
use sqlx::sqlite::SqliteConnection;

use super::super::read::{self, decision_columns};
use super::super::{BoxFuture, DecisionRow, DecisionStore, DecisionWrite, LearnedRow, StoreError};
use super::SqliteStore;
use super::cells::{Cells, stored, stored_or_null, vector_bytes};
use crate::clock::UnixMs;
use crate::ids::{RequestId, TenantId};

const NEW: &str = concat!(
    "INSERT INTO decisions (",
    decision_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) ",
    "ON CONFLICT (request) DO NOTHING"
);
const LABEL: &str = "UPDATE decisions SET \"right\" = ?2, label = ?3 WHERE request = ?1";
const DECISION: &str = concat!("SELECT ", decision_columns!(), " FROM decisions WHERE request = ?1");
// No id sorts before the empty blob.
pub(super) const SINCE_ALL: &str = concat!(
    "SELECT ",
    decision_columns!(),
    " FROM decisions WHERE request > ?1 AND at >= ?2 ORDER BY request LIMIT ?3"
);
pub(super) const SINCE_TENANT: &str = concat!(
    "SELECT ",
    decision_columns!(),
    " FROM decisions WHERE tenant = ?4 AND request > ?1 AND at >= ?2 ORDER BY request LIMIT ?3"
);
pub(super) const FORGET: &str = "DELETE FROM decisions WHERE request IN \
    (SELECT request FROM decisions WHERE at < ?1 ORDER BY at, request LIMIT ?2)";
const FORGET_TENANT: &str = "DELETE FROM decisions WHERE request IN \
    (SELECT request FROM decisions WHERE tenant = ?1 ORDER BY request LIMIT ?2)";
const FORGET_LEARNED: &str = "DELETE FROM learned WHERE tenant = ?1";
const SAVE_LEARNED: &str = "INSERT INTO learned (tenant, model, state, updated_at) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (tenant, model) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at";
const LEARNED: &str = "SELECT tenant, model, state, updated_at FROM learned ORDER BY tenant, model";

impl DecisionStore for SqliteStore {
    fn write<'a>(&'a self, writes: &'a [DecisionWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if writes.is_empty() {
                return Ok(());
            }
            let mut transaction = self.begin_write().await?;
            for write in writes {
                match write {
                    DecisionWrite::New(row) => self.put_decision(&mut transaction, row).await?,
                    DecisionWrite::Label { request, right, label } => {
                        query(LABEL)
                            .bind(&request.to_bytes()[..])
                            .bind(*right)
                            .bind(&**label)
                            .execute(&mut *transaction)
                            .await
                            .map_err(|error| self.fault(error))?;
                    }
                }
            }
            self.commit(transaction).await
        })
    }

    fn decision(&self, request: RequestId) -> BoxFuture<'_, Option<DecisionRow>> {
        Box::pin(async move {
            let row = query(DECISION)
                .bind(&request.to_bytes()[..])
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.fault(error))?;
            row.as_ref().map(read::decision).transpose()
        })
    }

    fn since<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        since: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> BoxFuture<'a, Vec<DecisionRow>> {
        Box::pin(async move {
            let after = after.map(RequestId::to_bytes);
            let mut statement = query(if tenant.is_some() { SINCE_TENANT } else { SINCE_ALL })
                .bind(after.as_ref().map_or(&[][..], |id| &id[..]))
                .bind(stored(since))
                .bind(limit);
            if let Some(tenant) = tenant {
                statement = statement.bind(tenant.as_str());
            }
            let rows = statement.fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            rows.iter().map(read::decision).collect()
        })
    }

    fn forget(&self, before: UnixMs, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let forgotten = query(FORGET)
                .bind(stored(before))
                .bind(limit)
                .execute(&self.writer)
                .await
                .map_err(|error| self.fault(error))?;
            Ok(forgotten.rows_affected())
        })
    }

    fn forget_tenant<'a>(&'a self, tenant: &'a TenantId, limit: u32) -> BoxFuture<'a, u64> {
        Box::pin(async move {
            let learned = query(FORGET_LEARNED).bind(tenant.as_str()).execute(&self.writer).await;
            learned.map_err(|error| self.fault(error))?;
            let forgotten = query(FORGET_TENANT).bind(tenant.as_str()).bind(limit).execute(&self.writer).await;
            forgotten.map(|done| done.rows_affected()).map_err(|error| self.fault(error))
        })
    }

    fn save_learned<'a>(&'a self, rows: &'a [LearnedRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if rows.is_empty() {
                return Ok(());
            }
            let mut transaction = self.begin_write().await?;
            for row in rows {
                query(SAVE_LEARNED)
                    .bind(row.tenant.as_str())
                    .bind(&row.model)
                    .bind(&row.state)
                    .bind(stored(row.updated_at))
                    .execute(&mut *transaction)
                    .await
                    .map_err(|error| self.fault(error))?;
            }
            self.commit(transaction).await
        })
    }

    fn learned(&self) -> BoxFuture<'_, Vec<LearnedRow>> {
        Box::pin(async move {
            let rows = query(LEARNED).fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            rows.iter()
                .map(|row| {
                    let mut cells = Cells::of("learned", row);
                    Ok(LearnedRow {
                        tenant: TenantId::new(cells.take::<&str>()?),
                        model: cells.take()?,
                        state: cells.take()?,
                        updated_at: cells.count()?,
                    })
                })
                .collect()
        })
    }
}

impl SqliteStore {
    async fn put_decision(&self, connection: &mut SqliteConnection, row: &DecisionRow) -> Result<(), StoreError> {
        query(NEW)
            .bind(&row.request.to_bytes()[..])
            .bind(stored(row.at))
            .bind(row.tenant.as_str())
            .bind(row.key.as_str())
            .bind(&row.model)
            .bind(&row.partition[..])
            .bind(&*row.mode)
            .bind(&*row.verdict)
            .bind(row.would_serve)
            .bind(row.entry.map(|id| id.to_bytes().to_vec()))
            .bind(row.point.map(|id| id.to_bytes().to_vec()))
            .bind(row.cosine)
            .bind(row.probability)
            .bind(row.theta)
            .bind(vector_bytes(&row.inputs))
            .bind(row.right)
            .bind(row.label.as_deref())
            .bind(stored_or_null(row.tokens))
            .bind(row.prompt.as_deref())
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(|error| self.fault(error))
    }
}
