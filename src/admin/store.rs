//! Where the data is, and how the shadow store fares.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Admin;
use crate::config::StoreUrl;
use crate::store::SealStats;

/// Kind and place of both stores; passwords are not shown.
pub(super) async fn report(State(state): State<Admin>) -> Json<Value> {
    let shadow = state.shadow.as_ref().map(|shadow| {
        let stats = shadow.stats();
        json!({
            "kind": kind(&stats.url),
            "url": stats.url.to_string(),
            "connected": stats.connected,
            "problem": stats.problem,
            "pending": stats.pending,
            "mirrored": stats.mirrored,
            "failed": stats.failed,
            "dropped": stats.dropped,
            "compared": stats.compared,
            "different": stats.different,
            "catch_up_needed": stats.catch_up_needed(),
        })
    });
    let sealed = state.sealed.as_ref().map(|sealed| {
        let SealStats { tenants, unreadable, dropped } = sealed.stats();
        json!({ "tenants": tenants, "unreadable": unreadable, "dropped": dropped })
    });
    Json(json!({
        "kind": kind(&state.store_url),
        "url": state.store_url.to_string(),
        "sealed": sealed,
        "shadow": shadow,
    }))
}

fn kind(url: &StoreUrl) -> &'static str {
    if url.is_shared() { "postgres" } else { "sqlite" }
}
