//! Reports on the ledger: who used and paid what, and what the cache has saved, from roll-ups that are exact at any moment.

mod ask;
mod savings;
mod sheet;

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

pub(super) use self::ask::Params;
use self::ask::{Question, wrong};
pub(super) use self::savings::savings;
use super::auth::Who;
use super::times::shown;
use super::{Admin, Problem};
use crate::config::NanoUsd;
use crate::ids::TenantId;
use crate::store::{Slot, Sums, Tokens, UsageRow};

/// `GET /admin/v1/usage`
pub(super) async fn report(
    State(state): State<Admin>,
    who: Who,
    headers: HeaderMap,
    ask: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(mut params) = ask?;
    params.tenant = who.narrowed(params.tenant.map(TenantId::new))?.map(|tenant| tenant.as_str().to_owned());
    let csv = match params.format.as_deref() {
        None => accepts_csv(&headers),
        Some("csv") => true,
        Some("json") => false,
        Some(_) => return Err(wrong("format", "write json or csv")),
    };
    let question = Question::of(&params, state.clock.now_ms(), csv)?;
    let mut rows = state.stores.usage.usage(&question.ask).await?;
    let all_read = rows.len() < usize::try_from(question.ask.most_rows).unwrap_or(usize::MAX);
    let cut = all_read && keep_dearest(&mut rows, question.limit);
    question.name_tags(&mut rows);
    if !all_read || question.is_exceeded(&rows) || (csv && cut && !question.limited) {
        let rows = usize::try_from(question.most).unwrap_or(usize::MAX).min(rows.len());
        let text = format!(
            "there are more than {rows} rows; ask about less time, longer slots or fewer groups, or give `limit` for the dearest groups"
        );
        return Err(wrong("group_by", &text));
    }
    if csv {
        let (from, to) = (day(question.ask.since), day(question.ask.until));
        let name = format!("attachment; filename=\"remora-usage-{from}-{to}.csv\"");
        let kind = "text/csv; charset=utf-8; header=present".to_owned();
        let body = sheet::csv(&question, &rows)?;
        return Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], body).into_response());
    }
    // Groups need not add up: a request counts in the group of each of its tags, some groups may be cut, and what a correction
    // took off may be in another group than what it was taken from, where no count falls below 0.
    let found = state.stores.usage.usage(&question.total()).await?;
    let total = found.iter().fold(Sums::default(), |sum, row| sum.plus(&row.sums));
    Ok(Json(json!({
        "from": shown(question.ask.since),
        "to": shown(question.ask.until),
        "grain": grain(question.grain),
        "group_by": question.columns,
        "rows": rows.iter().map(|row| view(&question, row)).collect::<Vec<_>>(),
        "cut": cut,
        "total": sums(&total),
    }))
    .into_response())
}

/// Whether the caller would rather have CSV.
fn accepts_csv(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds =
        lists.flat_map(|list| list.split(',')).map(|range| range.split(';').next().unwrap_or_default().trim());
    kinds.any(|kind| kind.eq_ignore_ascii_case("text/csv"))
}

/// Takes out the cheapest groups beyond so many, with all of their slots; returns whether there were any.
fn keep_dearest(rows: &mut Vec<UsageRow>, limit: u32) -> bool {
    let mut totals: BTreeMap<&[Option<String>], i64> = BTreeMap::new();
    for row in rows.iter() {
        let total = totals.entry(&row.group).or_default();
        *total = total.saturating_add(row.sums.total());
    }
    let over = totals.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    if over == 0 {
        return false;
    }
    let mut totals: Vec<_> = totals.into_iter().collect();
    // Of equals the last, as the store does.
    totals.sort_by_key(|(group, total)| (*total, std::cmp::Reverse(*group)));
    let cheapest: BTreeSet<Vec<Option<String>>> = totals.iter().take(over).map(|(group, _)| group.to_vec()).collect();
    rows.retain(|row| !cheapest.contains(&row.group));
    true
}

fn view(question: &Question, row: &UsageRow) -> Value {
    let mut members = Map::new();
    if question.ask.slot.is_some() {
        members.insert("slot".to_owned(), row.slot.map(shown).into());
    }
    for (column, value) in question.columns.iter().zip(&row.group) {
        members.insert(column.clone(), value.clone().into());
    }
    members.extend(sums(&row.sums));
    members.into()
}

/// What was summed, as members of an answer.
fn sums(sums: &Sums) -> Map<String, Value> {
    let kinds = |tokens: &Tokens| {
        let counts = Tokens::KINDS.into_iter().zip(tokens.counts());
        counts.map(|(kind, count)| (kind.to_owned(), count.into())).collect::<Map<_, _>>()
    };
    let mut members = Map::new();
    for (name, value) in [
        ("requests", json!(sums.requests)),
        ("hits", json!({ "exact": sums.hits_exact, "semantic": sums.hits_semantic })),
        ("coalesced", json!(sums.coalesced)),
        ("refused", json!(sums.refused)),
        ("failed", json!(sums.failed)),
        ("checks", json!(sums.checks)),
        ("unpriced", json!(sums.unpriced)),
        ("estimated", json!(sums.estimated)),
        ("tokens", kinds(&sums.billed).into()),
        ("replayed", kinds(&sums.replayed).into()),
    ] {
        members.insert(name.to_owned(), value);
    }
    for (name, amount) in money(sums) {
        put_money(&mut members, name, amount);
    }
    members
}

/// The same amount twice: in dollars, for people and most programs, and in whole nano-dollars.
fn put_money(members: &mut Map<String, Value>, name: &str, amount: NanoUsd) {
    members.insert(format!("{name}_usd"), amount.to_string().into());
    members.insert(format!("{name}_nano_usd"), amount.0.into());
}

/// The amounts of a report by name, in the order of its columns.
fn money(sums: &Sums) -> [(&'static str, NanoUsd); 6] {
    [
        ("cost", NanoUsd(sums.cost)),
        ("check", NanoUsd(sums.check)),
        ("embedding", NanoUsd(sums.embedding)),
        ("spend", NanoUsd(sums.total())),
        ("saved_gross", NanoUsd(sums.saved_gross)),
        ("saved_net", NanoUsd(sums.saved_net)),
    ]
}

fn grain(slot: Slot) -> &'static str {
    match slot {
        Slot::Hour => "hour",
        Slot::Day => "day",
    }
}

/// The day of a time, as in `2026-11-01`.
fn day(at: u64) -> String {
    shown(at).chars().take(10).collect()
}
