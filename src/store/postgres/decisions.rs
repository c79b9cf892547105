//! Decisions of the semantic tier, and what was learnt from them.
//!
//! A decision is written once; only its label changes. It may hold a prompt, so it is forgotten by age.

use std::collections::{BTreeMap, HashSet};

use sqlx::postgres::PgConnection;
use sqlx::query;

use super::super::read::{self, decision_columns};
use super::super::{BoxFuture, DecisionRow, DecisionStore, DecisionWrite, LearnedRow, StoreError};
use super::cells::{Cells, escaped, escaped_or_null, stored, stored_or_null, vector_bytes};
use super::{PostgresStore, pause};
use crate::clock::UnixMs;
use crate::ids::{EntryId, PointId, RequestId, TenantId};

const NEW: &str = concat!(
    "INSERT INTO decisions (",
    decision_columns!(),
    ") SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], ",
    "$8::text[], $9::boolean[], $10::bytea[], $11::bytea[], $12::real[], $13::real[], $14::real[], $15::bytea[], ",
    "$16::boolean[], $17::text[], $18::bigint[], $19::text[]) ON CONFLICT (request) DO NOTHING"
);
const LABEL: &str = "UPDATE decisions AS d SET \"right\" = n.is_right, label = n.label \
    FROM unnest($1::bytea[], $2::boolean[], $3::text[]) AS n (request, is_right, label) WHERE d.request = n.request";
const DECISION: &str = concat!("SELECT ", decision_columns!(), " FROM decisions WHERE request = $1");
// No id sorts before the empty one.
const SINCE_ALL: &str = concat!(
    "SELECT ",
    decision_columns!(),
    " FROM decisions WHERE request > $1 AND at >= $2 ORDER BY request LIMIT $3"
);
const SINCE_TENANT: &str = concat!(
    "SELECT ",
    decision_columns!(),
    " FROM decisions WHERE tenant = $4 AND request > $1 AND at >= $2 ORDER BY request LIMIT $3"
);
const FORGET: &str = "DELETE FROM decisions WHERE request IN \
    (SELECT request FROM decisions WHERE at < $1 ORDER BY at, request LIMIT $2)";
const FORGET_TENANT: &str = "DELETE FROM decisions WHERE request IN \
    (SELECT request FROM decisions WHERE tenant = $1 ORDER BY request LIMIT $2)";
const FORGET_LEARNED: &str = "DELETE FROM learned WHERE tenant = $1";
const SAVE_LEARNED: &str = "INSERT INTO learned (tenant, model, state, updated_at) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) \
    ON CONFLICT (tenant, model) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at";
const LEARNED: &str = "SELECT tenant, model, state, updated_at FROM learned ORDER BY tenant, model";

impl DecisionStore for PostgresStore {
    fn write<'a>(&'a self, writes: &'a [DecisionWrite]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut round = 0;
            while !writes.is_empty() {
                match self.write_once(writes).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
            Ok(())
        })
    }

    fn decision(&self, request: RequestId) -> BoxFuture<'_, Option<DecisionRow>> {
        Box::pin(async move {
            let row = query(DECISION)
                .bind(request.to_bytes())
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
                .bind(i64::from(limit));
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
                .bind(i64::from(limit))
                .execute(&self.writer)
                .await
                .map_err(|error| self.pool_fault(&self.writer, error))?;
            Ok(forgotten.rows_affected())
        })
    }

    fn forget_tenant<'a>(&'a self, tenant: &'a TenantId, limit: u32) -> BoxFuture<'a, u64> {
        Box::pin(async move {
            let learned = query(FORGET_LEARNED).bind(tenant.as_str()).execute(&self.writer).await;
            learned.map_err(|error| self.pool_fault(&self.writer, error))?;
            let forgotten =
                query(FORGET_TENANT).bind(tenant.as_str()).bind(i64::from(limit)).execute(&self.writer).await;
            forgotten.map(|done| done.rows_affected()).map_err(|error| self.pool_fault(&self.writer, error))
        })
    }

    fn save_learned<'a>(&'a self, rows: &'a [LearnedRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // One statement cannot change a row twice. In order of key, so that two who do it at once do not block each
            // other.
            let last: BTreeMap<(&str, &str), &LearnedRow> =
                rows.iter().map(|row| ((row.tenant.as_str(), row.model.as_str()), row)).collect();
            if last.is_empty() {
                return Ok(());
            }
            let rows: Vec<&LearnedRow> = last.into_values().collect();
            let saved = query(SAVE_LEARNED)
                .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
                .bind(rows.iter().map(|row| escaped(&row.model)).collect::<Vec<_>>())
                .bind(rows.iter().map(|row| escaped(&row.state)).collect::<Vec<_>>())
                .bind(rows.iter().map(|row| stored(row.updated_at)).collect::<Vec<_>>())
                .execute(&self.writer)
                .await;
            saved.map(|_| ()).map_err(|error| self.pool_fault(&self.writer, error))
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
                        model: cells.string()?,
                        state: cells.string()?,
                        updated_at: cells.count()?,
                    })
                })
                .collect()
        })
    }
}

type Label<'w> = (RequestId, bool, &'w str);

impl PostgresStore {
    async fn write_once(&self, writes: &[DecisionWrite]) -> Result<(), StoreError> {
        let mut transaction = self.begin_write().await?;
        for run in writes.chunk_by(|a, b| matches!(a, DecisionWrite::New(_)) == matches!(b, DecisionWrite::New(_))) {
            let mut seen = HashSet::new();
            let mut new: Vec<&DecisionRow> = Vec::new();
            let mut labels: BTreeMap<[u8; 16], Label<'_>> = BTreeMap::new();
            for write in run {
                match write {
                    // The first of equal decisions stays, the last of labels on one decision holds.
                    DecisionWrite::New(row) => {
                        if seen.insert(row.request) {
                            new.push(row);
                        }
                    }
                    DecisionWrite::Label { request, right, label } => {
                        labels.insert(request.to_bytes(), (*request, *right, label));
                    }
                }
            }
            self.put_decisions(&mut transaction, &new).await?;
            self.put_labels(&mut transaction, labels.into_values().collect()).await?;
        }
        self.commit(transaction).await
    }

    async fn put_labels(&self, connection: &mut PgConnection, labels: Vec<Label<'_>>) -> Result<(), StoreError> {
        if labels.is_empty() {
            return Ok(());
        }
        let put = query(LABEL)
            .bind(labels.iter().map(|(request, _, _)| request.to_bytes()).collect::<Vec<_>>())
            .bind(labels.iter().map(|(_, right, _)| *right).collect::<Vec<_>>())
            .bind(labels.iter().map(|(_, _, label)| *label).collect::<Vec<_>>())
            .execute(connection)
            .await;
        put.map(|_| ()).map_err(|error| self.fault(error))
    }

    async fn put_decisions(&self, connection: &mut PgConnection, rows: &[&DecisionRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let put = query(NEW)
            .bind(rows.iter().map(|row| row.request.to_bytes()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| stored(row.at)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| escaped(&row.model)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.partition).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &*row.mode).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &*row.verdict).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.would_serve).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.entry.map(EntryId::to_bytes)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.point.map(PointId::to_bytes)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.cosine).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.probability).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.theta).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| vector_bytes(&row.inputs)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.right).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.label.as_deref()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| stored_or_null(row.tokens)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| escaped_or_null(row.prompt.as_deref())).collect::<Vec<_>>())
            .execute(connection)
            .await;
        put.map(|_| ()).map_err(|error| self.fault(error))
    }
}
