//! What tenants are held to, and how their budgets stand.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::Who;
use super::change::image;
use super::{Admin, Problem};
use crate::config::{KeySpec, NanoUsd, TenantSpec};
use crate::ids::{AuditId, TenantId};
use crate::limit::BudgetStanding;
use crate::store::AuditRow;

/// `GET /admin/v1/tenants/{name}/limits`
pub(super) async fn limits(State(state): State<Admin>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(name);
    let spec = spec(&state, &tenant)?;
    let image = image(&state).await?;
    let configured = state.directory.declared();
    let declared = configured.tenant(&tenant).into_iter().flat_map(|of| &of.keys);
    let mut keys: Vec<Value> = declared.map(|key| json!({ "name": key.name, "limits": key.spec.limits })).collect();
    for row in image.keys.iter().filter(|row| row.tenant == tenant && row.replaced_by.is_none()) {
        let spec: Option<KeySpec> = serde_json::from_str(&row.spec).ok();
        keys.push(json!({ "name": row.name, "limits": spec.map(|spec| spec.limits) }));
    }
    Ok(Json(json!({ "limits": spec.limits, "hits_take_tokens": spec.hits_take_tokens, "keys": keys })))
}

/// `GET /admin/v1/tenants/{name}/budgets`
pub(super) async fn budgets(State(state): State<Admin>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(name);
    let spec = spec(&state, &tenant)?;
    Ok(Json(standing(&state, &tenant, &spec).await))
}

/// `POST /admin/v1/tenants/{name}/budgets/rebuild`
pub(super) async fn rebuild(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(name);
    let spec = spec(&state, &tenant)?;
    let before = standing(&state, &tenant, &spec).await;
    state.limiter.rebuild(&tenant, &spec).await.map_err(|error| {
        tracing::error!(%tenant, %error, "budgets cannot be counted anew");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    })?;
    let after = standing(&state, &tenant, &spec).await;
    let at = state.clock.now_ms();
    let row = AuditRow {
        id: AuditId::at(at),
        at,
        actor: who.actor,
        action: "budget.rebuild".into(),
        reason: None,
        what: json!({ "tenant": tenant.as_str() }).to_string(),
        result: json!({ "before": before, "after": after }).to_string(),
    };
    state.stores.audit.record(&row, &[]).await?;
    Ok(Json(after))
}

async fn standing(state: &Admin, tenant: &TenantId, spec: &TenantSpec) -> Value {
    let found = state.limiter.budgets(tenant, spec, state.clock.now_ms()).await;
    let one = |standing: &BudgetStanding| {
        let BudgetStanding { budget, from, until, spent, held, drift } = standing;
        let left = budget.usd.0.saturating_sub(spent.0).saturating_sub(held.0).max(0);
        let mut value = json!(budget);
        if let Some(members) = value.as_object_mut() {
            members.insert("spent".to_owned(), json!(spent));
            members.insert("held".to_owned(), json!(held));
            members.insert("left".to_owned(), json!(NanoUsd(left)));
            members.insert("from".to_owned(), json!(from));
            members.insert("until".to_owned(), json!(until));
            members.insert("drift".to_owned(), json!(drift));
        }
        value
    };
    json!({ "budgets": found.iter().map(one).collect::<Vec<_>>() })
}

fn spec(state: &Admin, tenant: &TenantId) -> Result<Arc<TenantSpec>, Problem> {
    state.directory.tenant(tenant).map(|known| known.spec).ok_or_else(|| Problem::not_found("tenant"))
}
