//! Alerts: what was raised, whether it has arrived, and whether it would.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Who;
use super::{Admin, Problem};
use crate::alert::TestError;
use crate::clock::UnixMs;
use crate::ids::TenantId;
use crate::store::{AlertRow, DeliveryRow};

/// Most alerts of one answer.
const MOST: u32 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    tenant: Option<String>,
    limit: Option<u32>,
    before: Option<UnixMs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    channel: Option<String>,
}

/// `GET /admin/v1/alerts`, newest first. `next` is the `before` of the next page.
pub(super) async fn list(
    State(state): State<Admin>,
    who: Who,
    ask: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let tenant = who.narrowed(ask.tenant.map(TenantId::new))?;
    let limit = ask.limit.unwrap_or(50).clamp(1, MOST);
    let rows = state.alerts.list(tenant.as_ref(), ask.before, limit).await?;
    let (rows, next) = page(rows, limit);
    Ok(Json(json!({ "alerts": rows.iter().map(view).collect::<Vec<_>>(), "next": next })))
}

/// `POST /admin/v1/alerts/test`: answers with what became of it, which may take ten seconds.
pub(super) async fn test(
    State(state): State<Admin>,
    ask: Result<Json<Test>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(Test { channel }) = ask?;
    let tested = state.alerts.test(channel.as_deref()).await.map_err(|error| match error {
        TestError::NoSuchChannel { .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        TestError::Store(error) => error.into(),
    })?;
    Ok(Json(view(&tested)))
}

/// A full page ends before a moment that the next page would be cut in, unless that moment fills it.
fn page<T>(mut rows: Vec<(AlertRow, T)>, limit: u32) -> (Vec<(AlertRow, T)>, Option<UnixMs>) {
    let last = rows.last().map(|(alert, _)| alert.at);
    let Some(last) = last.filter(|_| u32::try_from(rows.len()).is_ok_and(|count| count >= limit)) else {
        return (rows, None);
    };
    if rows.first().is_some_and(|(alert, _)| alert.at == last) {
        return (rows, Some(last));
    }
    rows.retain(|(alert, _)| alert.at > last);
    (rows, Some(last.saturating_add(1)))
}

fn view((alert, deliveries): &(AlertRow, Vec<DeliveryRow>)) -> Value {
    // Written as JSON; what is not any more is shown as the text it is.
    let payload: Value = serde_json::from_str(&alert.payload).unwrap_or_else(|_| alert.payload.as_str().into());
    let delivery = |row: &DeliveryRow| {
        json!({
            "channel": row.channel,
            "state": row.state,
            "attempts": row.attempts,
            "next_at": (row.state == "pending").then_some(row.next_at),
            "error": row.error,
            "sent_at": row.sent_at,
        })
    };
    json!({
        "id": alert.id,
        "at": alert.at,
        "tenant": alert.tenant.as_ref().map(TenantId::as_str),
        "kind": alert.kind,
        "title": alert.title,
        "text": payload.get("text"),
        "details": payload.get("details"),
        "deliveries": deliveries.iter().map(delivery).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_leave_nothing_out_that_happened_in_one_moment() {
        let times: [UnixMs; 7] = [9, 8, 8, 7, 7, 7, 1];
        let row = |at: &UnixMs| {
            let (id, kind, title, payload) = (String::new(), String::new(), String::new(), String::new());
            (AlertRow { id, at: *at, tenant: None, kind, title, payload }, ())
        };
        let mut seen = Vec::new();
        let mut before = UnixMs::MAX;
        loop {
            let rows: Vec<_> = times.iter().filter(|at| **at < before).take(4).map(row).collect();
            let (rows, next) = page(rows, 4);
            seen.extend(rows.into_iter().map(|(alert, ())| alert.at));
            let Some(next) = next else { break };
            before = next;
        }
        assert_eq!(seen, times);
    }
}
