//! `POST /v1/feedback`: a caller says that the answer to one of its requests was wrong, or right.
//!
//! Ours alone; it is never passed upstream. A caller reaches only requests of its own key, and what it says can only make
//! the cache serve less.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::refusal::Refusal;
use super::reply::{self, Body};
use super::{DataPlane, Exchange};
use crate::cache::outcome::Outcome;
use crate::cache::{Consequences, Feedback, FeedbackError, Opinion};
use crate::dialect::ErrorKind;
use crate::server::RequestBody;

/// How far back to look for others if the caller does not say, hours.
pub const WITHIN_HOURS: u32 = 24;
/// The furthest.
pub const MOST_HOURS: u32 = 24 * 365;

/// What is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackBody {
    /// From the header `x-remora-request-id`.
    pub request_id: String,
    /// `good` or `bad`.
    pub verdict: String,
    /// How far back to look for others who were served the same.
    #[serde(default)]
    pub within_hours: Option<u32>,
}

impl FeedbackBody {
    /// Checks what was sent.
    ///
    /// # Errors
    /// What is wrong, and how to mend it.
    pub fn read(&self) -> Result<Feedback, String> {
        let request =
            self.request_id.parse().map_err(|error| format!("`request_id` {:?} is {error}", self.request_id))?;
        let opinion = match self.verdict.as_str() {
            "good" => Opinion::Good,
            "bad" => Opinion::Bad,
            other => return Err(format!("`verdict` must be \"good\" or \"bad\", not {other:?}")),
        };
        let hours = self.within_hours.unwrap_or(WITHIN_HOURS);
        if !(1..=MOST_HOURS).contains(&hours) {
            return Err(format!("`within_hours` must be from 1 to {MOST_HOURS}"));
        }
        Ok(Feedback { request, opinion, caller: None, within_ms: u64::from(hours) * 3_600_000 })
    }
}

/// Whether the request is feedback.
pub(super) fn is_route(exchange: &Exchange) -> bool {
    exchange.method == Method::POST && exchange.path.split('?').next() == Some("/feedback")
}

impl DataPlane {
    pub(super) async fn feedback(&self, exchange: Exchange, body: RequestBody) -> Result<Response<Body>, Refusal> {
        let body = self.read(&exchange.headers, body).await?;
        let bad = |text: String| Refusal::bad_request("bad_feedback", text);
        let sent: FeedbackBody = serde_json::from_slice(&body).map_err(|error| {
            bad(format!("the body must be {{\"request_id\": …, \"verdict\": \"good\" or \"bad\"}}: {error}"))
        })?;
        let mut feedback = sent.read().map_err(bad)?;
        feedback.caller = Some((exchange.principal.tenant.clone(), exchange.principal.key.clone()));
        let done = self.cache.feedback(&feedback, self.ledger.as_ref()).await.map_err(|error| match error {
            FeedbackError::Unknown(_) => {
                Refusal::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, "unknown_request", error.to_string())
            }
            FeedbackError::Store(_) => {
                let text = "feedback cannot be taken now; try again";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Api, "store_unavailable", text)
            }
        })?;
        exchange.record.outcome(Outcome::Bypass, None, None);
        let told = Bytes::from(view(&feedback, &done).to_string());
        Ok(reply::json(StatusCode::OK, told, &exchange.record))
    }
}

/// What feedback has changed, as JSON.
pub fn view(feedback: &Feedback, done: &Consequences) -> serde_json::Value {
    let served: Vec<_> = done
        .served
        .iter()
        .map(|row| {
            json!({
                "request_id": row.request.to_string(),
                "at_ms": row.started_at,
                "key": row.key.as_ref().map(crate::ids::KeyId::as_str),
                "user": row.user,
                "tier": row.tier,
            })
        })
        .collect();
    json!({
        "request_id": feedback.request.to_string(),
        "verdict": feedback.opinion.as_str(),
        "entry": done.entry.map(|entry| entry.to_string()),
        "unlinked_point": done.unlinked.map(|point| point.to_string()),
        "removed_entry": done.removed.map(|entry| entry.to_string()),
        "learnt": done.learnt,
        "served_to": served,
    })
}
