//! How cells are stored in this database. Ids and digests are `bytea`.
//!
//! A PostgreSQL text cannot hold U+0000, which JSON can and prompts may. It is written as two characters that no text
//! has by chance (U+0010 U+0001), and U+0010 itself as two of it; so every text comes back exactly.

use std::borrow::Cow;

use sqlx::postgres::PgRow;

use super::super::forms::tags_of;
pub(super) use super::super::forms::{stored, stored_or_null, vector_bytes};
use super::super::read::{self, StoredRow};
use super::super::{StoreError, forms};

/// A row being read from left to right.
pub(super) type Cells<'r> = read::Cells<'r, PgRow>;

impl<'r> StoredRow<'r> for PgRow {
    fn text(stored: &str) -> Cow<'_, str> {
        unescaped(stored)
    }

    fn tags(stored: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
        let mut tags = tags_of(stored)?;
        if stored.contains(ESCAPE_IN_JSON) {
            for (name, value) in &mut tags {
                *name = unescaped(name).into_owned();
                *value = unescaped(value).into_owned();
            }
        }
        Ok(tags)
    }
}

const NUL: char = '\0';
const ESCAPE: char = '\u{10}';
const FOR_NUL: char = '\u{1}';
/// How [`ESCAPE`] stands in the JSON of tags.
const ESCAPE_IN_JSON: &str = "\\u0010";

/// A text as stored.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains([NUL, ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            NUL => stored.extend([ESCAPE, FOR_NUL]),
            ESCAPE => stored.extend([ESCAPE, ESCAPE]),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// [`escaped`] of a text that may be absent.
pub(super) fn escaped_or_null(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(escaped)
}

pub(super) fn unescaped(stored: &str) -> Cow<'_, str> {
    if !stored.contains(ESCAPE) {
        return Cow::Borrowed(stored);
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match character {
            ESCAPE => text.push(if characters.next() == Some(FOR_NUL) { NUL } else { ESCAPE }),
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

/// Tags as stored. PostgreSQL's JSON functions refuse `\u0000`, so NUL is replaced inside as well.
pub(super) fn tags_text(tags: &[(String, String)]) -> Result<Cow<'static, str>, StoreError> {
    if !tags.iter().any(|(name, value)| name.contains([NUL, ESCAPE]) || value.contains([NUL, ESCAPE])) {
        return forms::tags_text(tags);
    }
    let replaced: Vec<(String, String)> =
        tags.iter().map(|(name, value)| (escaped(name).into_owned(), escaped(value).into_owned())).collect();
    forms::tags_text(&replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_none_is_stored_with_nul() {
        for text in ["", "plain", "\0", "\u{10}", "a\0\u{10}\u{1}b", "\u{10}\u{1}", "\u{1}\0\u{10}\u{10}\0"] {
            let stored = escaped(text);
            assert!(!stored.contains(NUL));
            assert_eq!(unescaped(&stored), text);
        }
    }
}
