//! What models cost, and the ledger priced anew.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Who;
use super::forms::{Body, Members};
use super::{Admin, Problem};
use crate::clock::UnixMs;
use crate::config::NanoUsd;
use crate::ids::{AuditId, RequestId, TenantId};
use crate::price::{self, Amounts, Listing, PromptCache, Rerate, Rerated, day_ms};
use crate::store::AuditRow;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// A model, or a pattern of names.
    model: Option<String>,
    /// The prices of this day.
    at: Option<String>,
}

/// `GET /admin/v1/prices`
pub(super) async fn list(
    State(state): State<Admin>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Ask { model, at }) = ask?;
    let at = match at {
        Some(day) => day_ms(&day).ok_or_else(|| no_day("at"))?,
        None => state.clock.now_ms(),
    };
    let book = state.plane.prices();
    let prices: Vec<Value> = book.list(model.as_deref(), at).iter().map(Listing::json).collect();
    Ok(Json(json!({ "version": book.version().as_ref(), "prices": prices, "next": null })))
}

/// `POST /admin/v1/prices/rerate`: up to 50,000 rows; `next` of the answer is `after` of the next question.
pub(super) async fn rerate(State(state): State<Admin>, who: Who, body: Body) -> Result<Json<Value>, Problem> {
    let now = state.clock.now_ms();
    let mut members = Members::of(body)?;
    let from = time("from", &members.need("from")?)?;
    let until = match members.take::<Value>("until")? {
        Some(until) => time("until", &until)?,
        None => now,
    };
    let (tenant, model): (Option<String>, Option<String>) = (members.take("tenant")?, members.take("model")?);
    let reason: Option<String> = members.take("reason")?;
    let dry_run = members.take("dry_run")?.unwrap_or(false);
    let after = members.take::<String>("after")?.map(|text| text.parse::<RequestId>());
    let after = after.transpose().map_err(|_| unprocessable("`after` is not the id of a request"))?;
    members.end()?;
    if from >= until {
        return Err(unprocessable("`from` is not before `until`, so no row is between"));
    }
    let what = json!({ "from": from, "until": until, "tenant": tenant, "model": model, "after": after.map(|id| id.to_string()) });
    let ask = Rerate {
        tenant: tenant.map(TenantId::new),
        model,
        since: from,
        until,
        after,
        dry_run,
        now,
        prompt_cache: PromptCache {
            warm: !state.savings.prompt_cache_ttl.is_zero(),
            from: state.savings.prompt_cache_from,
        },
    };
    let audit = async |at: UnixMs, result: &Value| {
        let row = AuditRow {
            id: AuditId::at(at),
            at,
            actor: who.actor.clone(),
            action: "prices.rerate".into(),
            reason: reason.clone(),
            what: what.to_string(),
            result: result.to_string(),
        };
        state.stores.audit.record(&row, &[]).await
    };
    // Corrections are made page by page, so a run that breaks off has made some: who began it is known even then.
    if !dry_run {
        audit(now, &json!({ "begun": true })).await?;
    }
    let told = price::rerate(state.plane.prices(), &*state.stores.usage, &ask).await?;
    let result = view(&told, dry_run);
    if !dry_run {
        audit(state.clock.now_ms().max(now.saturating_add(1)), &result).await?;
    }
    Ok(Json(result))
}

fn view(told: &Rerated, dry_run: bool) -> Value {
    let Rerated { rows, changed, left_out, before, after, next } = told;
    let amounts = |amounts: &Amounts| {
        let Amounts { cost, embedding, saved_gross, saved_net, unpriced } = *amounts;
        json!({
            "cost": NanoUsd(cost),
            "embedding": NanoUsd(embedding),
            "saved_gross": NanoUsd(saved_gross),
            "saved_net": NanoUsd(saved_net),
            "unpriced": unpriced,
        })
    };
    json!({
        "dry_run": dry_run,
        "rows": rows,
        "changed": changed,
        "left_out": left_out,
        "before": amounts(before),
        "after": amounts(after),
        "next": next.map(|id| id.to_string()),
    })
}

/// A day in UTC, or milliseconds since 1970.
fn time(name: &'static str, value: &Value) -> Result<UnixMs, Problem> {
    let ms = value.as_u64().or_else(|| day_ms(value.as_str()?));
    ms.ok_or_else(|| no_day(name))
}

fn no_day(name: &'static str) -> Problem {
    unprocessable(&format!("`{name}` must be a day in UTC, as in \"2026-10-01\", or milliseconds since 1970"))
}

fn unprocessable(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}
