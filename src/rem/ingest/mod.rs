//! What users write: checked, cut into parts where it is long, and made into writes of the store.
//!
//! ```text
//! body → resources, entities, moments → writes → settle: what is there already → RemStore::rem_apply
//! ```
//!
//! Invariants: the owner is the caller's key, or `public` if he says so, and nothing in a body can say anything else; identities come
//! from what a row stands for, so that sending it again replaces it, with all of its parts; a public row is changed by the key that
//! wrote it and by no other.

mod change;
mod document;
mod edges;
mod identity;
mod read;
#[cfg(test)]
mod settle_tests;
mod split;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::Value;

pub use self::change::{delete, patch};
use self::document::{EdgeWrites, document, moved};
pub use self::edges::edges;
pub(in crate::rem) use self::identity::derived;
use self::read::{Form, items, wrong};
pub use self::split::{Kind, MOST, Part, split_document, title_of};
use super::{Code, Fault};
use crate::clock::UnixMs;
use crate::ids::RemId;
use crate::store::StoreError;
use crate::store::rem::{Owner, RemRow, RemStore, RemTable, RemWrite, Scope, normalise};

/// Most objects of one body.
pub const ITEMS: usize = 1_000;
/// Characters of a name.
pub const NAME: usize = 1_000;
/// Characters of a document, before it is cut into parts.
pub const CONTENT: usize = 4_000_000;
/// Characters of a description or a summary, which are not cut.
pub const SUMMARY: usize = 8_000;
/// Most rows that one body becomes.
const ROWS: usize = 5_000;
const URI: usize = 2_000;
const LABEL: usize = 200;
const LIST: usize = 100;
const TAG: usize = 200;
/// Parts looked for at once.
const PROBE: u32 = 256;
/// Identities tried for something whose own is taken.
const ROUNDS: u32 = 100;

/// Reads `POST /rem/v1/resources`: one document or a list of them.
///
/// Members: `name`, `content`, `format` (`markdown` or `text`), `uri`, `category`, `tags`, `metadata`, `aliases`, `graph_edges`,
/// `public`. Without a name, that is the first heading of Markdown. Without `graph_edges`, edges that leave it stay, but for those
/// between its parts.
///
/// # Errors
/// What is wrong, and with which member.
pub fn resources(body: &Value, scope: &Scope, now: UnixMs) -> Result<Vec<RemWrite>, Fault> {
    let mut taken = Taken::default();
    let (mut writes, mut rows) = (Vec::new(), 0);
    for mut form in items(body, ITEMS)? {
        let kind = kind(&mut form)?;
        let content = form.text("content", CONTENT)?.unwrap_or_default();
        let named = form.word("name", NAME)?;
        let titled = || if kind == Kind::Markdown { title_of(&content) } else { None };
        let name = named.or_else(titled);
        let uri = form.word("uri", URI)?;
        let mut row = row(&mut form, RemTable::Resources, Said { name, uri, starts_at: None }, scope, now)?;
        row.label = form.word("category", LABEL)?.unwrap_or_default();
        row.data = form.data("metadata")?.unwrap_or_default();
        let edges = edges::inline(&mut form, row.id, row.table, now)?;
        taken.take(&form, &row)?;
        form.end()?;
        let parts = split_document(&content, kind);
        rows += parts.len().max(1);
        if rows > ROWS {
            let text = format!("this would become more than {ROWS} rows");
            return Err(Fault::new(Code::TooLarge, text).hint("send fewer or shorter documents at once"));
        }
        writes.extend(document(row, &parts, edges, now));
    }
    Ok(writes)
}

/// Reads `POST /rem/v1/entities`: one thing or a list of them.
///
/// Members: `name`, `kind`, `description`, `attributes`, `aliases`, `tags`, `graph_edges`, `public`.
///
/// # Errors
/// What is wrong, and with which member.
pub fn entities(body: &Value, scope: &Scope, now: UnixMs) -> Result<Vec<RemWrite>, Fault> {
    let mut taken = Taken::default();
    let mut writes = Vec::new();
    for mut form in items(body, ITEMS)? {
        let name = form.word("name", NAME)?;
        let mut row = row(&mut form, RemTable::Entities, Said { name, uri: None, starts_at: None }, scope, now)?;
        row.label = form.word("kind", LABEL)?.unwrap_or_default();
        row.text = form.text("description", SUMMARY)?.unwrap_or_default();
        row.data = form.data("attributes")?.unwrap_or_default();
        let edges = edges::inline(&mut form, row.id, row.table, now)?;
        taken.take(&form, &row)?;
        form.end()?;
        writes.push(RemWrite::Put { row: Box::new(row), vector: None, edges });
    }
    Ok(writes)
}

/// Reads `POST /rem/v1/moments`: one span of time or a list of them.
///
/// Members: `name`, `kind`, `starts_at`, `ends_at` (RFC 3339), `summary`, `previous`, `metadata`, `aliases`, `tags`, `graph_edges`,
/// `public`. Moments of one name are told apart by when they start.
///
/// # Errors
/// What is wrong, and with which member.
pub fn moments(body: &Value, scope: &Scope, now: UnixMs) -> Result<Vec<RemWrite>, Fault> {
    let mut taken = Taken::default();
    let mut writes = Vec::new();
    for mut form in items(body, ITEMS)? {
        let name = form.word("name", NAME)?;
        let starts_at = form.time("starts_at")?;
        if starts_at.is_none() {
            let place = form.place("starts_at");
            return Err(
                wrong(&place, format!("`{place}` is missing")).hint("say when it began, as in 2026-11-01T10:00:00Z")
            );
        }
        let mut row = row(&mut form, RemTable::Moments, Said { name, uri: None, starts_at }, scope, now)?;
        row.ends_at = form.time("ends_at")?;
        check_span(&form, &row)?;
        row.label = form.word("kind", LABEL)?.unwrap_or_default();
        row.text = form.text("summary", SUMMARY)?.unwrap_or_default();
        row.previous = form.word("previous", NAME)?;
        row.data = form.data("metadata")?.unwrap_or_default();
        let edges = edges::inline(&mut form, row.id, row.table, now)?;
        taken.take(&form, &row)?;
        form.end()?;
        writes.push(RemWrite::Put { row: Box::new(row), vector: None, edges });
    }
    Ok(writes)
}

/// Brings writes of a body in line with what is there: parts of an older form of a document that are no longer there are purged,
/// and what was renamed since keeps its row.
///
/// # Errors
/// The store does not answer.
pub async fn settle(store: &dyn RemStore, scope: &Scope, writes: Vec<RemWrite>) -> Result<Vec<RemWrite>, StoreError> {
    let firsts: Vec<RemId> = writes.iter().filter_map(first_of).map(|row| row.id).collect();
    let mut there = Vec::new();
    for some in firsts.chunks(PROBE as usize) {
        there.extend(store.rem_rows(scope, some).await?);
    }
    let mut settled = Vec::with_capacity(writes.len());
    let mut edges = EdgeWrites::default();
    let mut writes = writes.into_iter().peekable();
    while let Some(write) = writes.next() {
        let Some(id) = first_of(&write).map(|row| row.id) else {
            settled.push(write);
            continue;
        };
        let mut document = vec![write];
        let mut parts = 1_u32;
        while let Some(part) = writes.next_if(|next| first_of(next).is_none() && part_of(next) == Some(id)) {
            document.push(part);
            parts = parts.saturating_add(1);
        }
        // What is said of the edges of a document stands behind its parts.
        document.extend(std::iter::from_fn(|| writes.next_if(EdgeWrites::takes)));
        if let Some(row) = document.first().and_then(first_of)
            && let Some(old) = there.iter().find(|old| old.id == id)
            && !identity::are_same(row, old)
        {
            let free = free(store, scope, row).await?;
            moved(&mut document, free);
        }
        let purges = match document.first().and_then(first_of) {
            Some(row) if row.table == RemTable::Resources => change::parts(store, scope, row.id, parts).await?,
            _ => Vec::new(),
        };
        settled.extend(document.into_iter().filter_map(|write| edges.take(write)));
        settled.extend(purges.into_iter().map(|row| RemWrite::Purge { id: row.id, owner: row.owner }));
    }
    settled.extend(edges.all());
    Ok(settled)
}

/// An identity that nothing else has.
async fn free(store: &dyn RemStore, scope: &Scope, row: &RemRow) -> Result<RemId, StoreError> {
    for round in 1..ROUNDS {
        let id = identity::aside(row.id, round);
        let there = store.rem_rows(scope, &[id]).await?;
        if there.iter().all(|there| identity::are_same(there, row)) {
            return Ok(id);
        }
    }
    Ok(identity::aside(row.id, ROUNDS))
}

/// The row of a write that is one by itself, or the first part of a document.
fn first_of(write: &RemWrite) -> Option<&RemRow> {
    match write {
        RemWrite::Put { row, .. } if row.part_of.is_none_or(|(_, number)| number == 0) => Some(row),
        _ => None,
    }
}

fn part_of(write: &RemWrite) -> Option<RemId> {
    match write {
        RemWrite::Put { row, .. } => row.part_of.map(|(first, _)| first),
        _ => None,
    }
}

fn kind(form: &mut Form) -> Result<Kind, Fault> {
    let place = form.place("format");
    match form.word("format", NAME)?.as_deref() {
        None | Some("text") => Ok(Kind::Text),
        Some("markdown") => Ok(Kind::Markdown),
        Some(_) => Err(wrong(&place, format!("`{place}` must be \"markdown\" or \"text\""))),
    }
}

/// What tells a row from others of its owner.
struct Said {
    name: Option<String>,
    uri: Option<String>,
    starts_at: Option<UnixMs>,
}

/// The members that all rows have.
fn row(form: &mut Form, table: RemTable, said: Said, scope: &Scope, now: UnixMs) -> Result<RemRow, Fault> {
    let place = form.place("name");
    let Some(name) = said.name else {
        return Err(wrong(&place, format!("`{place}` is missing; say what it is called")));
    };
    check_name(&place, &name)?;
    let owner = if form.flag("public")? { Owner::Public } else { scope.owner() };
    let (uri, starts_at) = (said.uri, said.starts_at);
    Ok(RemRow {
        id: identity::of_user(scope, &owner, table, &name, uri.as_deref(), starts_at),
        table,
        owner,
        name,
        text: String::new(),
        label: String::new(),
        uri,
        tags: form.words("tags", LIST, TAG)?.unwrap_or_default(),
        data: serde_json::Map::new(),
        aliases: form.words("aliases", LIST, NAME)?.unwrap_or_default(),
        starts_at,
        ends_at: None,
        previous: None,
        part_of: None,
        entry: None,
        made: false,
        writer: Some(scope.key.clone()),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    })
}

fn check_name(place: &str, name: &str) -> Result<(), Fault> {
    if normalise(name).is_empty() {
        return Err(wrong(place, format!("`{place}` has nothing but blanks, `-` and `_`; nothing is found by that")));
    }
    Ok(())
}

fn check_span(form: &Form, row: &RemRow) -> Result<(), Fault> {
    if row.ends_at.is_some_and(|ends| row.starts_at.is_some_and(|starts| ends < starts)) {
        let place = form.place("ends_at");
        return Err(wrong(&place, format!("`{place}` is before `starts_at`; exchange the two times")));
    }
    Ok(())
}

/// Identities of the rows of one body: two that replace each other are a mistake.
#[derive(Default)]
struct Taken(HashSet<RemId>);

impl Taken {
    fn take(&mut self, form: &Form, row: &RemRow) -> Result<(), Fault> {
        if self.0.insert(row.id) {
            return Ok(());
        }
        let place = form.place(if row.uri.is_some() { "uri" } else { "name" });
        Err(wrong(&place, format!("`{place}` is there twice in this list, and the second would replace the first"))
            .hint("leave one of them out, or tell resources apart by `uri` and moments by `starts_at`"))
    }
}

/// The store has failed; why is for its operator.
fn unavailable(error: &StoreError) -> Fault {
    tracing::warn!(%error, "REM data cannot be read");
    Fault::new(Code::Unavailable, "the store does not answer at the moment; try again")
}
