//! Questions to the ledger.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Who;
use super::{Admin, Problem};
use crate::ids::{RequestId, TenantId};
use crate::store::LedgerRow;

/// Most rows of one answer.
const MOST: u32 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recent {
    tenant: Option<String>,
    limit: Option<u32>,
}

/// `GET /admin/v1/requests/{id}`. A row is written some milliseconds after its request has ended.
pub(super) async fn one(State(state): State<Admin>, Path(id): Path<String>, who: Who) -> Result<Json<Value>, Problem> {
    let id: RequestId =
        id.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("`{id}` is {error}")))?;
    let row = state.stores.ledger.request(id).await?;
    let row = row.filter(|row| who.sees(row.tenant.as_ref()));
    row.map(|row| Json(view(&row))).ok_or_else(|| Problem::not_found("request"))
}

/// `GET /admin/v1/requests`, newest first.
pub(super) async fn recent(
    State(state): State<Admin>,
    who: Who,
    ask: Result<Query<Recent>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let tenant = who.narrowed(ask.tenant.as_deref().map(TenantId::new))?;
    let rows = state.stores.ledger.recent(tenant.as_ref(), ask.limit.unwrap_or(50).min(MOST)).await?;
    Ok(Json(json!({ "data": rows.iter().map(view).collect::<Vec<_>>() })))
}

fn view(row: &LedgerRow) -> Value {
    let tags: serde_json::Map<String, Value> =
        row.tags.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    json!({
        "request_id": row.request.to_string(),
        "started_at_ms": row.started_at,
        "tenant": row.tenant.as_ref().map(TenantId::as_str),
        "key": row.key.as_ref().map(crate::ids::KeyId::as_str),
        "user": row.user,
        "tags": tags,
        "route": row.route,
        "dialect": row.dialect,
        "model_asked": row.model_asked,
        "model_answered": row.model_answered,
        "stream": row.stream,
        "outcome": row.outcome,
        "tier": row.tier,
        "reason": row.reason,
        "similarity": row.similarity,
        "entry": row.entry.map(|entry| entry.to_string()),
        "status": row.status,
        "upstream": row.upstream,
        "upstream_status": row.upstream_status,
        "tokens": {
            "input": row.tokens.input,
            "cache_read": row.tokens.cache_read,
            "cache_write": row.tokens.cache_write,
            "output": row.tokens.output,
            "reasoning": row.tokens.reasoning,
            "source": row.tokens_source,
        },
        "latency_us": row.latency_us,
        "ttft_us": row.ttft_us,
        "overhead_us": row.overhead_us,
        "cost_nano_usd": row.cost_nano_usd,
        "saved_nano_usd": row.saved_nano_usd,
        "price_version": row.price_version,
    })
}
