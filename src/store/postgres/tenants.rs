//! The directory of tenants.

use std::collections::BTreeMap;

use sqlx::query;

use super::super::{BoxFuture, StoreError, TenantRow, TenantStore, read};
use super::cells::stored;
use super::{PostgresStore, pause};

const UPSERT: &str = "INSERT INTO tenants (tenant, declared, created_at, updated_at) \
    SELECT * FROM unnest($1::text[], $2::boolean[], $3::bigint[], $4::bigint[]) \
    ON CONFLICT (tenant) DO UPDATE SET declared = excluded.declared, updated_at = excluded.updated_at";
const LIST: &str = "SELECT tenant, declared, created_at, updated_at FROM tenants ORDER BY tenant";

impl TenantStore for PostgresStore {
    fn upsert<'a>(&'a self, tenants: &'a [TenantRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // One statement cannot change a row twice. In order of name, so that two who do it at once do not block
            // each other.
            let mut last: BTreeMap<&str, TenantRow> = BTreeMap::new();
            for row in tenants {
                let known = last.entry(row.tenant.as_str()).or_insert_with(|| row.clone());
                (known.declared, known.updated_at) = (row.declared, row.updated_at);
            }
            if last.is_empty() {
                return Ok(());
            }
            let rows: Vec<TenantRow> = last.into_values().collect();
            let mut round = 0;
            loop {
                match self.upsert_once(&rows).await {
                    Err(error) => pause(&mut round, error).await?,
                    done => return done,
                }
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<TenantRow>> {
        Box::pin(async move {
            let rows = query(LIST).fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            rows.iter().map(read::known_tenant).collect()
        })
    }
}

impl PostgresStore {
    async fn upsert_once(&self, rows: &[TenantRow]) -> Result<(), StoreError> {
        let done = query(UPSERT)
            .bind(rows.iter().map(|row| row.tenant.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.declared).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| stored(row.created_at)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| stored(row.updated_at)).collect::<Vec<_>>())
            .execute(&self.writer)
            .await;
        done.map(|_| ()).map_err(|error| self.pool_fault(&self.writer, error))
    }
}
