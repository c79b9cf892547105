//! The audit of what was changed through the admin plane.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem};
use crate::ids::AuditId;
use crate::store::{AuditRow, AuditVerdict, verify_audit};

/// Most rows of one answer.
const MOST: u32 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<u32>,
}

/// `GET /admin/v1/audit`, newest first.
pub(super) async fn trail(
    State(state): State<Admin>,
    ask: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let wrong = |text: &str, error| Problem::new(StatusCode::BAD_REQUEST, format!("`{text}` is {error}"));
    let before = ask.cursor.as_deref().map(|text| text.parse::<AuditId>().map_err(|error| wrong(text, error)));
    let limit = ask.limit.unwrap_or(50).clamp(1, MOST);
    let rows = state.stores.audit.trail(before.transpose()?, limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next = rows.last().filter(|_| full).map(|row| row.id.to_string());
    Ok(Json(json!({ "data": rows.iter().map(view).collect::<Vec<_>>(), "next_cursor": next })))
}

/// `GET /admin/v1/audit/verify`: whether every row is the one that was written, and none is missing.
pub(super) async fn verify(State(state): State<Admin>) -> Result<Json<Value>, Problem> {
    let AuditVerdict { ok, rows, head, broken_at, why } = verify_audit(&*state.stores.audit).await?;
    let head = head.map(|head| blake3::Hash::from_bytes(head.hash).to_hex().to_string());
    Ok(Json(json!({ "ok": ok, "rows": rows, "head": head, "broken_at": broken_at, "why": why })))
}

fn view(row: &AuditRow) -> Value {
    // Both were written as JSON; what is not any more is shown as the text it is.
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into());
    json!({
        "id": row.id.to_string(),
        "at_ms": row.at,
        "actor": row.actor,
        "action": row.action,
        "reason": row.reason,
        "what": parsed(&row.what),
        "result": parsed(&row.result),
    })
}
