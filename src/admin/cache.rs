//! Looking into the cache.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem};
use crate::cache::{Explanation, Filter, Meta};
use crate::ids::{EntryId, TenantId};
use crate::pipeline::ExplainRequest;

/// Most entries of one answer.
const MOST: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    tenant: Option<String>,
    model: Option<String>,
    namespace: Option<String>,
    tag: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TextSearch {
    q: String,
    tenant: Option<String>,
    limit: Option<usize>,
}

/// `GET /admin/v1/cache/stats`
pub(super) async fn stats(State(state): State<Admin>) -> Json<Value> {
    let sizes = state.cache.sizes();
    Json(json!({
        "entries": sizes.entries,
        "bytes": sizes.bytes,
        "in_memory": sizes.resident,
        "in_memory_bytes": sizes.resident_bytes,
        "index": {
            "flat": sizes.index.flat,
            "hnsw": sizes.index.hnsw,
            "bytes": sizes.index.bytes,
            "partitions": sizes.index.partitions,
        },
        "space": state.cache.embedder().space().to_string(),
    }))
}

/// `GET /admin/v1/cache/entries`, newest first.
pub(super) async fn entries(
    State(state): State<Admin>,
    ask: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let limit = ask.limit.unwrap_or(50).clamp(1, MOST);
    let cursor = ask.cursor.as_deref().map(entry_id).transpose()?;
    let filter = Filter {
        tenant: ask.tenant.as_deref().map(TenantId::new),
        model: ask.model,
        namespace: ask.namespace,
        tags: ask.tag.as_deref().map(tag).transpose()?.into_iter().collect(),
        ..Filter::default()
    };
    let found = state.cache.list(&filter, cursor, limit);
    let next = found.last().filter(|_| found.len() == limit).map(|meta| meta.id.to_string());
    let data: Vec<Value> = found.iter().map(|meta| view(&state, meta)).collect();
    Ok(Json(json!({ "data": data, "next_cursor": next })))
}

/// `GET /admin/v1/cache/entries/{id}`, with the stored answer.
pub(super) async fn entry(State(state): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let meta = find(&state, &id)?;
    let stored = state.stores.entries.entry(&meta.tenant, meta.id).await?;
    let mut view = view(&state, &meta);
    let body: Option<Value> = stored.and_then(|entry| serde_json::from_slice(&entry.body).ok());
    if let Some(members) = view.as_object_mut() {
        members.insert("body".to_owned(), body.into());
    }
    Ok(Json(view))
}

/// `GET /admin/v1/cache/search?q=…`: prompts that contain the text.
pub(super) async fn search(
    State(state): State<Admin>,
    ask: Result<Query<TextSearch>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let tenant = ask.tenant.as_deref().map(TenantId::new);
    let limit = u32::try_from(ask.limit.unwrap_or(50).clamp(1, MOST)).unwrap_or(50);
    let found = state.stores.entries.search(tenant.as_ref(), &ask.q, limit).await?;
    let show = |f: &crate::store::Found| {
        json!({
            "entry": f.meta.entry.id.to_string(),
            "tenant": f.meta.entry.tenant.as_str(),
            "model": f.meta.entry.model,
            "prompt": f.prompt,
        })
    };
    Ok(Json(json!({ "data": found.iter().map(show).collect::<Vec<_>>() })))
}

/// `POST /admin/v1/cache/explain`
pub(super) async fn explain(
    State(state): State<Admin>,
    ask: Result<Json<ExplainRequest>, JsonRejection>,
) -> Result<Json<Explanation>, Problem> {
    let Json(ask) = ask?;
    let explained = state.plane.explain(ask).await;
    explained.map(Json).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}

pub(super) fn find(state: &Admin, id: &str) -> Result<Arc<Meta>, Problem> {
    let filter = Filter { id: Some(entry_id(id)?), ..Filter::default() };
    state.cache.list(&filter, None, 1).pop().ok_or_else(|| Problem::not_found("entry"))
}

pub(super) fn entry_id(text: &str) -> Result<EntryId, Problem> {
    text.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("`{text}` is {error}")))
}

pub(super) fn tag(text: &str) -> Result<(String, String), Problem> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "a tag is given as `name=value`"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn view(state: &Admin, meta: &Meta) -> Value {
    json!({
        "entry": meta.id.to_string(),
        "tenant": meta.tenant.as_str(),
        "namespace": &*meta.namespace,
        "model": &*meta.model,
        "dialect": meta.dialect,
        "prompts": state.cache.prompts(meta),
        "tags": meta.tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "writer": meta.writer.as_str(),
        "bytes": meta.bytes,
        "completion_tokens": meta.completion_tokens,
        "created_at_ms": meta.created_at,
        "expires_at_ms": meta.expires_at,
    })
}
