//! What both databases do alike with rows: forms in columns, a request as a row, which vectors are kept.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::forms::stored;
use super::super::{LedgerRow, StoreError};
use super::model::{Owner, RemRow, RemTable, RemVector};
use super::{RemNamed, RemNear};
use crate::clock::UnixMs;
use crate::ids::{EntryId, RemId};

/// Texts as stored: a JSON array.
pub(in crate::store) fn texts_text(texts: &[String]) -> Result<String, StoreError> {
    if texts.is_empty() {
        return Ok("[]".to_owned());
    }
    serde_json::to_string(texts).map_err(|error| StoreError::Failed(error.into()))
}

/// Texts as they were before [`texts_text`].
pub(in crate::store) fn texts_of(text: &str) -> Result<Vec<String>, serde_json::Error> {
    if text == "[]" { Ok(Vec::new()) } else { serde_json::from_str(text) }
}

/// An object as stored: JSON.
pub(in crate::store) fn object_text(object: &Map<String, Value>) -> Result<String, StoreError> {
    if object.is_empty() {
        return Ok("{}".to_owned());
    }
    serde_json::to_string(object).map_err(|error| StoreError::Failed(error.into()))
}

/// An object as it was before [`object_text`].
pub(in crate::store) fn object_of(text: &str) -> Result<Map<String, Value>, serde_json::Error> {
    if text == "{}" { Ok(Map::new()) } else { serde_json::from_str(text) }
}

/// Whether a vector can be compared: it has numbers, all finite and not all 0.
pub(in crate::store) fn is_direction(vector: &RemVector) -> bool {
    vector.vector.iter().all(|number| number.is_finite()) && vector.vector.iter().any(|number| *number != 0.0)
}

/// The names that a row is found by: its own and its aliases, each form once, with whether it is an alias.
pub(in crate::store) fn names_of(row: &RemRow) -> Vec<(&str, String, bool)> {
    let mut names: Vec<(&str, String, bool)> = Vec::with_capacity(1 + row.aliases.len());
    let all = std::iter::once((&row.name, false)).chain(row.aliases.iter().map(|alias| (alias, true)));
    for (name, alias) in all {
        let normal = super::normalise(name);
        if !names.iter().any(|(_, other, _)| *other == normal) {
            names.push((name, normal, alias));
        }
    }
    names
}

/// The words that a row is found by: those of its name and its text, each once.
pub(in crate::store) fn words_of(row: &RemRow) -> Vec<String> {
    let mut words = super::tokens(&row.name);
    words.extend(super::tokens(&row.text));
    words.sort_unstable();
    words.dedup();
    words
}

/// The order of what was found under names.
pub(in crate::store) fn sort_named(found: &mut [RemNamed]) {
    found.sort_by(|a, b| {
        a.asked
            .cmp(&b.asked)
            .then(a.row.table.cmp(&b.row.table))
            .then_with(|| a.row.name.cmp(&b.row.name))
            .then_with(|| a.row.id.cmp(&b.row.id))
            .then_with(|| a.name.cmp(&b.name))
    });
}

/// The order of what is near: best first, ties by name and id.
pub(in crate::store) fn sort_near(near: &mut [RemNear]) {
    near.sort_by(|a, b| {
        b.cosine.total_cmp(&a.cosine).then_with(|| a.row.name.cmp(&b.row.name)).then_with(|| a.row.id.cmp(&b.row.id))
    });
}

/// A request as a row of the caller's; `None` if it was made by nobody that is known. Its columns are those of the view `requests`.
pub(in crate::store) fn row_of_request(request: &LedgerRow) -> Option<RemRow> {
    let key = request.key.clone()?;
    let id = RemId::from_bytes(request.request.to_bytes());
    let tokens = &request.tokens;
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let columns = [
        ("id", Value::from(id.to_string())),
        ("started_at", time(request.started_at)),
        ("user_name", text(request.user.as_deref())),
        ("model", text(request.model_asked.as_deref())),
        ("answered_by", text(request.model_answered.as_deref())),
        ("route", Value::from(request.route.as_str())),
        ("dialect", Value::from(&*request.dialect)),
        ("outcome", Value::from(&*request.outcome)),
        ("tier", text(request.tier.as_deref())),
        ("reason", text(request.reason.as_deref())),
        ("similarity", request.similarity.map_or(Value::Null, |number| six(f64::from(number)))),
        ("entry", request.entry.map_or(Value::Null, |entry: EntryId| Value::from(entry.to_string()))),
        ("status", Value::from(request.status)),
        ("upstream", text(request.upstream.as_deref())),
        ("input_tokens", Value::from(tokens.input_sum())),
        ("output_tokens", Value::from(tokens.sum().saturating_sub(tokens.input_sum()))),
        ("cost_usd", dollars(request.cost_nano_usd)),
        ("saved_usd", dollars(request.saved_nano_usd)),
        ("latency_ms", number(whole(stored(request.latency_us)) / 1e3)),
    ];
    Some(RemRow {
        id,
        table: RemTable::Requests,
        owner: Owner::Key(key),
        name: id.to_string(),
        text: String::new(),
        label: request.outcome.to_string(),
        uri: None,
        tags: Vec::new(),
        data: columns.into_iter().map(|(column, value)| (column.to_owned(), value)).collect(),
        aliases: Vec::new(),
        starts_at: None,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        made: true,
        writer: None,
        created_at: request.started_at,
        updated_at: request.started_at,
        deleted_at: None,
    })
}

fn time(at: UnixMs) -> Value {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    time.map_or(Value::Null, |time| Value::from(format!("{time:.3}")))
}

fn dollars(nano: Option<i64>) -> Value {
    nano.map_or(Value::Null, |nano| number(whole(nano) / 1e9))
}

fn six(value: f64) -> Value {
    number((value * 1e6).round() / 1e6)
}

fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[expect(clippy::cast_precision_loss, reason = "shown, not summed")]
fn whole(value: i64) -> f64 {
    value as f64
}
