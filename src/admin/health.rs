//! Liveness, readiness and metrics.

use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, header};

use super::Admin;
use crate::telemetry::openmetrics;

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Requests are served: the cache is loaded, no drain has begun, and nothing that other replicas did was missed.
pub(super) async fn ready(State(state): State<Admin>) -> impl IntoResponse {
    if !state.readiness.get() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or draining\n");
    }
    if state.standing.is_some_and(|standing| !standing.is_current()) {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: catching up with the other replicas\n");
    }
    (StatusCode::OK, "ready\n")
}

/// The series, in the text format that the scraper prefers.
pub(super) async fn metrics(State(state): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>();
    let (kind, text) = if openmetrics::prefers_openmetrics(&accepts.join(",")) {
        (openmetrics::OPENMETRICS, state.metrics.render_openmetrics())
    } else {
        (openmetrics::CLASSIC, state.metrics.render())
    };
    ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text)
}
