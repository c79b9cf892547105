//! Deleting all data of a tenant, or of one of its keys, while the program runs.
//!
//! First its key goes, so that nothing of it can be opened or stored any more, then the rows, then what the files still have
//! of them. Every step may be repeated. Ledger rows stay: they are about money and hold no prompts.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::auth::Who;
use super::change::image;
use super::invalidate::{Why, carry_out, reason};
use super::keys::is_declared;
use super::{Admin, Problem, leftovers};
use crate::cache::{Filter, Order};
use crate::ids::{KeyId, TenantId};
use crate::transfer::{forget_rem, forget_rem_of_key};

/// `DELETE /admin/v1/tenants/{name}/data`
pub(super) async fn delete(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
    why: Result<Query<Why>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(why) = why?;
    let why = why.reason.map(reason).transpose()?;
    let tenant = TenantId::new(name.as_str());
    if !is_known(&state, &tenant).await? {
        return Err(Problem::not_found("tenant"));
    }
    state.cache.is_loaded()?;
    let shredded = match &state.sealed {
        Some(sealed) => sealed.shred(&tenant, state.clock.now_ms()).await?,
        None => false,
    };
    let filter = Filter { tenant: Some(tenant.clone()), ..Filter::default() };
    let order = Order {
        selector: Arc::new(state.cache.selector(filter).await?),
        expect: None,
        expect_count: None,
        action: "tenant.data.delete",
        actor: who.actor,
        reason: why,
        what: json!({ "tenant": tenant.as_str(), "shredded": shredded }).to_string(),
    };
    let removed = carry_out(&state, order).await?;
    let decisions = state.cache.forget_tenant(&tenant).await?;
    let rem = forget_rem(&state.stores, &tenant, state.clock.now_ms()).await?;
    forget_sql(&state, &tenant, None).await;
    let purged = purged(&state).await;
    Ok(Json(json!({
        "tenant": tenant.as_str(),
        "removed": removed.entries + removed.strays,
        "decisions": decisions,
        "rem": rem,
        "shredded": shredded,
        "purged": purged,
        "audit": removed.audit.to_string(),
    })))
}

/// `DELETE /admin/v1/tenants/{name}/keys/{key}/data`: the answers and REM data of the key of this name, which need not be there any
/// more.
pub(super) async fn delete_of_key(
    State(state): State<Admin>,
    Path((name, key)): Path<(String, String)>,
    who: Who,
    why: Result<Query<Why>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(why) = why?;
    let why = why.reason.map(reason).transpose()?;
    let tenant = TenantId::new(name.as_str());
    let is_there = is_declared(&state, &tenant, &key)
        || image(&state).await?.keys.iter().any(|row| row.tenant == tenant && row.name == key);
    // What waits to be written counts, too.
    state.cache.flush().await;
    if !is_there && !leftovers::of_key(&state, &tenant, &key).await? {
        return Err(Problem::not_found("key"));
    }
    let id = KeyId::new(format!("{tenant}/{key}"));
    let writer = Some(id.as_str().to_owned());
    let filter = Filter { tenant: Some(tenant.clone()), writer, ..Filter::default() };
    let order = Order {
        selector: Arc::new(state.cache.selector(filter).await?),
        expect: None,
        expect_count: None,
        action: "key.data.delete",
        actor: who.actor,
        reason: why,
        what: json!({ "tenant": tenant.as_str(), "key": key }).to_string(),
    };
    let removed = carry_out(&state, order).await?;
    let rem = forget_rem_of_key(&state.stores, &tenant, &id, state.clock.now_ms()).await?;
    let purged = purged(&state).await;
    Ok(Json(json!({
        "tenant": tenant.as_str(),
        "key": key,
        "removed": removed.entries + removed.strays,
        "rem": rem,
        "purged": purged,
        "audit": removed.audit.to_string(),
    })))
}

/// Whether what was deleted is gone from the files, too.
async fn purged(state: &Admin) -> bool {
    let purged = state.stores.entries.purge().await;
    if let Err(error) = &purged {
        tracing::warn!(%error, "deleted data could not be purged from the files; repeat the call");
    }
    purged.is_ok()
}

/// Takes away what the database has for the SQL of a tenant or of a key. It holds no data, so it is no failure if it stays.
pub(super) async fn forget_sql(state: &Admin, tenant: &TenantId, key: Option<&KeyId>) {
    let Some(sql) = &state.stores.sql else { return };
    if let Err(error) = sql.forget(tenant, key).await {
        tracing::warn!(%error, %tenant, "what was set up for the SQL of a tenant or key is still in the database");
    }
}

/// A slip of the pen must not leave a tombstone. The ledger knows everybody who has ever asked.
async fn is_known(state: &Admin, tenant: &TenantId) -> Result<bool, Problem> {
    let declared = state.directory.tenant(tenant).is_some()
        || state.stores.tenants.list().await?.iter().any(|row| row.tenant == *tenant);
    Ok(declared || leftovers::of_tenant(state, tenant).await?)
}
