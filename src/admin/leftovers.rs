//! What a tenant or key of before has left under its name.
//!
//! Answers, ledger rows and spend belong to a name. Who gets the name gets them, and is perhaps somebody else: so a name with
//! something left is given away only to who says that this is meant.

use std::collections::BTreeMap;

use http::StatusCode;

use super::change::image;
use super::{Admin, Problem};
use crate::ids::{KeyId, RemId, TenantId};
use crate::store::rem::Owner;
use crate::store::{Dimension, EntryFilter, Slot, UsageAsk};

/// Whether there are answers, ledger rows or REM data of this tenant.
pub(super) async fn of_tenant(state: &Admin, tenant: &TenantId) -> Result<bool, Problem> {
    Ok(!state.stores.ledger.recent(Some(tenant), 1).await?.is_empty()
        || !state.stores.entries.list(Some(tenant), &EntryFilter::default(), None, 1).await?.is_empty()
        || rem_of(state, tenant, None).await?)
}

/// Whether there is REM data of this tenant, or of one of its keys.
async fn rem_of(state: &Admin, tenant: &TenantId, key: Option<&KeyId>) -> Result<bool, Problem> {
    let Some(rem) = &state.stores.rem else { return Ok(false) };
    let Some(key) = key else {
        // By tenant and id: the first row that follows nothing of this tenant, hidden ones included.
        let before = (tenant.clone(), RemId::from_bytes([0; 16]));
        return Ok(rem.rem_export(Some(&before), 1).await?.first().is_some_and(|row| row.tenant == *tenant));
    };
    Ok(rem.rem_owns(tenant, &Owner::Key(key.clone())).await?)
}

/// 409 if a new tenant would get what one of before has left.
pub(super) async fn no_tenant(state: &Admin, tenant: &TenantId) -> Result<(), Problem> {
    // One that is there is told otherwise.
    if image(state).await?.tenants.iter().any(|record| record.tenant == *tenant) {
        return Ok(());
    }
    // What waits to be written counts, too.
    state.cache.flush().await;
    tenant_is_fresh(state, tenant).await
}

/// 409 if a new key would be served the answers of one of before, or see its requests.
pub(super) async fn no_key(state: &Admin, tenant: &TenantId, key: &str) -> Result<(), Problem> {
    if image(state).await?.keys.iter().any(|row| row.tenant == *tenant && row.name == key) {
        return Ok(());
    }
    state.cache.flush().await;
    key_is_fresh(state, tenant, key).await
}

/// The same for many tenants with the names of their keys; of those, only what is not there yet is new.
pub(super) async fn none<'a>(
    state: &Admin,
    wanted: impl Iterator<Item = (&'a TenantId, Vec<&'a str>)>,
) -> Result<(), Problem> {
    let image = image(state).await?;
    state.cache.flush().await;
    for (number, (tenant, keys)) in wanted.enumerate() {
        let at = |problem: Problem| problem.at(&format!("tenants[{number}]"));
        if !image.tenants.iter().any(|record| record.tenant == *tenant) {
            // Without anything of the tenant there is nothing of its keys.
            tenant_is_fresh(state, tenant).await.map_err(at)?;
            continue;
        }
        for key in keys {
            if !image.keys.iter().any(|row| row.tenant == *tenant && row.name == key) {
                key_is_fresh(state, tenant, key).await.map_err(at)?;
            }
        }
    }
    Ok(())
}

async fn tenant_is_fresh(state: &Admin, tenant: &TenantId) -> Result<(), Problem> {
    if !of_tenant(state, tenant).await? {
        return Ok(());
    }
    let text = format!(
        "there are answers, ledger rows or REM data of a tenant `{tenant}` of before, which the new one would get, spend included; \
         choose another name, or say `\"adopt_data\": true` (--adopt-data) if it may have them. To get rid of the answers \
         first, ask DELETE /admin/v1/tenants/{tenant}/data; ledger rows stay, so adopt_data is needed all the same"
    );
    Err(Problem::new(StatusCode::CONFLICT, text))
}

/// Whether there are answers, ledger rows or REM data of the key of this name.
pub(super) async fn of_key(state: &Admin, tenant: &TenantId, key: &str) -> Result<bool, Problem> {
    let writer = KeyId::new(format!("{tenant}/{key}"));
    if has_asked(state, tenant, &writer).await? {
        return Ok(true);
    }
    let has_rem = rem_of(state, tenant, Some(&writer)).await?;
    let filter = EntryFilter { writer: Some(writer), ..EntryFilter::default() };
    Ok(has_rem || !state.stores.entries.list(Some(tenant), &filter, None, 1).await?.is_empty())
}

/// Whether there is a ledger row of this key, which REM shows to whoever has it. The sums tell keys apart, however many there are, and
/// are a small part of the ledger.
async fn has_asked(state: &Admin, tenant: &TenantId, key: &KeyId) -> Result<bool, Problem> {
    // The last midnight that a database can keep.
    let until = (u64::MAX >> 1) / Slot::Day.ms() * Slot::Day.ms();
    let only = [(Dimension::Tenant, tenant.to_string()), (Dimension::Key, key.to_string())];
    let ask = UsageAsk {
        until,
        by: vec![Dimension::Key],
        only: BTreeMap::from(only),
        limit: 1,
        most_rows: 1,
        ..UsageAsk::default()
    };
    Ok(!state.stores.usage.usage(&ask).await?.is_empty())
}

async fn key_is_fresh(state: &Admin, tenant: &TenantId, key: &str) -> Result<(), Problem> {
    if !of_key(state, tenant, key).await? {
        return Ok(());
    }
    let text = format!(
        "there are answers, ledger rows or REM data of a key `{tenant}/{key}` of before, which the new one would be served or shown; \
         choose another name, or say `\"adopt_data\": true` (--adopt-data) if it may have them. \
         DELETE /admin/v1/tenants/{tenant}/keys/{key}/data gets rid of answers and REM data; ledger rows stay, so adopt_data is \
         needed all the same"
    );
    Err(Problem::new(StatusCode::CONFLICT, text))
}
