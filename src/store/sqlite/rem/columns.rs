//! How rows of REM data stand in columns, and lists as parameters.

use std::fmt::Write as _;

use sqlx::sqlite::SqliteRow;

use super::super::super::StoreError;
use super::super::super::rem::*;
use super::super::cells::Cells;
use crate::ids::{EntryId, KeyId, RemId, TenantId};

/// The columns of a row, in the order in which [`read_row`] reads them.
macro_rules! row_columns {
    () => {
        "r.id, r.tab, r.owner, r.name, r.text, r.label, r.uri, r.tags, r.data, r.aliases, r.starts_at, r.ends_at, \
         r.previous, r.part_of, r.part, r.entry, r.made, r.writer, r.created_at, r.updated_at, r.deleted_at"
    };
}

/// The columns of an edge, in the order in which [`read_edge`] reads them.
macro_rules! edge_columns {
    () => {
        "e.source, e.source_tab, e.kind, e.target, e.weight, e.properties, e.created_at"
    };
}

pub(super) use {edge_columns, row_columns};

/// A row from its cells, of which the next one is the first of the row's.
pub(super) fn read_row(cells: &mut Cells<'_>) -> Result<RemRow, StoreError> {
    Ok(RemRow {
        id: RemId::from_bytes(cells.id()?),
        table: table(cells)?,
        owner: owner(cells)?,
        name: cells.take()?,
        text: cells.take()?,
        label: cells.take()?,
        uri: cells.take()?,
        tags: json(cells, texts_of)?,
        data: json(cells, object_of)?,
        aliases: json(cells, texts_of)?,
        starts_at: cells.count_or_null()?,
        ends_at: cells.count_or_null()?,
        previous: cells.take()?,
        part_of: {
            let (of, part) = (cells.id_or_null()?, cells.count_or_null()?);
            of.map(RemId::from_bytes).zip(part.map(|part| u32::try_from(part).unwrap_or(u32::MAX)))
        },
        entry: cells.id_or_null()?.map(EntryId::from_bytes),
        made: cells.take()?,
        writer: cells.take::<Option<&str>>()?.map(KeyId::new),
        created_at: cells.count()?,
        updated_at: cells.count()?,
        deleted_at: cells.count_or_null()?,
    })
}

/// A row of which all columns were selected.
pub(super) fn read_rem(row: &SqliteRow) -> Result<RemRow, StoreError> {
    read_row(&mut Cells::of("rem_rows", row))
}

/// A row behind its tenant.
pub(super) fn read_tenants(row: &SqliteRow) -> Result<(TenantId, RemRow), StoreError> {
    let mut cells = Cells::of("rem_rows", row);
    Ok((TenantId::new(cells.take::<&str>()?), read_row(&mut cells)?))
}

/// An edge from its cells.
pub(super) fn read_edge(cells: &mut Cells<'_>) -> Result<RemEdge, StoreError> {
    Ok(RemEdge {
        source: RemId::from_bytes(cells.id()?),
        source_table: table(cells)?,
        kind: cells.take()?,
        target: cells.take()?,
        weight: cells.take()?,
        properties: json(cells, object_of)?,
        created_at: cells.count()?,
    })
}

pub(super) fn owner(cells: &mut Cells<'_>) -> Result<Owner, StoreError> {
    let text: &str = cells.take()?;
    text.parse().map_err(|()| cells.bad(&"neither public nor a key"))
}

pub(super) fn table(cells: &mut Cells<'_>) -> Result<RemTable, StoreError> {
    let code: i64 = cells.take()?;
    RemTable::of_code(code).ok_or_else(|| cells.bad(&"no table has this number"))
}

fn json<T>(cells: &mut Cells<'_>, of: fn(&str) -> Result<T, serde_json::Error>) -> Result<T, StoreError> {
    let text: &str = cells.take()?;
    of(text).map_err(|error| cells.bad(&error))
}

/// Blobs as a JSON array of hexadecimal texts, for `unhex` of what `json_each` gives.
pub(super) fn hex_list<'a>(blobs: impl Iterator<Item = &'a [u8]>) -> String {
    let mut text = String::from("[");
    for blob in blobs {
        text.push_str(if text.len() > 1 { ",\"" } else { "\"" });
        for byte in blob {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('"');
    }
    text.push(']');
    text
}

/// Ids as [`hex_list`].
pub(super) fn id_list(ids: &[RemId]) -> String {
    let bytes: Vec<[u8; 16]> = ids.iter().map(|id| id.to_bytes()).collect();
    hex_list(bytes.iter().map(<[u8; 16]>::as_slice))
}

/// Whole numbers as a JSON array.
pub(super) fn number_list(numbers: impl Iterator<Item = i64>) -> String {
    let mut text = String::from("[");
    for number in numbers {
        let comma = if text.len() > 1 { "," } else { "" };
        let _ = write!(text, "{comma}{number}");
    }
    text.push(']');
    text
}

/// Codes of tables as a JSON array; `None` for all of them.
pub(super) fn table_list(tables: &[RemTable]) -> Option<String> {
    (!tables.is_empty()).then(|| number_list(tables.iter().map(|table| i64::from(table.code()))))
}

/// Texts as a JSON array; `None` for an empty one, which stands for all.
pub(super) fn text_list(texts: &[String]) -> Result<Option<String>, StoreError> {
    if texts.is_empty() { Ok(None) } else { texts_text(texts).map(Some) }
}

/// A digest of texts as a number.
fn digest(parts: &[&str]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    let mut eight = [0_u8; 8];
    hasher.finalize_xof().fill(&mut eight);
    i64::from_le_bytes(eight)
}

/// What postings of trigrams of one owner stand under.
pub(super) fn scope_number(tenant: &TenantId, owner: &Owner) -> i64 {
    digest(&["grams", tenant.as_str(), &owner.to_string()])
}

/// What vectors of one owner in one table and space stand under.
pub(super) fn part_number(tenant: &TenantId, owner: &Owner, table: RemTable, space: &str) -> i64 {
    digest(&["vectors", tenant.as_str(), &owner.to_string(), table.as_str(), space])
}

/// What words of one owner in one table begin with.
pub(super) fn word_prefix(tenant: &TenantId, owner: &Owner, table: RemTable) -> String {
    format!("{:016x}", digest(&["words", tenant.as_str(), &owner.to_string(), table.as_str()]))
}
