//! What tenants are held to, and how their budgets stand.

use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::Who;
use super::change::image;
use super::{Admin, Problem};
use crate::clock::UnixMs;
use crate::config::{Budget, KeySpec, NanoUsd, TenantSpec};
use crate::ids::{AuditId, TenantId};
use crate::store::AuditRow;

/// One budget as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetStanding {
    /// What it is.
    pub budget: Budget,
    /// Start of what counts now.
    pub from: UnixMs,
    /// When that counts no more.
    pub until: UnixMs,
    /// Spent.
    pub spent: NanoUsd,
    /// Held for requests under way.
    pub held: NanoUsd,
    /// By how much the counter is above the ledger.
    pub drift: NanoUsd,
}

/// Whoever keeps the counters of budgets.
pub trait BudgetBook: Send + Sync {
    /// All budgets of a tenant.
    fn standing<'a>(
        &'a self,
        tenant: &'a TenantId,
        spec: &'a TenantSpec,
        now: UnixMs,
    ) -> Pin<Box<dyn Future<Output = Vec<BudgetStanding>> + Send + 'a>>;

    /// Counts them anew from the ledger. The error is for people.
    fn rebuild<'a>(
        &'a self,
        tenant: &'a TenantId,
        spec: &'a TenantSpec,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}

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
    standing(&state, &tenant, &spec).await.map(Json)
}

/// `POST /admin/v1/tenants/{name}/budgets/rebuild`
pub(super) async fn rebuild(
    State(state): State<Admin>,
    Path(name): Path<String>,
    who: Who,
) -> Result<Json<Value>, Problem> {
    let tenant = TenantId::new(name);
    let spec = spec(&state, &tenant)?;
    let before = standing(&state, &tenant, &spec).await?;
    book(&state)?.rebuild(&tenant, &spec).await.map_err(|error| {
        tracing::error!(%tenant, error, "budgets cannot be counted anew");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    let after = standing(&state, &tenant, &spec).await?;
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

async fn standing(state: &Admin, tenant: &TenantId, spec: &TenantSpec) -> Result<Value, Problem> {
    let found = book(state)?.standing(tenant, spec, state.clock.now_ms()).await;
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
    Ok(json!({ "budgets": found.iter().map(one).collect::<Vec<_>>() }))
}

fn book(state: &Admin) -> Result<Arc<dyn BudgetBook>, Problem> {
    let missing = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "budgets are not counted here");
    state.limiter.clone().ok_or_else(missing)
}

fn spec(state: &Admin, tenant: &TenantId) -> Result<Arc<TenantSpec>, Problem> {
    state.directory.tenant(tenant).map(|known| known.spec).ok_or_else(|| Problem::not_found("tenant"))
}
