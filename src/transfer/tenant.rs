//! Deleting all data of a tenant, and rotating the master key, on a database that this process does not serve from.
//!
//! Invariants: the key is shredded before any row goes, so that an interruption leaves nothing that can be opened; replicas
//! that run on the same PostgreSQL learn of it as of any invalidation. A running SQLite store is refused: its program must be
//! asked (`DELETE /admin/v1/tenants/NAME/data`). Ledger rows stay.

use serde_json::json;

use super::secret::{self, Place};
use super::{TransferError, open_to_write};
use crate::cache::Filter;
use crate::clock::{Clock, UnixMs};
use crate::config::MasterKey;
use crate::ids::{AuditId, KeyId, TenantId};
use crate::store::rem::{Owner, RemStore, forgotten_note};
use crate::store::sealed::{Rotated, reopen, rotate, shred};
use crate::store::{AuditRow, Database, EntryFilter, EntryWrite, StoreError, Stores};

/// Rows deleted in one transaction.
const PAGE: u32 = 1_000;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Entries.
    pub entries: u64,
    /// Decisions.
    pub decisions: u64,
    /// Rows of REM data, and edges of requests.
    pub rem: u64,
    /// There was a data key, which is shredded now.
    pub shredded: bool,
}

/// Deletes entries, points, decisions, what was learnt and REM data of a tenant, shreds its data key, purges and leaves an audit row.
///
/// # Errors
/// See [`TransferError`]. The same call completes it.
pub async fn delete_tenant(place: &Place, tenant: &TenantId) -> Result<Deleted, TransferError> {
    on(place, async |stores: &Stores| {
        let now = Clock::system().now_ms();
        let mut done = Deleted { shredded: shred(stores, tenant, false, now).await?, ..Deleted::default() };
        loop {
            let page = stores.entries.list(Some(tenant), &EntryFilter::default(), None, PAGE).await?;
            if page.is_empty() {
                break;
            }
            let deletes: Vec<EntryWrite> =
                page.iter().map(|meta| EntryWrite::Delete { tenant: tenant.clone(), entry: meta.entry.id }).collect();
            stores.entries.apply(&deletes).await?;
            done.entries += page.len() as u64;
        }
        loop {
            let some = stores.decisions.forget_tenant(tenant, PAGE).await?;
            done.decisions += some;
            if some < u64::from(PAGE) {
                break;
            }
        }
        done.rem = forget_rem(stores, tenant, now).await?;
        let filter = Filter { tenant: Some(tenant.clone()), ..Filter::default() }.to_json();
        let row = AuditRow {
            id: AuditId::at(now),
            at: now,
            actor: "command line".to_owned(),
            action: "tenant.data.delete".into(),
            reason: None,
            what: json!({ "tenant": tenant.as_str(), "shredded": done.shredded }).to_string(),
            result: json!({ "removed": done.entries, "decisions": done.decisions, "rem": done.rem }).to_string(),
        };
        stores.audit.record(&row, &[EntryWrite::Invalidated { at: now, filter }]).await?;
        stores.entries.purge().await?;
        // Last, because it holds no data and may need rights that were taken away.
        if let Some(sql) = &stores.sql {
            sql.forget(tenant, None).await?;
        }
        Ok(done)
    })
    .await
}

/// Deletes all REM data of a tenant, and notes that what its requests have left before is not to be filled again; returns how many
/// rows and edges there were.
///
/// # Errors
/// The database failed; the same call completes it.
pub async fn forget_rem(stores: &Stores, tenant: &TenantId, now: UnixMs) -> Result<u64, StoreError> {
    let Some(rem) = &stores.rem else { return Ok(0) };
    stores.notes.set_note(&forgotten_note(tenant, None), Some(&now.to_string())).await?;
    forget_rows(&**rem, tenant, None).await
}

/// Deletes all REM data of one key, and notes that what its requests have left before is not to be filled again; returns how many rows
/// and edges there were.
///
/// # Errors
/// The database failed; the same call completes it.
pub async fn forget_rem_of_key(
    stores: &Stores,
    tenant: &TenantId,
    key: &KeyId,
    now: UnixMs,
) -> Result<u64, StoreError> {
    let Some(rem) = &stores.rem else { return Ok(0) };
    stores.notes.set_note(&forgotten_note(tenant, Some(key)), Some(&now.to_string())).await?;
    forget_rows(&**rem, tenant, Some(&Owner::Key(key.clone()))).await
}

async fn forget_rows(rem: &dyn RemStore, tenant: &TenantId, owner: Option<&Owner>) -> Result<u64, StoreError> {
    let mut gone = 0;
    loop {
        let some = rem.rem_forget_tenant(tenant, owner, PAGE).await?;
        gone += some;
        if some == 0 {
            return Ok(gone);
        }
    }
}

/// Lets a tenant whose key was shredded get a new one; returns whether it was shredded.
///
/// # Errors
/// See [`TransferError`].
pub async fn reopen_tenant(place: &Place, tenant: &TenantId) -> Result<bool, TransferError> {
    on(place, async |stores: &Stores| Ok(reopen(stores, tenant).await?)).await
}

/// Wraps all data keys by the new master key.
///
/// # Errors
/// See [`TransferError`]. The same call completes it.
pub async fn rotate_master(place: &Place, old: &MasterKey, new: &MasterKey) -> Result<Rotated, TransferError> {
    on(place, async |stores: &Stores| {
        let rotated = rotate(stores, old, new).await?;
        // What the files still have of the keys as they were wrapped before.
        stores.entries.purge().await?;
        Ok(rotated)
    })
    .await
}

async fn on<T>(place: &Place, work: impl AsyncFnOnce(&Stores) -> Result<T, TransferError>) -> Result<T, TransferError> {
    let held = secret::lock(place)?;
    if open_exists(place).await? {
        let database = open_to_write(place).await?;
        let done = work(&database.stores()).await;
        database.close().await;
        drop(held);
        return done;
    }
    Err(StoreError::Missing { place: place.url.to_string(), advice: "check --store" }.into())
}

/// Whether there is a database, so that none is made by a slip of the pen.
async fn open_exists(place: &Place) -> Result<bool, TransferError> {
    match Database::open_to_read(&place.url).await {
        Ok(database) => {
            database.close().await;
            Ok(true)
        }
        Err(StoreError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
