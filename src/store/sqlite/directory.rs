//! Tenants with their specs, virtual keys and admin tokens.

use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};

use super::super::{AuditRow, BoxFuture, DirectoryImage, DirectoryStore, DirectoryWrite, read};
use super::SqliteStore;
use super::cells::{stored, stored_or_null};
use crate::clock::UnixMs;
use crate::ids::TenantId;

const VERSION: &str = "SELECT version FROM directory_head";
const SET_VERSION: &str = "UPDATE directory_head SET version = ?1";
const TENANTS: &str =
    "SELECT tenant, declared, spec, credential, created_at, updated_at FROM tenant_specs ORDER BY tenant";
const KEYS: &str = "SELECT id, tenant, name, hash, spec, expires_at, replaced_by, created_at, updated_at, used_at \
    FROM virtual_keys ORDER BY id";
const TOKENS: &str =
    "SELECT id, name, hash, role, tenant, expires_at, created_at, used_at FROM admin_tokens ORDER BY id";
const PUT_TENANT: &str = "INSERT OR REPLACE INTO tenant_specs (tenant, declared, spec, credential, created_at, updated_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
// Whoever has a spec is known too. Whether the configuration names it is for whoever reads that.
const KNOW_TENANT: &str = "INSERT INTO tenants (tenant, declared, created_at, updated_at) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (tenant) DO NOTHING";
const DELETE_TENANT: [&str; 3] = [
    "DELETE FROM virtual_keys WHERE tenant = ?1",
    "DELETE FROM tenant_specs WHERE tenant = ?1",
    "DELETE FROM tenants WHERE tenant = ?1",
];
const PUT_KEY: &str = "INSERT INTO virtual_keys (id, tenant, name, hash, spec, expires_at, replaced_by, created_at, updated_at, \
     used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
     ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, name = excluded.name, hash = excluded.hash, \
     spec = excluded.spec, expires_at = excluded.expires_at, replaced_by = excluded.replaced_by, \
     created_at = excluded.created_at, updated_at = excluded.updated_at";
const DELETE_KEY: &str = "DELETE FROM virtual_keys WHERE id = ?1";
const PUT_TOKEN: &str = "INSERT INTO admin_tokens (id, name, hash, role, tenant, expires_at, created_at, used_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, hash = excluded.hash, role = excluded.role, \
     tenant = excluded.tenant, expires_at = excluded.expires_at, created_at = excluded.created_at";
const DELETE_TOKEN: &str = "DELETE FROM admin_tokens WHERE id = ?1";
const USED: [&str; 2] = [
    "UPDATE virtual_keys SET used_at = ?2 WHERE id = ?1 AND (used_at IS NULL OR used_at < ?2)",
    "UPDATE admin_tokens SET used_at = ?2 WHERE id = ?1 AND (used_at IS NULL OR used_at < ?2)",
];

impl DirectoryStore for SqliteStore {
    fn directory_version(&self) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let version: i64 =
                query_scalar(VERSION).fetch_one(&self.readers).await.map_err(|error| self.fault(error))?;
            Ok(version.unsigned_abs())
        })
    }

    fn directory(&self) -> BoxFuture<'_, DirectoryImage> {
        Box::pin(async move {
            let mut snapshot = self.begin_read().await?;
            let said = |error| self.fault(error);
            let version: i64 = query_scalar(VERSION).fetch_one(&mut *snapshot).await.map_err(said)?;
            let tenants = query(TENANTS).fetch_all(&mut *snapshot).await.map_err(said)?;
            let keys = query(KEYS).fetch_all(&mut *snapshot).await.map_err(said)?;
            let tokens = query(TOKENS).fetch_all(&mut *snapshot).await.map_err(said)?;
            Ok(DirectoryImage {
                version: version.unsigned_abs(),
                tenants: tenants.iter().map(read::tenant).collect::<Result<_, _>>()?,
                keys: keys.iter().map(read::key).collect::<Result<_, _>>()?,
                tokens: tokens.iter().map(read::token).collect::<Result<_, _>>()?,
            })
        })
    }

    fn change_directory<'a>(
        &'a self,
        seen: u64,
        writes: &'a [DirectoryWrite],
        audit: &'a [AuditRow],
    ) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async move {
            let mut transaction = self.begin_write().await?;
            let version: i64 =
                query_scalar(VERSION).fetch_one(&mut *transaction).await.map_err(|error| self.fault(error))?;
            if version.unsigned_abs() != seen {
                return Ok(None);
            }
            for write in writes {
                self.write_directory(&mut transaction, write).await.map_err(|error| self.fault(error))?;
            }
            for row in audit {
                self.append_audit(&mut transaction, row).await?;
            }
            let next = seen.saturating_add(1);
            let set = query(SET_VERSION).bind(stored(next)).execute(&mut *transaction).await;
            set.map_err(|error| self.fault(error))?;
            self.commit(transaction).await?;
            Ok(Some(next))
        })
    }

    fn note_used<'a>(&'a self, used: &'a [(String, UnixMs)]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if used.is_empty() {
                return Ok(());
            }
            let mut transaction = self.begin_write().await?;
            for (id, at) in used {
                for statement in USED {
                    let noted = query(statement).bind(id).bind(stored(*at)).execute(&mut *transaction).await;
                    noted.map_err(|error| self.fault(error))?;
                }
            }
            self.commit(transaction).await
        })
    }
}

impl SqliteStore {
    async fn write_directory(
        &self,
        connection: &mut SqliteConnection,
        write: &DirectoryWrite,
    ) -> Result<(), sqlx::Error> {
        let statement = match write {
            DirectoryWrite::PutTenant(row) => {
                query(PUT_TENANT)
                    .bind(row.tenant.as_str())
                    .bind(row.declared)
                    .bind(&row.spec)
                    .bind(row.credential.as_deref())
                    .bind(stored(row.created_at))
                    .bind(stored(row.updated_at))
                    .execute(&mut *connection)
                    .await?;
                query(KNOW_TENANT)
                    .bind(row.tenant.as_str())
                    .bind(row.declared)
                    .bind(stored(row.created_at))
                    .bind(stored(row.updated_at))
            }
            DirectoryWrite::DeleteTenant(tenant) => {
                for statement in DELETE_TENANT {
                    query(statement).bind(tenant.as_str()).execute(&mut *connection).await?;
                }
                return Ok(());
            }
            DirectoryWrite::PutKey(row) => query(PUT_KEY)
                .bind(&row.id)
                .bind(row.tenant.as_str())
                .bind(&row.name)
                .bind(&row.hash[..])
                .bind(&row.spec)
                .bind(stored_or_null(row.expires_at))
                .bind(&row.replaced_by)
                .bind(stored(row.created_at))
                .bind(stored(row.updated_at))
                .bind(stored_or_null(row.used_at)),
            DirectoryWrite::DeleteKey(id) => query(DELETE_KEY).bind(id),
            DirectoryWrite::PutToken(row) => query(PUT_TOKEN)
                .bind(&row.id)
                .bind(&row.name)
                .bind(&row.hash[..])
                .bind(&row.role)
                .bind(row.tenant.as_ref().map(TenantId::as_str))
                .bind(stored_or_null(row.expires_at))
                .bind(stored(row.created_at))
                .bind(stored_or_null(row.used_at)),
            DirectoryWrite::DeleteToken(id) => query(DELETE_TOKEN).bind(id),
        };
        statement.execute(connection).await.map(|_| ())
    }
}
