//! Deleting all data of a tenant while the program runs.
//!
//! First its key goes, so that nothing of it can be opened or stored any more, then the rows, then what the files still have
//! of them. Every step may be repeated. Ledger rows stay: they are about money and hold no prompts.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::auth::Who;
use super::invalidate::{Why, carry_out, reason};
use super::{Admin, Problem, leftovers};
use crate::cache::{Filter, Order};
use crate::ids::TenantId;

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
    let purged = match state.stores.entries.purge().await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "deleted data could not be purged from the files; repeat the call");
            false
        }
    };
    Ok(Json(json!({
        "tenant": tenant.as_str(),
        "removed": removed.entries + removed.strays,
        "decisions": decisions,
        "shredded": shredded,
        "purged": purged,
        "audit": removed.audit.to_string(),
    })))
}

/// A slip of the pen must not leave a tombstone. The ledger knows everybody who has ever asked.
async fn is_known(state: &Admin, tenant: &TenantId) -> Result<bool, Problem> {
    let declared = state.directory.tenant(tenant).is_some()
        || state.stores.tenants.list().await?.iter().any(|row| row.tenant == *tenant);
    Ok(declared || leftovers::of_tenant(state, tenant).await?)
}
