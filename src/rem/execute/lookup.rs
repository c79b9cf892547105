//! LOOKUP: by name, in one probe for each key.

use std::collections::{HashMap, HashSet};

use super::super::{Fault, Lookup, Suggestion, range, rounded};
use super::ask::{Ask, Hit, Hits, written};
use super::fuzzy::similar;
use crate::store::rem::{RemNamed, RemTable, normalise, split_camel_case};

/// Most rows of a LOOKUP without LIMIT.
const ROWS: usize = 1_000;

/// Most rows that are read: one more than the most that are shown tells that there are more.
const READ: u32 = 1_001;

/// Missing keys that names are suggested for: each takes a search of its own.
const SUGGESTED_FOR: usize = 10;

/// Names suggested for one key.
const SUGGESTIONS: usize = 3;

/// Everything under these names, in their order. A row is shown once.
pub(super) async fn lookup(ask: &Ask<'_>, query: &Lookup) -> Result<Hits, Fault> {
    let tables = written(&query.tables)?;
    let limit = query.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(ROWS);
    let mut hits = Hits::default();
    let (found, full) = resolve(ask, &query.keys, tables).await?;
    hits.truncated = full;
    let mut shown = HashSet::new();
    for (key, named) in query.keys.iter().zip(found) {
        // Whether it is missing is not known.
        let Some(named) = named else { continue };
        if named.is_empty() && !hits.missing.contains(key) {
            hits.missing.push(key.clone());
        }
        let fresh = named.into_iter().filter(|named| shown.insert(named.row.id));
        hits.rows.extend(fresh.map(|named| Hit { row: named.row, score: None }));
    }
    hits.truncated |= hits.rows.len() > limit;
    hits.rows.truncate(limit);
    hits.suggestions = suggestions(ask, &hits.missing, tables).await?;
    Ok(hits)
}

/// What is called as one key; `None` if that was not read, because there was too much under the keys before it.
type Named = Option<Vec<RemNamed>>;

/// For each key what is called so, the rows of the best class of match; and whether there are more than were read.
async fn resolve(ask: &Ask<'_>, keys: &[String], tables: &[RemTable]) -> Result<(Vec<Named>, bool), Fault> {
    let (mut found, mut full) = probe(ask, keys, tables).await?;
    // The last resort, in a second probe for all that are missing.
    let split = |(at, (key, named)): (usize, (&String, &Named))| {
        if named.as_ref().is_some_and(Vec::is_empty) { split_camel_case(key).map(|split| (at, split)) } else { None }
    };
    let (places, names): (Vec<usize>, Vec<String>) = keys.iter().zip(&found).enumerate().filter_map(split).unzip();
    if !names.is_empty() {
        let (split, more) = probe(ask, &names, tables).await?;
        full |= more;
        for (place, named) in places.into_iter().zip(split) {
            if let Some(slot) = found.get_mut(place) {
                *slot = named;
            }
        }
    }
    Ok((found, full))
}

async fn probe(ask: &Ask<'_>, keys: &[String], tables: &[RemTable]) -> Result<(Vec<Named>, bool), Fault> {
    let mut forms: Vec<String> = Vec::with_capacity(keys.len());
    let mut places: HashMap<String, usize> = HashMap::with_capacity(keys.len());
    for form in keys.iter().map(|key| normalise(key)).filter(|form| !form.is_empty()) {
        places.entry(form).or_insert_with_key(|form| {
            forms.push(form.clone());
            forms.len() - 1
        });
    }
    if forms.is_empty() {
        return Ok((vec![Some(Vec::new()); keys.len()], false));
    }
    let mut by_form: Vec<Vec<RemNamed>> = vec![Vec::new(); forms.len()];
    let found = ask.store(ask.parts.store.rem_named(ask.scope, &forms, tables, READ)).await?;
    // What comes after the last one is there perhaps, perhaps not.
    let full = u32::try_from(found.len()).is_ok_and(|len| len >= READ);
    let last = found.iter().map(|named| named.asked).max().filter(|_| full).unwrap_or(usize::MAX);
    for named in found {
        if let Some(of_form) = by_form.get_mut(named.asked) {
            of_form.push(named);
        }
    }
    let of_key = |key: &String| {
        let place = places.get(&normalise(key)).copied();
        if place.is_some_and(|place| place > last) {
            return None;
        }
        let named = place.and_then(|place| by_form.get(place));
        Some(named.map(|named| best(key, named).cloned().collect()).unwrap_or_default())
    };
    Ok((keys.iter().map(of_key).collect(), full))
}

/// Those of the best class: the exact name before the normalised one before an alias.
pub(super) fn best<'n>(key: &str, named: &'n [RemNamed]) -> impl Iterator<Item = &'n RemNamed> {
    let class = |named: &RemNamed| match (named.alias, named.name == key) {
        (false, true) => 0,
        (false, false) => 1,
        (true, _) => 2,
    };
    let best: Vec<u8> = named.iter().map(class).collect();
    let least = best.iter().copied().min();
    named.iter().zip(best).filter(move |(_, class)| Some(*class) == least).map(|(named, _)| named)
}

/// Names that the caller sees and that are close to those that nothing was found under.
pub(super) async fn suggestions(
    ask: &Ask<'_>,
    missing: &[String],
    tables: &[RemTable],
) -> Result<Vec<Suggestion>, Fault> {
    let mut all = Vec::new();
    for key in missing.iter().take(SUGGESTED_FOR) {
        // Several rows may have one name; it is suggested once.
        let (close, _) = similar(ask, key, tables, range::THRESHOLD, SUGGESTIONS * 4).await?;
        let mut told: Vec<String> = Vec::new();
        for close in close {
            if told.len() == SUGGESTIONS || told.contains(&close.name) {
                continue;
            }
            told.push(close.name.clone());
            all.push(Suggestion {
                missing: key.clone(),
                name: close.name,
                table: close.table.as_str().to_owned(),
                score: rounded(close.score),
            });
        }
    }
    Ok(all)
}
