//! Rows as answers show them: every documented column, times as RFC 3339.

use serde_json::{Map, Value};

use super::super::{Answer, Code, Fault, Found, Load, rounded};
use super::ask::{Hit, Hits};
use crate::clock::UnixMs;
use crate::store::rem::{RemRow, RemTable, normalise};

/// Bytes of texts in one answer.
const ANSWER_BYTES: usize = 16 << 20;

/// The answer of LOOKUP, FUZZY and SEARCH.
pub(super) fn answer(hits: Hits) -> Result<Answer, Fault> {
    fits(hits.rows.iter().map(|hit| &hit.row))?;
    Ok(Answer {
        results: hits.rows.iter().map(found).collect(),
        truncated: hits.truncated,
        next: hits.next,
        missing: hits.missing,
        suggestions: hits.suggestions,
        degraded: hits.degraded,
        ..Answer::default()
    })
}

/// Refuses an answer that would be too large to send.
pub(super) fn fits<'r>(rows: impl Iterator<Item = &'r RemRow>) -> Result<(), Fault> {
    let bytes = rows.fold(0_usize, |sum, row| sum.saturating_add(row.text.len()));
    if bytes > ANSWER_BYTES {
        let detail = format!("the answer would hold {bytes} bytes of text; {ANSWER_BYTES} are the most");
        return Err(Fault::new(Code::TooLarge, detail).of("limit").hint("use a smaller LIMIT, or LAZY in a TRAVERSE"));
    }
    Ok(())
}

fn found(hit: &Hit) -> Found {
    Found { score: hit.score.map(rounded), ..row(&hit.row, Load::Load) }
}

/// A row without what the kind of query adds to it.
pub(super) fn row(row: &RemRow, load: Load) -> Found {
    let data = match load {
        Load::Load => data(row),
        Load::Lazy => {
            let mut data = data(row);
            if let Some(field) = row.table.embedded_field() {
                data.shift_remove(field);
            }
            data
        }
        Load::Keys => Map::new(),
    };
    Found {
        table: row.table.as_str().to_owned(),
        name: row.name.clone(),
        key: normalise(&row.name),
        id: row.id.to_string(),
        data,
        ..Found::default()
    }
}

/// The documented columns of the row's table, in their order: lists and objects as such.
fn data(row: &RemRow) -> Map<String, Value> {
    let texts = |texts: &[String]| Value::from(texts.to_vec());
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| {
        data.insert(name.to_owned(), value);
    };
    put("id", row.id.to_string().into());
    if row.table == RemTable::Requests {
        for (name, value) in &row.data {
            put(name, value.clone());
        }
        return data;
    }
    put("name", row.name.as_str().into());
    match row.table {
        RemTable::Resources => {
            put("uri", row.uri.clone().into());
            put("content", row.text.as_str().into());
            put("category", row.label.as_str().into());
            put("tags", texts(&row.tags));
            put("metadata", row.data.clone().into());
            put("part", row.part_of.map(|(_, part)| part).into());
        }
        RemTable::Entities => {
            put("kind", row.label.as_str().into());
            put("description", row.text.as_str().into());
            put("attributes", row.data.clone().into());
            put("aliases", texts(&row.aliases));
            put("tags", texts(&row.tags));
        }
        RemTable::Moments => {
            put("kind", row.label.as_str().into());
            put("starts_at", row.starts_at.map(time).into());
            put("ends_at", row.ends_at.map(time).into());
            put("summary", row.text.as_str().into());
            put("previous", row.previous.clone().into());
            put("tags", texts(&row.tags));
            put("metadata", row.data.clone().into());
        }
        RemTable::Requests => {}
    }
    put("owner", row.owner.to_string().into());
    put("created_at", time(row.created_at).into());
    put("updated_at", time(row.updated_at).into());
    data
}

/// RFC 3339 in UTC, with milliseconds; a time that no calendar has stays a number.
fn time(at: UnixMs) -> String {
    let stamp = i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| at.to_string(), |stamp| format!("{stamp:.3}"))
}
