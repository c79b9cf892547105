//! The models on offer. Any name is served but those that start with `no-such-model`; the list names a few.

use serde_json::{Value, json};

use super::error::ApiError;

const LISTED: [&str; 7] = [
    "sim-small",
    "sim-large",
    "sim-reason",
    "gpt-4o",
    "gpt-4o-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
];
/// A fixed creation time: the list is the same on every call.
const CREATED: u64 = 1_715_367_049;

/// The list of `GET /v1/models`.
pub(super) fn list() -> Value {
    json!({"object": "list", "data": LISTED.map(one)})
}

/// The object of `GET /v1/models/{id}`.
pub(super) fn one(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "simulated"})
}

/// # Errors
/// 404 for a model that does not exist.
pub(super) fn check(id: &str) -> Result<(), ApiError> {
    if id.starts_with("no-such-model") { Err(ApiError::no_such_model(id)) } else { Ok(()) }
}
