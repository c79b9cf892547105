//! What the semantic tier decided, what it has learnt, who seems to probe it, and feedback from the operator.
//!
//! Reads are straight from the store and the learners. Feedback changes things, so it leaves a row in the audit.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::auth::Who;
use super::invalidate::reason;
use super::{Admin, Problem};
use crate::cache::decide::INPUT_NAMES;
use crate::cache::{Consequences, Feedback, FeedbackError, Probing};
use crate::ids::{AuditId, EntryId, PointId, RequestId, TenantId};
use crate::pipeline::{FeedbackBody, feedback_view};
use crate::store::{AuditRow, DecisionRow};
use crate::task;

/// Most rows of one answer.
const MOST: u32 = 1_000;
/// How far back decisions are listed if the caller does not say, seconds.
const SINCE_S: u64 = 24 * 3_600;

/// `POST /admin/v1/cache/feedback`: what a caller may say, and why the operator says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    request_id: String,
    verdict: String,
    #[serde(default)]
    within_hours: Option<u32>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfTenant {
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    tenant: Option<String>,
    since_s: Option<u64>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `POST /admin/v1/cache/feedback`
pub(super) async fn feedback(
    State(state): State<Admin>,
    who: Who,
    said: Result<Json<Said>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(Said { request_id, verdict, within_hours, reason: why }) = said?;
    let body = FeedbackBody { request_id, verdict, within_hours };
    let feedback = body.read().map_err(|text| Problem::new(StatusCode::BAD_REQUEST, text))?;
    let why = why.map(reason).transpose()?;
    // On a task of its own, so that a caller who leaves does not stop it between the change and its row.
    let (done, result) = tokio::sync::oneshot::channel();
    let (plane, own) = (state.clone(), feedback.clone());
    task::spawn("feedback", &state.metrics, async move {
        let taken = take_in(&plane, &own, who.actor, why).await;
        // Nobody waits any more; the audit row says what was done.
        let _ = done.send(taken);
    });
    let ended = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "it ended early; see the log and repeat it");
    let (consequences, audit) = result.await.map_err(ended)??;
    let mut told = feedback_view(&feedback, &consequences);
    if let Some(members) = told.as_object_mut() {
        members.insert("tenant".to_owned(), consequences.tenant.as_str().into());
        members.insert("audit".to_owned(), audit.to_string().into());
    }
    Ok(Json(told))
}

async fn take_in(
    state: &Admin,
    feedback: &Feedback,
    actor: String,
    why: Option<String>,
) -> Result<(Consequences, AuditId), Problem> {
    let done = state.cache.feedback(feedback, state.stores.ledger.as_ref()).await?;
    let now = state.clock.now_ms();
    let row = AuditRow {
        id: AuditId::at(now),
        at: now,
        actor,
        action: "cache.feedback".into(),
        reason: why,
        what: json!({ "request_id": feedback.request.to_string(), "verdict": feedback.opinion.as_str() }).to_string(),
        result: json!({
            "tenant": done.tenant.as_str(),
            "entry": done.entry.map(|entry| entry.to_string()),
            "unlinked_point": done.unlinked.map(|point| point.to_string()),
            "removed_entry": done.removed.map(|entry| entry.to_string()),
            "learnt": done.learnt,
            "served_to": done.served.len(),
        })
        .to_string(),
    };
    state.stores.audit.record(&row, &[]).await.map_err(|error| {
        tracing::error!(%error, request = %feedback.request, "feedback was taken, but its audit row cannot be written");
        let text = "the feedback was taken, but the audit cannot be written now; see the log";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    Ok((done, row.id))
}

/// `GET /admin/v1/cache/learners`
pub(super) async fn learners(
    State(state): State<Admin>,
    ask: Result<Query<OfTenant>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let mut reports = state.cache.learner_reports();
    reports.retain(|report| ask.tenant.as_ref().is_none_or(|tenant| report.tenant == *tenant));
    Ok(Json(json!({ "data": reports })))
}

/// `GET /admin/v1/cache/probing`
pub(super) async fn probing(State(state): State<Admin>) -> Json<Value> {
    let show = |found: &Probing| json!({ "key": found.key.as_str(), "since_ms": found.since, "near_misses": found.near_misses });
    Json(json!({ "data": state.cache.probing().iter().map(show).collect::<Vec<_>>() }))
}

/// `GET /admin/v1/cache/decisions`, oldest first.
pub(super) async fn list(
    State(state): State<Admin>,
    ask: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let limit = ask.limit.unwrap_or(50).clamp(1, MOST);
    let tenant = ask.tenant.as_deref().map(TenantId::new);
    let after = ask.cursor.as_deref().map(request_id).transpose()?;
    let since = since(&state, ask.since_s.unwrap_or(SINCE_S));
    let rows = state.stores.decisions.since(tenant.as_ref(), since, after, limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next = rows.last().filter(|_| full).map(|row| row.request.to_string());
    Ok(Json(json!({ "data": rows.iter().map(view).collect::<Vec<_>>(), "next_cursor": next })))
}

/// `GET /admin/v1/cache/decisions/{request}`
pub(super) async fn one(State(state): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let row = state.stores.decisions.decision(request_id(&id)?).await?;
    let none = "decision about this request: it had no candidate, was not looked up by similarity, or is too old; \
                rows appear some milliseconds after the decision";
    row.map(|row| Json(view(&row))).ok_or_else(|| Problem::not_found(none))
}

/// The moment so many seconds ago.
pub(super) fn since(state: &Admin, seconds: u64) -> u64 {
    state.clock.now_ms().saturating_sub(seconds.saturating_mul(1_000))
}

fn request_id(text: &str) -> Result<RequestId, Problem> {
    text.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("`{text}` is {error}")))
}

fn view(row: &DecisionRow) -> Value {
    // Rows of another version may have other inputs; then there is no telling what they are.
    let named = row.inputs.len() == INPUT_NAMES.len();
    let inputs: Map<String, Value> =
        INPUT_NAMES.iter().zip(&row.inputs).filter(|_| named).map(|(n, x)| ((*n).to_owned(), json!(x))).collect();
    json!({
        "request_id": row.request.to_string(),
        "at_ms": row.at,
        "tenant": row.tenant.as_str(),
        "key": row.key.as_str(),
        "model": row.model,
        "mode": row.mode,
        "verdict": row.verdict,
        "would_serve": row.would_serve,
        "entry": row.entry.as_ref().map(EntryId::to_string),
        "point": row.point.as_ref().map(PointId::to_string),
        "cosine": row.cosine,
        "probability": row.probability,
        "theta": row.theta,
        "inputs": inputs,
        "right": row.right,
        "label": row.label,
        "tokens": row.tokens,
        "prompt": row.prompt,
    })
}

impl From<FeedbackError> for Problem {
    fn from(error: FeedbackError) -> Self {
        match error {
            FeedbackError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            FeedbackError::Store(error) => error.into(),
        }
    }
}
