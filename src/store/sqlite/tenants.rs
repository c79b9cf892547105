//! The directory of tenants.

use sqlx::query;

use super::super::{BoxFuture, TenantRow, TenantStore, read};
use super::SqliteStore;
use super::cells::stored;

const UPSERT: &str = "INSERT INTO tenants (tenant, declared, created_at, updated_at) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (tenant) DO UPDATE SET declared = excluded.declared, updated_at = excluded.updated_at";
const LIST: &str = "SELECT tenant, declared, created_at, updated_at FROM tenants ORDER BY tenant";

impl TenantStore for SqliteStore {
    fn upsert<'a>(&'a self, tenants: &'a [TenantRow]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if tenants.is_empty() {
                return Ok(());
            }
            let mut transaction = self.begin_write().await?;
            for row in tenants {
                query(UPSERT)
                    .bind(row.tenant.as_str())
                    .bind(row.declared)
                    .bind(stored(row.created_at))
                    .bind(stored(row.updated_at))
                    .execute(&mut *transaction)
                    .await
                    .map_err(|error| self.fault(error))?;
            }
            self.commit(transaction).await
        })
    }

    fn list(&self) -> BoxFuture<'_, Vec<TenantRow>> {
        Box::pin(async move {
            let rows = query(LIST).fetch_all(&self.readers).await.map_err(|error| self.fault(error))?;
            rows.iter().map(read::known_tenant).collect()
        })
    }
}
