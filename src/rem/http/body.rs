//! The body of a request as JSON, within its caps.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::problem::Problem;
use super::routes::Front;
use crate::config::Limits;
use crate::json::{JsonError, Node};
use crate::rem::{Code, Fault};
use crate::server::BodyError;

/// A body that was read and is JSON.
pub(super) struct Sent(pub(super) Value);

impl FromRequest<Front> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, front: &Front) -> Result<Self, Problem> {
        let bytes = json_bytes(request, front.shared.limits.body_bytes).await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| not_json(&error))?;
        distinct(&bytes, &front.shared.limits)?;
        Ok(Self(value))
    }
}

/// The body, which says that it is JSON.
///
/// # Errors
/// It says something else, is too large, or did not arrive.
pub(in crate::rem) async fn json_bytes(request: Request, most: usize) -> Result<Bytes, Problem> {
    if !is_json(request.headers()) {
        let text = "the body must be JSON; send it with `content-type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text));
    }
    // The listener holds it to the same cap; this one is for bodies that did not come through it.
    to_bytes(request.into_body(), most).await.map_err(|error| unread(&error))
}

/// Refuses a body in which an object has two members of one name: one of them would be dropped without a word. What is no JSON
/// passes; whoever reads it says so.
///
/// # Errors
/// The first of them.
pub(in crate::rem) fn distinct(body: &[u8], limits: &Limits) -> Result<(), Fault> {
    // As deep as the other reader goes; its size has been looked at.
    let any = Limits {
        json_depth: 128,
        json_keys: usize::MAX,
        json_array: usize::MAX,
        json_string: usize::MAX,
        ..limits.clone()
    };
    match Node::parse(body, &any) {
        Err(JsonError::Duplicate { name, at: _ }) => {
            let name: String = name.chars().filter(|letter| !letter.is_control()).take(64).collect();
            let detail = format!("the member `{name}` stands twice in one object");
            Err(Fault::new(Code::ParseError, detail).of(name).hint("send it once"))
        }
        _ => Ok(()),
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    let fault = Fault::new(Code::ParseError, format!("the body is not JSON: {error}"));
    fault.hint("send an object, as in {\"query\": \"LOOKUP \\\"sarah chen\\\"\"}").into()
}

/// `application/json`, or one of its kin as in `application/merge-patch+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn unread(error: &axum::Error) -> Problem {
    let mut chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    match chain.find_map(|error| error.downcast_ref::<BodyError>()) {
        Some(error) => Problem::from(*error),
        None => Problem::from(BodyError::TooLarge),
    }
}
