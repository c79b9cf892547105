//! How rows and edges are written to cells and read from them.

use serde_json::{Map, Value};

use super::super::super::StoreError;
use super::super::super::rem::{Owner, RemEdge, RemRow, RemTable, Scope, object_of, texts_of, texts_text};
use super::super::cells::{Cells, escaped, unescaped};
use crate::ids::{EntryId, KeyId, RemId, TenantId};

/// The columns of a row `r`, in the order [`row`] reads them.
macro_rules! row_columns {
    () => {
        "r.id, r.tab, r.owner, r.name, r.text, r.label, r.uri, r.tags, r.data, r.aliases, r.starts_at, r.ends_at, \
         r.previous, r.part_of, r.part, r.entry, r.made, r.writer, r.created_at, r.updated_at, r.deleted_at"
    };
}

/// The columns of an edge `e`, in the order [`edge`] reads them.
macro_rules! edge_columns {
    () => {
        "e.source, e.source_tab, e.kind, e.target, e.weight, e.properties, e.created_at"
    };
}

pub(super) use {edge_columns, row_columns};

/// Reads [`row_columns`].
pub(super) fn row(cells: &mut Cells<'_>) -> Result<RemRow, StoreError> {
    Ok(RemRow {
        id: RemId::from_bytes(cells.id()?),
        table: table(cells)?,
        owner: owner(cells)?,
        name: cells.string()?,
        text: cells.string()?,
        label: cells.string()?,
        uri: cells.text_or_null()?,
        tags: texts(cells)?.iter().map(|tag| unescaped(tag).into_owned()).collect(),
        data: object(cells)?,
        aliases: texts(cells)?,
        starts_at: cells.count_or_null()?,
        ends_at: cells.count_or_null()?,
        previous: cells.text_or_null()?,
        part_of: {
            let of = cells.id_or_null()?.map(RemId::from_bytes);
            let part = cells.count_or_null()?;
            let part = part.map(u32::try_from).transpose().map_err(|error| cells.bad(&error))?;
            of.zip(part)
        },
        entry: cells.id_or_null()?.map(EntryId::from_bytes),
        made: cells.take()?,
        writer: cells.text_or_null()?.map(KeyId::new),
        created_at: cells.count()?,
        updated_at: cells.count()?,
        deleted_at: cells.count_or_null()?,
    })
}

/// Reads [`edge_columns`].
pub(super) fn edge(cells: &mut Cells<'_>) -> Result<RemEdge, StoreError> {
    Ok(RemEdge {
        source: RemId::from_bytes(cells.id()?),
        source_table: table(cells)?,
        kind: cells.string()?,
        target: cells.string()?,
        weight: cells.take()?,
        properties: object(cells)?,
        created_at: cells.count()?,
    })
}

pub(super) fn table(cells: &mut Cells<'_>) -> Result<RemTable, StoreError> {
    let code: i16 = cells.take()?;
    RemTable::of_code(i64::from(code)).ok_or_else(|| cells.bad(&"no such table"))
}

pub(super) fn owner(cells: &mut Cells<'_>) -> Result<Owner, StoreError> {
    let text: &str = cells.take()?;
    text.parse().map_err(|()| cells.bad(&"not an owner"))
}

/// Conditions look into tags with the server's JSON functions, which refuse `\u0000`; so it is replaced inside.
pub(super) fn tags_text(tags: &[String]) -> Result<String, StoreError> {
    texts_text(&tags.iter().map(|tag| escaped(tag).into_owned()).collect::<Vec<_>>())
}

fn texts(cells: &mut Cells<'_>) -> Result<Vec<String>, StoreError> {
    let text: &str = cells.take()?;
    texts_of(text).map_err(|error| cells.bad(&error))
}

fn object(cells: &mut Cells<'_>) -> Result<Map<String, Value>, StoreError> {
    let text: &str = cells.take()?;
    object_of(text).map_err(|error| cells.bad(&error))
}

/// The owners whose rows the caller sees.
pub(super) fn owners(scope: &Scope) -> [String; 2] {
    [Owner::Public.to_string(), scope.owner().to_string()]
}

/// Codes of these tables, or of all that are written.
pub(super) fn codes(tables: &[RemTable]) -> Vec<i16> {
    let tables = if tables.is_empty() { &RemTable::WRITTEN } else { tables };
    tables.iter().map(|table| table.code()).collect()
}

/// Ids as they are bound.
pub(super) fn bytes(ids: &[RemId]) -> Vec<[u8; 16]> {
    ids.iter().map(|id| id.to_bytes()).collect()
}

/// What one owner's part of an index begins with, so that nobody's search passes what he may not see. Two may meet; the owner of what
/// is found is looked at.
pub(super) fn scope_number(tenant: &TenantId, owner: &Owner) -> i64 {
    digest(&["names", tenant.as_str(), &owner.to_string()])
}

/// What words of one owner in one table begin with.
pub(super) fn word_prefix(tenant: &TenantId, owner: &Owner, table: RemTable) -> String {
    format!("{:012x}", digest(&["words", tenant.as_str(), &owner.to_string(), table.as_str()]).cast_unsigned() >> 16)
}

/// A digest of texts as a number.
fn digest(parts: &[&str]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut eight = [0_u8; 8];
    hasher.finalize_xof().fill(&mut eight);
    i64::from_le_bytes(eight)
}
