//! What a tenant or key of before has left under its name.
//!
//! Answers, ledger rows and spend belong to a name. Who gets the name gets them, and is perhaps somebody else: so a name with
//! something left is given away only to who says that this is meant.

use http::StatusCode;

use super::change::image;
use super::{Admin, Problem};
use crate::ids::{KeyId, TenantId};
use crate::store::EntryFilter;

/// Whether there are answers or ledger rows of this tenant.
pub(super) async fn of_tenant(state: &Admin, tenant: &TenantId) -> Result<bool, Problem> {
    Ok(!state.stores.ledger.recent(Some(tenant), 1).await?.is_empty()
        || !state.stores.entries.list(Some(tenant), &EntryFilter::default(), None, 1).await?.is_empty())
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

/// 409 if a new key would be served the answers of one of before.
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
        "there are answers or ledger rows of a tenant `{tenant}` of before, which the new one would get, spend included; \
         choose another name, or say `\"adopt_data\": true` (--adopt-data) if it may have them. To get rid of the answers \
         first, ask DELETE /admin/v1/tenants/{tenant}/data; ledger rows stay, so adopt_data is needed all the same"
    );
    Err(Problem::new(StatusCode::CONFLICT, text))
}

async fn key_is_fresh(state: &Admin, tenant: &TenantId, key: &str) -> Result<(), Problem> {
    let writer = Some(KeyId::new(format!("{tenant}/{key}")));
    let filter = EntryFilter { writer, ..EntryFilter::default() };
    if state.stores.entries.list(Some(tenant), &filter, None, 1).await?.is_empty() {
        return Ok(());
    }
    let text = format!(
        "there are answers of a key `{tenant}/{key}` of before, which the new one would be served; choose another name, \
         or say `\"adopt_data\": true` (--adopt-data) if it may have them. `remora cache invalidate` gets rid of them"
    );
    Err(Problem::new(StatusCode::CONFLICT, text))
}
