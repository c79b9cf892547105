//! Edges as people write them: inside of a row, or by themselves with the row that they leave.

use std::collections::HashMap;

use serde_json::Value;

use super::super::{Code, Fault};
use super::change::check_own;
use super::read::{Form, items, wrong};
use super::{ITEMS, NAME, unavailable};
use crate::clock::UnixMs;
use crate::ids::RemId;
use crate::store::rem::{NEXT_PART, RemEdge, RemNamed, RemRow, RemStore, RemTable, RemWrite, Scope, normalise};

/// Most edges of one row.
const EDGES: usize = 1_000;
/// Characters of a type.
const TYPE: usize = 100;

/// The inline edges of a row.
pub(super) fn inline(
    form: &mut Form,
    source: RemId,
    table: RemTable,
    now: UnixMs,
) -> Result<Option<Vec<RemEdge>>, Fault> {
    let place = form.place("graph_edges");
    let Some(value) = form.take("graph_edges") else { return Ok(None) };
    let Value::Array(list) = value else {
        return Err(wrong(&place, format!("`{place}` must be a list of objects"))
            .hint("write it as in [{\"target\": \"Sarah Chen\", \"type\": \"authored_by\", \"weight\": 0.9}]"));
    };
    if list.len() > EDGES {
        let text = format!("`{place}` has {} edges; at most {EDGES} leave one row", list.len());
        return Err(Fault::new(Code::TooLarge, text).of(place));
    }
    let mut edges: Vec<Option<RemEdge>> = Vec::with_capacity(list.len());
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for (at, item) in list.iter().enumerate() {
        let mut form = Form::of(item, format!("{place}[{at}]"))?;
        let edge = edge(&mut form, source, table, now)?;
        form.end()?;
        // Of two with the same type and target the later one counts, as if it had been sent later.
        let before = places.insert((edge.kind.clone(), normalise(&edge.target)), edges.len());
        if let Some(other) = before.and_then(|before| edges.get_mut(before)) {
            *other = None;
        }
        edges.push(Some(edge));
    }
    Ok(Some(edges.into_iter().flatten().collect()))
}

/// One edge, in any of the spellings.
fn edge(form: &mut Form, source: RemId, source_table: RemTable, now: UnixMs) -> Result<RemEdge, Fault> {
    let target = one_of(form, &["target", "dst"], NAME)?;
    let kind = one_of(form, &["type", "rel_type", "relation"], TYPE)?;
    if normalise(&target).is_empty() {
        let place = form.place("target");
        return Err(wrong(&place, format!("`{place}` has nothing but blanks, `-` and `_`; nothing is found by that")));
    }
    if kind.chars().any(|c| c == ',' || c.is_control()) {
        let place = form.place("type");
        return Err(wrong(&place, format!("`{place}` must be one type without commas, as in authored_by")));
    }
    let weight = form.share("weight")?.unwrap_or(1.0);
    let properties = form.data("properties")?.unwrap_or_default();
    Ok(RemEdge { source, source_table, kind, target, weight, properties, created_at: now })
}

/// A member that has several names, of which one is there.
fn one_of(form: &mut Form, names: &[&'static str], most: usize) -> Result<String, Fault> {
    let mut found: Option<(&str, String)> = None;
    for name in names {
        let Some(word) = form.word(name, most)? else { continue };
        if let Some((other, _)) = &found {
            let place = form.place(name);
            return Err(wrong(&place, format!("`{place}` and `{other}` are two names of one thing; give one of them")));
        }
        found = Some((*name, word));
    }
    found.map(|(_, word)| word).ok_or_else(|| {
        let place = form.place(names.first().copied().unwrap_or_default());
        wrong(&place, format!("`{place}` is missing")).hint(format!("any of these names is read: {}", names.join(", ")))
    })
}

/// Reads `POST /rem/v1/edges`: one edge or a list of them, each with `source` (a name) or `source_id`, and perhaps `source_table`.
/// Sources are rows that the caller may change, and requests of his key.
///
/// # Errors
/// What is wrong with which; the store does not answer.
pub async fn edges(store: &dyn RemStore, scope: &Scope, body: &Value, now: UnixMs) -> Result<Vec<RemWrite>, Fault> {
    let mut writes: Vec<RemWrite> = Vec::new();
    for mut form in items(body, ITEMS)? {
        let source = source(store, scope, &mut form).await?;
        check_own(&source, scope)?;
        let edge = edge(&mut form, source.id, source.table, now)?;
        form.end()?;
        let link = writes.iter_mut().find_map(|write| match write {
            RemWrite::Link { owner, edges } if *owner == source.owner => Some(edges),
            _ => None,
        });
        match link {
            Some(edges) => edges.push(edge),
            None => writes.push(RemWrite::Link { owner: source.owner, edges: vec![edge] }),
        }
    }
    Ok(writes)
}

async fn source(store: &dyn RemStore, scope: &Scope, form: &mut Form) -> Result<RemRow, Fault> {
    let (by_id, by_name) = (form.place("source_id"), form.place("source"));
    let id = form.word("source_id", 26)?;
    let name = form.word("source", NAME)?;
    let table_place = form.place("source_table");
    let table = form.word("source_table", NAME)?.map(|word| {
        let table = RemTable::WRITTEN.into_iter().find(|table| table.as_str() == word);
        table.ok_or_else(|| {
            Fault::new(Code::UnknownTable, format!("`{table_place}` must be resources, entities or moments"))
                .of(&*table_place)
        })
    });
    let table = table.transpose()?;
    match (id, name) {
        (Some(_), Some(_)) => {
            Err(wrong(&by_id, format!("`{by_id}` and `{by_name}` are two ways to say one thing; give one")))
        }
        (None, None) => Err(wrong(&by_name, format!("`{by_name}` is missing"))
            .hint("say which row the edge leaves, by its name or by `source_id`")),
        (Some(id), None) => {
            let id: RemId = id.parse().map_err(|_| {
                wrong(&by_id, format!("`{by_id}` is not an id")).hint("ids are in the answers of queries and of POST")
            })?;
            let rows = store.rem_rows(scope, &[id]).await.map_err(|error| unavailable(&error))?;
            let row = rows.into_iter().find(|row| table.is_none_or(|table| table == row.table));
            row.ok_or_else(|| missing(&by_id))
        }
        (None, Some(name)) => {
            let tables: Vec<RemTable> = table.into_iter().collect();
            let found = store
                .rem_named(scope, &[normalise(&name)], &tables, NAMESAKES)
                .await
                .map_err(|error| unavailable(&error))?;
            chosen(found, &by_name)
        }
    }
}

/// Rows of one name that are read: more than one is refused, and a few of them are told.
const NAMESAKES: u32 = 20;

/// The one row of a name; those that are called so before those that have it as an alias.
fn chosen(found: Vec<RemNamed>, place: &str) -> Result<RemRow, Fault> {
    let (mut aliases, mut named): (Vec<RemNamed>, Vec<RemNamed>) = found.into_iter().partition(|found| found.alias);
    let rows = if named.is_empty() { &mut aliases } else { &mut named };
    if rows.len() > 1 {
        let ids: Vec<String> =
            rows.iter().take(5).map(|found| format!("{} ({})", found.row.id, found.row.table.as_str())).collect();
        return Err(wrong(place, format!("`{place}` is the name of {} rows", rows.len()))
            .hint(format!("give `source_id` instead, one of {}", ids.join(", "))));
    }
    rows.pop().map(|found| found.row).ok_or_else(|| missing(place))
}

fn missing(place: &str) -> Fault {
    Fault::new(Code::NotFound, format!("`{place}`: nothing of that name or id is here for you")).of(place)
}

/// The edges from each part of a document to the next.
pub(super) fn next_parts(rows: &[RemRow], now: UnixMs) -> Vec<Option<RemEdge>> {
    let next = |pair: &[RemRow]| match pair {
        [row, next] => Some(RemEdge {
            source: row.id,
            source_table: row.table,
            kind: NEXT_PART.to_owned(),
            target: next.name.clone(),
            weight: 1.0,
            properties: serde_json::Map::new(),
            created_at: now,
        }),
        _ => None,
    };
    rows.windows(2).map(next).chain([None]).collect()
}
