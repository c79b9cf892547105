//! Liveness, readiness and metrics.

use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};

use super::Admin;

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

/// Prometheus text format.
pub(super) async fn metrics(State(state): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}
