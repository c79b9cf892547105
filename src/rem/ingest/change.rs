//! Changes of rows that are there: some members of one, or the end of it.

use serde_json::Value;

use super::super::{Code, Fault};
use super::read::{Form, wrong};
use super::{LABEL, LIST, MOST, NAME, PROBE, SUMMARY, TAG, URI, check_name, check_span, edges, identity};
use crate::clock::UnixMs;
use crate::ids::RemId;
use crate::store::StoreError;
use crate::store::rem::{Owner, RemRow, RemStore, RemTable, RemWrite, Scope};

/// Reads `PATCH /rem/v1/{table}/{id}`: members that are there replace those of the row, `null` takes one away. `row` was read in the
/// caller's scope. Inline edges, if there are any, replace all that leave it.
///
/// # Errors
/// What is wrong, and with which member; a row that the program made from traffic cannot be changed.
pub fn patch(row: &RemRow, body: &Value, scope: &Scope, now: UnixMs) -> Result<Vec<RemWrite>, Fault> {
    check_changeable(row, scope)?;
    let mut form = Form::of(body, String::new())?;
    let mut new = RemRow { updated_at: now, ..row.clone() };
    let (label, text, data) = match row.table {
        RemTable::Resources => ("category", "content", "metadata"),
        RemTable::Entities => ("kind", "description", "attributes"),
        RemTable::Moments | RemTable::Requests => ("kind", "summary", "metadata"),
    };
    if form.has("name") {
        let Some(name) = form.word("name", NAME)? else {
            return Err(wrong("name", "`name` must not be null; a row is always called something".to_owned()));
        };
        check_name("name", &name)?;
        new.name = name;
    }
    if form.has(label) {
        new.label = form.word(label, LABEL)?.unwrap_or_default();
    }
    if form.has(text) {
        new.text = form.text(text, SUMMARY)?.unwrap_or_default();
        if row.table == RemTable::Resources && new.text.chars().count() > MOST {
            let fault = wrong(
                text,
                format!("`{text}` has more than {MOST} characters, which is more than one part of a document"),
            );
            return Err(
                fault.hint("send the whole document by POST with the same name or uri; it is cut into parts there")
            );
        }
    }
    if form.has(data) {
        new.data = form.data(data)?.unwrap_or_default();
    }
    if form.has("tags") {
        new.tags = form.words("tags", LIST, TAG)?.unwrap_or_default();
    }
    if form.has("aliases") {
        new.aliases = form.words("aliases", LIST, NAME)?.unwrap_or_default();
    }
    if row.table == RemTable::Resources && form.has("uri") {
        new.uri = form.word("uri", URI)?;
    }
    if row.table == RemTable::Moments {
        patch_span(&mut form, &mut new)?;
    }
    let edges = if form.has("graph_edges") {
        Some(edges::inline(&mut form, row.id, row.table, now)?.unwrap_or_default())
    } else {
        None
    };
    form.end()?;
    Ok(vec![RemWrite::Put { row: Box::new(new), vector: None, edges }])
}

fn patch_span(form: &mut Form, row: &mut RemRow) -> Result<(), Fault> {
    if form.has("starts_at") {
        row.starts_at = form.time("starts_at")?;
        if row.starts_at.is_none() {
            return Err(wrong("starts_at", "`starts_at` must not be null; a moment always begins".to_owned()));
        }
    }
    if form.has("ends_at") {
        row.ends_at = form.time("ends_at")?;
    }
    if form.has("previous") {
        row.previous = form.word("previous", NAME)?;
    }
    check_span(form, row)
}

/// Reads `DELETE /rem/v1/{table}/{id}`: hides the row at once, or deletes it with all that belongs to it; a document goes with all of
/// its parts. `purge` also finds what is hidden.
///
/// # Errors
/// There is nothing of that id in this table for the caller, it is not his to delete, or the program made it; the store does not
/// answer.
pub async fn delete(
    store: &dyn RemStore,
    scope: &Scope,
    table: RemTable,
    id: RemId,
    purge: bool,
    now: UnixMs,
) -> Result<Vec<RemWrite>, Fault> {
    let rows = store.rem_stored(scope, &[id]).await.map_err(|error| super::unavailable(&error))?;
    let end = |id: RemId, owner: Owner| {
        if purge { RemWrite::Purge { id, owner } } else { RemWrite::Hide { id, owner, at: now } }
    };
    // What is hidden is there for nobody but the key that may purge it.
    let there = |row: &RemRow| row.deleted_at.is_none() || (purge && may_change(row, scope));
    let Some(row) = rows.into_iter().find(|row| row.table == table && there(row)) else {
        return Err(Fault::new(Code::NotFound, format!("there is no row {id} in {} for you", table.as_str())));
    };
    check_changeable(&row, scope)?;
    let mut writes = vec![end(row.id, row.owner)];
    if row.part_of.is_some_and(|(_, number)| number == 0) {
        let parts = parts(store, scope, row.id, 1).await.map_err(|error| super::unavailable(&error))?;
        writes.extend(parts.into_iter().map(|part| end(part.id, part.owner)));
    }
    Ok(writes)
}

/// Whether a row is one that the caller, or nobody else, has written.
fn may_change(row: &RemRow, scope: &Scope) -> bool {
    match &row.owner {
        Owner::Key(key) => *key == scope.key,
        Owner::Public => row.writer.as_ref() == Some(&scope.key),
    }
}

/// Refuses changes of public rows that another key has written, and of edges that leave them.
pub(super) fn check_own(row: &RemRow, scope: &Scope) -> Result<(), Fault> {
    if may_change(row, scope) {
        return Ok(());
    }
    let hint = "write a row of your own under this name; both are found by it";
    Err(Fault::new(Code::Forbidden, "only the key that wrote a public row changes or deletes it").hint(hint))
}

fn check_changeable(row: &RemRow, scope: &Scope) -> Result<(), Fault> {
    if !scope.sees(&row.owner) || row.table == RemTable::Requests {
        return Err(Fault::new(Code::NotFound, format!("there is no row {} for you", row.id)));
    }
    if row.made {
        let hint = "a row of an answer goes with its cache entry; others are forgotten after `rem.keep`";
        return Err(Fault::new(Code::Forbidden, "this row was made from traffic and is not changed by hand").hint(hint));
    }
    check_own(row, scope)
}

/// Parts of a document that are there, hidden or not, from this number on.
pub(super) async fn parts(
    store: &dyn RemStore,
    scope: &Scope,
    first: RemId,
    from: u32,
) -> Result<Vec<RemRow>, StoreError> {
    let (mut found, mut from) = (Vec::new(), from);
    loop {
        let ids: Vec<RemId> =
            (from..from.saturating_add(PROBE)).map(|number| identity::of_part(first, number)).collect();
        let mut rows = store.rem_stored(scope, &ids).await?;
        rows.retain(|row| row.part_of.is_some_and(|(of, _)| of == first));
        // A gap this long is the end: parts are purged one by one only by hand.
        if rows.is_empty() {
            return Ok(found);
        }
        found.append(&mut rows);
        from = from.saturating_add(PROBE);
    }
}
