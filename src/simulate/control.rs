//! The routes outside `/v1/`, for tests and people: `GET /stats`, `GET /last`, `POST /reset`, `POST /script`.

use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::State;
use super::body::ReplyBody;
use super::connection::ResetSwitch;
use super::error::ApiError;
use super::fault::Script;
use super::reply;
use super::wire::to_json;

/// Answers a request outside the API.
pub(super) fn answer(state: &State, parts: &Parts, body: &[u8], switch: ResetSwitch) -> Response<ReplyBody> {
    let (status, value) = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/") => (StatusCode::OK, json!({"simulation": true, "note": super::NOTE})),
        (&Method::GET, "/stats") => {
            (StatusCode::OK, serde_json::to_value(state.counters.snapshot()).unwrap_or_default())
        }
        (&Method::GET, "/last") => last(state),
        (&Method::POST, "/reset") => {
            state.reset();
            (StatusCode::OK, json!({"reset": true}))
        }
        (&Method::POST, "/script") => script(state, body),
        _ => (StatusCode::NOT_FOUND, ApiError::of_status(404).body()),
    };
    reply::control(status, to_json(&value), switch)
}

fn last(state: &State) -> (StatusCode, Value) {
    match state.counters.last() {
        Some(last) => (StatusCode::OK, last.to_json()),
        None => (StatusCode::NOT_FOUND, ApiError::of_status(404).body()),
    }
}

/// Replaces the fault script by the one in the body (TOML, as in the file); an empty one ends all scripted faults.
fn script(state: &State, body: &[u8]) -> (StatusCode, Value) {
    let read = std::str::from_utf8(body).map_err(|error| error.to_string()).and_then(Script::parse);
    match read {
        Ok(script) => {
            state.script.store(script.into());
            (StatusCode::OK, json!({"script": "replaced"}))
        }
        Err(wrong) => (StatusCode::BAD_REQUEST, ApiError::bad_request(None, wrong).body()),
    }
}
