//! Questions to the ledger: one request with all that is known of its money, the latest ones, and those that made up a sum.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::auth::Who;
use super::times::Span;
use super::{Admin, Problem};
use crate::config::NanoUsd;
use crate::ids::{KeyId, RequestId, TenantId};
use crate::store::{Attempt, Correction, LedgerRow, Rated, Tokens};

/// Most rows of one answer.
const MOST: u32 = 1_000;
/// Rows that are read at once.
const PAGE: u32 = 500;
/// Rows that one answer looks at; the next goes on behind them.
const LOOKED_AT: u32 = 20_000;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    tenant: Option<String>,
    key: Option<String>,
    user: Option<String>,
    model: Option<String>,
    tag: Option<String>,
    route: Option<String>,
    outcome: Option<String>,
    min_cost_usd: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `GET /admin/v1/requests/{id}`. A row is written some milliseconds after its request has ended.
pub(super) async fn one(State(state): State<Admin>, Path(id): Path<String>, who: Who) -> Result<Json<Value>, Problem> {
    let id: RequestId =
        id.parse().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("`{id}` is {error}")))?;
    let row = state.stores.ledger.request(id).await?;
    let row = row.filter(|row| who.sees(row.tenant.as_ref())).ok_or_else(|| Problem::not_found("request"))?;
    let corrections = state.stores.usage.corrections(id).await?;
    let mut members = view(&row);
    members.insert("current".to_owned(), rated(&current(&row, &corrections)));
    members.insert("corrections".to_owned(), corrections.iter().map(correction).collect());
    Ok(Json(members.into()))
}

/// `GET /admin/v1/requests`: the latest ones, newest first; with a time, a filter or a cursor those of that time that fit, oldest
/// first, so that a cursor means the same whatever is added meanwhile.
pub(super) async fn list(
    State(state): State<Admin>,
    who: Who,
    ask: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ask) = ask?;
    let tenant = who.narrowed(ask.tenant.as_deref().map(TenantId::new))?;
    let limit = ask.limit.unwrap_or(50).min(MOST);
    if ask.names_none() {
        let mut data = Vec::new();
        for row in state.stores.ledger.recent(tenant.as_ref(), limit).await? {
            let corrections = state.stores.usage.corrections(row.request).await?;
            data.push(listed(&row, &current(&row, &corrections)));
        }
        return Ok(Json(json!({ "data": data, "next_cursor": null })));
    }
    let Span { since, until } = Span::of(ask.from.as_deref(), ask.to.as_deref(), state.clock.now_ms())?;
    let filter = Filter::of(&ask, tenant.as_ref())?;
    let cursor = |text: &String| {
        let wrong = |error| Problem::new(StatusCode::BAD_REQUEST, format!("`cursor`: `{text}` is {error}"));
        text.parse::<RequestId>().map_err(wrong)
    };
    let mut after = ask.cursor.as_ref().map(cursor).transpose()?;
    let (mut data, mut looked_at, mut ended) = (Vec::new(), 0, false);
    let full = |data: &[Value]| u32::try_from(data.len()).is_ok_and(|count| count >= limit.max(1));
    while !ended && !full(&data) && looked_at < LOOKED_AT {
        let page = state.stores.usage.rated_page(tenant.as_ref(), since, until, after, PAGE).await?;
        ended = page.is_empty();
        for (row, now) in &page {
            if full(&data) {
                break;
            }
            after = Some(row.request);
            looked_at += 1;
            if filter.takes(row, now) {
                data.push(listed(row, now));
            }
        }
    }
    let next = after.filter(|_| !ended).map(|after| after.to_string());
    Ok(Json(json!({ "data": data, "next_cursor": next })))
}

impl Asked {
    /// Whether it asks for the latest requests, of one tenant or of all.
    fn names_none(&self) -> bool {
        let Self { tenant: _, key, user, model, tag, route, outcome, min_cost_usd, from, to, limit: _, cursor } = self;
        [key, user, model, tag, route, outcome, min_cost_usd, from, to, cursor].into_iter().all(Option::is_none)
    }
}

/// Which rows are wanted.
struct Filter<'a> {
    key: Option<KeyId>,
    tag: Option<(&'a str, &'a str)>,
    least: Option<NanoUsd>,
    ask: &'a Asked,
}

impl<'a> Filter<'a> {
    fn of(ask: &'a Asked, tenant: Option<&TenantId>) -> Result<Self, Problem> {
        let wrong = |text: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text);
        let tag = ask.tag.as_deref().map(|tag| {
            tag.split_once('=').ok_or_else(|| wrong("`tag`: write it as name=value, as in tag=team=search"))
        });
        let least = ask
            .min_cost_usd
            .as_deref()
            .map(|text| text.parse::<NanoUsd>().map_err(|error| wrong(&format!("`min_cost_usd`: {error}"))));
        let key = ask.key.as_deref().map(|key| match tenant {
            Some(tenant) if !key.contains('/') && key != tenant.as_str() => KeyId::new(format!("{tenant}/{key}")),
            _ => KeyId::new(key),
        });
        Ok(Self { key, tag: tag.transpose()?, least: least.transpose()?, ask })
    }

    fn takes(&self, row: &LedgerRow, now: &Rated) -> bool {
        let same = |asked: &Option<String>, has: Option<&str>| asked.is_none() || asked.as_deref() == has;
        let cost = || paid(now).map(NanoUsd);
        self.key.as_ref().is_none_or(|key| row.key.as_ref() == Some(key))
            && same(&self.ask.user, row.user.as_deref())
            && same(&self.ask.model, row.model_asked.as_deref())
            && same(&self.ask.route, Some(&row.route))
            && same(&self.ask.outcome, Some(&row.outcome))
            && self.tag.is_none_or(|(name, value)| row.tags.iter().any(|(n, v)| n == name && v == value))
            && self.least.is_none_or(|least| cost().is_some_and(|cost| cost >= least))
    }
}

/// What was paid for a request, as far as that is known.
fn paid(now: &Rated) -> Option<i64> {
    match (now.cost, now.embedding) {
        (None, None) => None,
        (cost, embedding) => Some(cost.unwrap_or(0).saturating_add(embedding.unwrap_or(0))),
    }
}

/// What the ledger says now of the money of a row with these corrections, the oldest first.
fn current(row: &LedgerRow, corrections: &[Correction]) -> Rated {
    corrections.last().map_or_else(|| Rated::of(row), |last| last.after.clone())
}

/// A row in a list.
fn listed(row: &LedgerRow, now: &Rated) -> Value {
    let mut members = view(row);
    members.insert("current".to_owned(), rated(now));
    members.into()
}

/// What the row says, which is never changed.
fn view(row: &LedgerRow) -> Map<String, Value> {
    let tags: Map<String, Value> = row.tags.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let mut members = Map::new();
    for (name, value) in [
        ("request_id", json!(row.request.to_string())),
        ("started_at_ms", json!(row.started_at)),
        ("tenant", json!(row.tenant.as_ref().map(TenantId::as_str))),
        ("key", json!(row.key.as_ref().map(KeyId::as_str))),
        ("user", json!(row.user)),
        ("tags", tags.into()),
        ("route", json!(row.route)),
        ("dialect", json!(row.dialect)),
        ("model_asked", json!(row.model_asked)),
        ("model_answered", json!(row.model_answered)),
        ("stream", json!(row.stream)),
        ("outcome", json!(row.outcome)),
        ("tier", json!(row.tier)),
        ("reason", json!(row.reason)),
        ("similarity", json!(row.similarity)),
        ("entry", json!(row.entry.map(|entry| entry.to_string()))),
        ("status", json!(row.status)),
        ("upstream", json!(row.upstream)),
        ("upstream_status", json!(row.upstream_status)),
        ("service", json!(row.service)),
        ("tokens", tokens(&row.tokens, row.tokens_source.as_deref())),
        ("latency_us", json!(row.latency_us)),
        ("ttft_us", json!(row.ttft_us)),
        ("overhead_us", json!(row.overhead_us)),
        ("cost_usd", dollars(row.cost_nano_usd)),
        ("cost_nano_usd", json!(row.cost_nano_usd)),
        ("embedding_usd", dollars(row.embedding_nano_usd)),
        ("embedding_nano_usd", json!(row.embedding_nano_usd)),
        ("saved_gross_usd", dollars(row.saved_gross_nano_usd)),
        ("saved_gross_nano_usd", json!(row.saved_gross_nano_usd)),
        ("saved_usd", dollars(row.saved_nano_usd)),
        ("saved_nano_usd", json!(row.saved_nano_usd)),
        ("price_version", json!(row.price_version)),
        ("attempts", row.attempts.iter().map(attempt).collect()),
    ] {
        members.insert(name.to_owned(), value);
    }
    members
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "number": attempt.number,
        "kind": attempt.kind,
        "started_at_ms": attempt.started_at,
        "upstream": attempt.upstream,
        "model": attempt.model,
        "status": attempt.status,
        "latency_us": attempt.latency_us,
        "tokens": tokens(&attempt.tokens, attempt.tokens_source.as_deref()),
        "service": attempt.service,
        "cost_usd": dollars(attempt.cost_nano_usd),
        "cost_nano_usd": attempt.cost_nano_usd,
        "price_version": attempt.price_version,
    })
}

fn tokens(tokens: &Tokens, source: Option<&str>) -> Value {
    let counts = Tokens::KINDS.into_iter().zip(tokens.counts());
    let mut members: Map<String, Value> = counts.map(|(kind, count)| (kind.to_owned(), count.into())).collect();
    members.insert("source".to_owned(), source.into());
    members.into()
}

fn correction(correction: &Correction) -> Value {
    json!({ "at_ms": correction.at, "before": rated(&correction.before), "after": rated(&correction.after) })
}

/// The money of a request at one time; `null` is not known.
fn rated(rated: &Rated) -> Value {
    json!({
        "cost_usd": dollars(rated.cost),
        "cost_nano_usd": rated.cost,
        "embedding_usd": dollars(rated.embedding),
        "embedding_nano_usd": rated.embedding,
        "saved_gross_usd": dollars(rated.saved_gross),
        "saved_gross_nano_usd": rated.saved_gross,
        "saved_usd": dollars(rated.saved_net),
        "saved_nano_usd": rated.saved_net,
        "price_version": rated.price_version,
    })
}

fn dollars(nano: Option<i64>) -> Value {
    nano.map(|nano| NanoUsd(nano).to_string()).into()
}
