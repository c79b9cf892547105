//! Queries: one, a batch, and how one would be answered.

use std::time::{Duration, Instant};

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::body::Sent;
use super::problem::{Problem, Told};
use crate::rem::{Answer, Fault, batch_from_json, from_json, rounded, schema};
use crate::store::rem::Scope;

/// Type of a query that could not be read.
pub(in crate::rem) const UNREAD: &str = "other";

/// Reads and answers one query. With it comes its type, for the metrics.
pub(in crate::rem) async fn query(
    shared: &Shared,
    scope: &Scope,
    value: &Value,
) -> (&'static str, Result<Answer, Fault>) {
    let began = Instant::now();
    let query = match from_json(value) {
        Ok(query) => query,
        Err(fault) => return (UNREAD, Err(fault)),
    };
    let parsed = began.elapsed();
    let mut answered = shared.rem.run(scope, &query).await;
    if let Ok(answer) = &mut answered {
        answer.timing_ms.parse = millis(parsed);
        answer.timing_ms.total = millis(began.elapsed());
    }
    (query.kind(), answered)
}

/// Reads and answers a batch: `{"stages": [{"name", "answer"}], "timing_ms": {"total"}}`.
///
/// # Errors
/// What is wrong, and in which stage, if it is one of them.
pub(in crate::rem) async fn batch(
    shared: &Shared,
    scope: &Scope,
    value: &Value,
) -> Result<Value, (Option<String>, Fault)> {
    let began = Instant::now();
    let stages = batch_from_json(value).map_err(|fault| (None, fault))?;
    let answers = shared.rem.batch(scope, &stages).await.map_err(|(stage, fault)| (Some(stage), fault))?;
    let told: Vec<Value> =
        answers.into_iter().map(|(name, answer)| json!({ "name": name, "answer": answer })).collect();
    Ok(json!({ "count": told.len(), "stages": told, "timing_ms": { "total": millis(began.elapsed()) } }))
}

/// Three decimals.
fn millis(took: Duration) -> f64 {
    rounded((took.as_secs_f64() * 1e6).round() / 1e3)
}

/// `POST /rem/v1/query`
pub(super) async fn post_query(
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    Sent(value): Sent,
) -> Response {
    let (kind, answered) = query(&shared, &scope, &value).await;
    match answered {
        Ok(answer) => {
            let mut response = Json(answer).into_response();
            response.extensions_mut().insert(Told { kind: Some(kind), status: None });
            response
        }
        Err(fault) => Problem::from(fault).of_kind(kind).into_response(),
    }
}

/// `POST /rem/v1/batch`
pub(super) async fn post_batch(
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    Sent(value): Sent,
) -> Result<Json<Value>, Problem> {
    batch(&shared, &scope, &value).await.map(Json).map_err(|(stage, fault)| match stage {
        Some(stage) => Problem::from(fault).in_stage(stage),
        None => fault.into(),
    })
}

/// `POST /rem/v1/explain`
pub(super) async fn post_explain(
    State(shared): State<Shared>,
    Extension(scope): Extension<Scope>,
    Sent(value): Sent,
) -> Result<Json<Value>, Problem> {
    let query = from_json(&value)?;
    let plan = shared.rem.explain(&scope, &query).await?;
    Ok(Json(json!(plan)))
}

/// `GET /rem/v1/schema`
pub(super) async fn get_schema() -> Json<Value> {
    Json(schema::document())
}
