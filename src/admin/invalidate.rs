//! Taking things out of the cache: read what is meant, show it or remove it, and leave a row in the audit.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::auth::Who;
use super::cache::{entry_id, find, tag, view};
use super::{Admin, Problem};
use crate::cache::outcome::Tier;
use crate::cache::{DEFAULT_RADIUS, Filter, InvalidateError, Near, Order, Removed, Selected, Selection, Selector};
use crate::dialect::Dialect;
use crate::embed::EmbedError;
use crate::ids::TenantId;
use crate::task;

/// Entries shown by a dry run.
const EXAMPLES: usize = 5;
/// Most entries shown by a dry run.
const MOST_EXAMPLES: usize = 100;
/// Longest reason in the audit, bytes.
const REASON_BYTES: usize = 1_000;
/// Wire formats of which there are entries.
const STORED: [Dialect; 3] = [Dialect::Chat, Dialect::Completions, Dialect::Embeddings];

/// Which entries; all parts that are given must hold. What is serialised is what the audit keeps.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The same as `id`: an entry is the answer of a group of prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    older_than_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    younger_than_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    near: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    radius: Option<f32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing)]
    dry_run: bool,
    #[serde(default, skip_serializing)]
    examples: Option<usize>,
    #[serde(default, skip_serializing)]
    expect: Option<String>,
    #[serde(default, skip_serializing)]
    expect_count: Option<usize>,
    #[serde(default, skip_serializing)]
    reason: Option<String>,
}

/// One tag as `name=value`, or several.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "`tag` is one `name=value` or a list of them")]
enum Tags {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    pub(super) reason: Option<String>,
}

/// `POST /admin/v1/cache/invalidate`. With `dry_run` nothing is removed.
pub(super) async fn invalidate(
    State(state): State<Admin>,
    who: Who,
    ask: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(mut ask) = ask?;
    let filter = filter(&ask)?;
    if filter.is_open() && !filter.all {
        let text = "nothing narrows the selection; give tenant, id, model, namespace, tag, writer, dialect, tier, \
                    older_than_s, younger_than_s, text, answer_text or near, or `\"all\": true` for everything";
        return Err(bad(text));
    }
    let reason = ask.reason.take().map(reason).transpose()?;
    let selector = Arc::new(state.cache.selector(filter).await?);
    if ask.dry_run {
        let selection = state.cache.selection(&selector).await?;
        return Ok(Json(planned(&state, &selection, ask.examples.unwrap_or(EXAMPLES).min(MOST_EXAMPLES))));
    }
    let what = serde_json::to_string(&ask).map_err(|error| bad(&error.to_string()))?;
    let order = Order {
        selector,
        expect: ask.expect,
        expect_count: ask.expect_count,
        action: "cache.invalidate",
        actor: who.actor,
        reason,
        what,
    };
    let removed = carry_out(&state, order).await?;
    let mut told = json!({
        "dry_run": false,
        "removed": removed.entries,
        "points": removed.points,
        "bytes": removed.bytes,
        "strays": removed.strays,
        "audit": removed.audit.to_string(),
    });
    if let (Some(false), Some(members)) = (removed.as_planned, told.as_object_mut()) {
        let text = "the selection had changed since the dry run whose plan was expected; what the filter means now was \
                    removed (to have such a run refused, give expect_count)";
        members.insert("warning".to_owned(), text.into());
    }
    Ok(Json(told))
}

/// `DELETE /admin/v1/cache/entries/{id}`
pub(super) async fn delete(
    State(state): State<Admin>,
    Path(id): Path<String>,
    who: Who,
    why: Result<Query<Why>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(why) = why?;
    let meta = find(&state, &id)?;
    let filter = Filter { tenant: Some(meta.tenant.clone()), id: Some(meta.id), ..Filter::default() };
    let selector: Selector = state.cache.selector(filter).await?;
    let order = Order {
        selector: Arc::new(selector),
        expect: None,
        expect_count: None,
        action: "cache.delete",
        actor: who.actor,
        reason: why.reason.map(reason).transpose()?,
        what: json!({ "tenant": meta.tenant.as_str(), "id": meta.id.to_string() }).to_string(),
    };
    let removed = carry_out(&state, order).await?;
    Ok(Json(json!({ "removed": removed.entries })))
}

/// Removes on a task of its own, so that a caller who leaves does not stop it half-way.
pub(super) async fn carry_out(state: &Admin, order: Order) -> Result<Removed, Problem> {
    let (done, result) = tokio::sync::oneshot::channel();
    let (cache, audit) = (Arc::clone(&state.cache), Arc::clone(&state.stores.audit));
    task::spawn("invalidate", &state.metrics, async move {
        let removed = cache.invalidate(order, &*audit).await;
        // Nobody waits any more; the audit row says what was done.
        let _ = done.send(removed);
    });
    let ended =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the removal ended early; see the log and repeat it");
    Ok(result.await.map_err(ended)??)
}

fn planned(state: &Admin, selection: &Selection, examples: usize) -> Value {
    let example = |selected: &Selected| {
        let meta = &selected.meta;
        let mut shown = view(state, meta);
        if let Some(members) = shown.as_object_mut() {
            members.insert("age_s".to_owned(), (selection.at.saturating_sub(meta.created_at) / 1_000).into());
            if let Some(cosine) = selected.cosine {
                members.insert("cosine".to_owned(), cosine.into());
            }
        }
        shown
    };
    json!({
        "dry_run": true,
        "would_remove": selection.entries.len(),
        "points": selection.points,
        "bytes": selection.bytes,
        "plan": selection.plan(),
        "examples": selection.entries.iter().take(examples).map(example).collect::<Vec<_>>(),
    })
}

fn filter(ask: &Wanted) -> Result<Filter, Problem> {
    let id = match (&ask.id, &ask.group) {
        (Some(id), Some(group)) if id != group => {
            return Err(bad("`id` and `group` are two names for one thing; give one of them"));
        }
        (id, group) => id.as_ref().or(group.as_ref()),
    };
    let tags: &[String] = match &ask.tag {
        Some(Tags::One(tag)) => std::slice::from_ref(tag),
        Some(Tags::Several(tags)) => tags,
        None => &[],
    };
    Ok(Filter {
        tenant: ask.tenant.as_deref().map(TenantId::new),
        id: id.map(|id| entry_id(id)).transpose()?,
        model: ask.model.clone(),
        namespace: ask.namespace.clone(),
        tags: tags.iter().map(|text| tag(text)).collect::<Result<_, _>>()?,
        writer: ask.writer.clone(),
        dialect: ask.dialect.as_deref().map(dialect).transpose()?,
        tier: ask.tier.as_deref().map(tier).transpose()?,
        older_than: ask.older_than_s.map(Duration::from_secs),
        younger_than: ask.younger_than_s.map(Duration::from_secs),
        text: words("text", ask.text.as_deref())?,
        answer_text: words("answer_text", ask.answer_text.as_deref())?,
        near: near(words("near", ask.near.as_deref())?, ask.radius)?,
        all: ask.all,
    })
}

fn bad(text: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, text)
}

/// A text to look for. Every prompt contains an empty one, so that is a slip.
fn words(name: &str, text: Option<&str>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.trim().is_empty() => Err(bad(&format!("`{name}` is empty; give a text or leave it out"))),
        text => Ok(text.map(str::to_owned)),
    }
}

fn near(text: Option<String>, radius: Option<f32>) -> Result<Option<Near>, Problem> {
    let given = radius.unwrap_or(DEFAULT_RADIUS);
    if !(given > 0.0 && given <= 1.0) {
        return Err(bad(&format!("`radius` is the least cosine, above 0 and up to 1, as in 0.8; not {given}")));
    }
    match (text, radius) {
        (Some(text), _) => Ok(Some(Near { text, radius: given })),
        (None, Some(_)) => Err(bad("`radius` goes with `near`; give a text that the prompts are near to")),
        (None, None) => Ok(None),
    }
}

fn dialect(name: &str) -> Result<Dialect, Problem> {
    let names = STORED.map(Dialect::as_str).join(", ");
    let found = STORED.into_iter().find(|dialect| dialect.as_str() == name);
    found.ok_or_else(|| bad(&format!("there are no entries of the dialect `{name}`; it is one of {names}")))
}

fn tier(name: &str) -> Result<Tier, Problem> {
    let found = [Tier::Exact, Tier::Semantic].into_iter().find(|tier| tier.as_str() == name);
    found.ok_or_else(|| bad(&format!("there is no tier `{name}`; it is exact or semantic")))
}

pub(super) fn reason(text: String) -> Result<String, Problem> {
    if text.len() > REASON_BYTES {
        return Err(bad(&format!("`reason` has {} bytes; the audit takes {REASON_BYTES}", text.len())));
    }
    Ok(text)
}

impl From<EmbedError> for Problem {
    fn from(error: EmbedError) -> Self {
        let text = format!(
            "no vector could be made of `near` ({}): {error}; repeat the call, or select by `text` instead",
            error.reason()
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl From<InvalidateError> for Problem {
    fn from(error: InvalidateError) -> Self {
        match error {
            InvalidateError::Store(error) => {
                tracing::error!(%error, "an invalidation found the store failing");
                let text = "the store cannot be read or written now, see the log; what was found is no longer served, \
                            but nothing is recorded and it may come back with a restart: repeat the call";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
            }
            InvalidateError::Unread(error) => error.into(),
            InvalidateError::Changed { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            InvalidateError::Unconfirmed { .. } | InvalidateError::Loading => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            InvalidateError::Interrupted(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}
