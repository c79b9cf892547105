//! How cells are stored in this database: ids and digests as blobs, texts as they are.

use std::borrow::Cow;

use sqlx::sqlite::SqliteRow;

use super::super::forms::tags_of;
pub(super) use super::super::forms::{stored, stored_or_null, tags_text, vector_bytes};
use super::super::read::{self, StoredRow};
use crate::ids::RequestId;

/// Ids as a JSON array for `json_each`.
pub(super) fn ids_text(ids: impl Iterator<Item = RequestId>) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("[");
    for id in ids {
        let comma = if text.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}\"{:032x}\"", u128::from_be_bytes(id.to_bytes()));
    }
    text.push(']');
    text
}

/// A row being read from left to right.
pub(super) type Cells<'r> = read::Cells<'r, SqliteRow>;

impl<'r> StoredRow<'r> for SqliteRow {
    fn text(stored: &str) -> Cow<'_, str> {
        Cow::Borrowed(stored)
    }

    fn tags(stored: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
        tags_of(stored)
    }
}
