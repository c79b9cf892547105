//! Where a TRAVERSE starts: at a name, at an id, at what another query finds, or at what an earlier stage has found.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::{Code, Fault, Found, Lookup, Query, Start};
use super::ask::{Ask, Hit, Hits};
use super::{fuzzy, lookup, search};
use crate::ids::RemId;

/// Entry points, in the order in which they were found, each once.
pub(super) async fn start(ask: &Ask<'_>, start: &Start) -> Result<Hits, Fault> {
    let mut hits = match start {
        Start::Key(key) => named(ask, std::slice::from_ref(key)).await?,
        Start::Query(query) => match query.as_ref() {
            Query::Lookup(query) => lookup::lookup(ask, query).await?,
            Query::Fuzzy(query) => fuzzy::fuzzy(ask, query).await?,
            Query::Search(query) => search::search(ask, query).await?,
            Query::Traverse(_) | Query::Sql(_) => {
                let detail = "a TRAVERSE starts WITH a LOOKUP, a FUZZY or a SEARCH";
                return Err(Fault::new(Code::InvalidArgument, detail)
                    .of("with")
                    .hint("use stages of a batch: WITH $name"));
            }
        },
        Start::Stage(name) => staged(ask, name).await?,
    };
    let mut seen = HashSet::new();
    hits.rows.retain(|hit| seen.insert(hit.row.id));
    // The page of the entry points is none of the walk.
    hits.next = None;
    Ok(hits)
}

/// What is called so; else the row or the request of the caller with this id.
async fn named(ask: &Ask<'_>, keys: &[String]) -> Result<Hits, Fault> {
    let query = Lookup { keys: keys.to_vec(), tables: Vec::new(), limit: None };
    let mut hits = lookup::lookup(ask, &query).await?;
    let ids: Vec<RemId> = hits.missing.iter().filter_map(|key| key.parse().ok()).collect();
    if !ids.is_empty() {
        let rows = identified(ask, &ids).await?;
        let is = |key: &String| key.parse().ok().filter(|id| rows.iter().any(|hit| hit.row.id == *id)).is_some();
        hits.missing.retain(|key| !is(key));
        hits.suggestions.retain(|suggestion| hits.missing.contains(&suggestion.missing));
        hits.rows.extend(rows);
    }
    Ok(hits)
}

/// Rows of these ids that the caller sees, in their order.
async fn identified(ask: &Ask<'_>, ids: &[RemId]) -> Result<Vec<Hit>, Fault> {
    let rows = ask.store(ask.parts.store.rem_rows(ask.scope, ids)).await?;
    let mut rows: HashMap<RemId, _> = rows.into_iter().map(|row| (row.id, row)).collect();
    Ok(ids.iter().filter_map(|id| Some(Hit { row: rows.remove(id)?, score: None })).collect())
}

/// The rows of an earlier stage, read again. Rows of SQL are found by a column `id`, or else by a column `name`.
async fn staged(ask: &Ask<'_>, name: &str) -> Result<Hits, Fault> {
    let Some((_, answer)) = ask.stages.iter().find(|(stage, _)| stage == name) else {
        let detail = format!("there is no earlier stage `{name}`");
        return Err(Fault::new(Code::InvalidArgument, detail)
            .of("with")
            .hint("name a stage above this one in the same batch"));
    };
    let id = |found: &Found| -> Option<RemId> {
        let text = if found.id.is_empty() { found.data.get("id").and_then(Value::as_str)? } else { &found.id };
        text.parse().ok()
    };
    let ids: Vec<RemId> = answer.results.iter().filter_map(id).collect();
    let names = answer.results.iter().filter(|found| id(found).is_none() && !found.name.trim().is_empty());
    let names: Vec<String> = names.map(|found| found.name.clone()).collect();
    if ids.is_empty() && names.is_empty() && !answer.results.is_empty() {
        let detail = format!("the rows of stage `{name}` have neither an id nor a name");
        return Err(Fault::new(Code::InvalidArgument, detail).of("with").hint("let the SQL select `id` or `name`"));
    }
    let mut hits = if names.is_empty() { Hits::default() } else { named(ask, &names).await? };
    if !ids.is_empty() {
        hits.rows.splice(0..0, identified(ask, &ids).await?);
    }
    Ok(hits)
}
