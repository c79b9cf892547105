//! Reads a row cell by cell in the order of its column list. Ids and digests are `bytea`; the other forms are in
//! `forms.rs`.
//!
//! A PostgreSQL text cannot hold U+0000, which JSON can and prompts may. It is written as two characters that no text
//! has by chance (U+0010 U+0001), and U+0010 itself as two of it; so every text comes back exactly.

use std::borrow::Cow;

use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row, Type};

pub(super) use super::super::forms::{stored, stored_or_null, vector_bytes};
use super::super::forms::{tags_of, vector_of, word};
use super::super::{Digest, StoreError, forms};

/// A row being read from left to right.
pub(super) struct Cells<'r> {
    table: &'static str,
    row: &'r PgRow,
    next: usize,
}

impl<'r> Cells<'r> {
    pub(super) fn of(table: &'static str, row: &'r PgRow) -> Self {
        Self { table, row, next: 0 }
    }

    /// The next cell as whatever the database driver can make of it; for texts there is [`Self::text`].
    pub(super) fn take<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T, StoreError> {
        let at = self.next;
        self.next += 1;
        self.row.try_get(at).map_err(|error| self.bad(&error))
    }

    pub(super) fn text(&mut self) -> Result<Cow<'r, str>, StoreError> {
        Ok(unescaped(self.take()?))
    }

    pub(super) fn text_or_null(&mut self) -> Result<Option<String>, StoreError> {
        let text: Option<&str> = self.take()?;
        Ok(text.map(|text| unescaped(text).into_owned()))
    }

    pub(super) fn count(&mut self) -> Result<u64, StoreError> {
        let value: i64 = self.take()?;
        u64::try_from(value).map_err(|error| self.bad(&error))
    }

    pub(super) fn count_or_null(&mut self) -> Result<Option<u64>, StoreError> {
        let value: Option<i64> = self.take()?;
        value.map(u64::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(super) fn small(&mut self) -> Result<u16, StoreError> {
        let value: i32 = self.take()?;
        u16::try_from(value).map_err(|error| self.bad(&error))
    }

    pub(super) fn small_or_null(&mut self) -> Result<Option<u16>, StoreError> {
        let value: Option<i32> = self.take()?;
        value.map(u16::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(super) fn id(&mut self) -> Result<[u8; 16], StoreError> {
        let bytes: &[u8] = self.take()?;
        bytes.try_into().map_err(|error| self.bad(&error))
    }

    pub(super) fn id_or_null(&mut self) -> Result<Option<[u8; 16]>, StoreError> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes.map(<[u8; 16]>::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(super) fn digest(&mut self) -> Result<Digest, StoreError> {
        let bytes: &[u8] = self.take()?;
        bytes.try_into().map_err(|error| self.bad(&error))
    }

    pub(super) fn digest_or_null(&mut self) -> Result<Option<Digest>, StoreError> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes.map(Digest::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(super) fn vector_or_null(&mut self) -> Result<Option<Vec<f32>>, StoreError> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes.map(vector_of).transpose().map_err(|error| self.bad(&error))
    }

    pub(super) fn tags(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let text: &str = self.take()?;
        let mut tags = tags_of(text).map_err(|error| self.bad(&error))?;
        if text.contains(ESCAPE_IN_JSON) {
            for (name, value) in &mut tags {
                *name = unescaped(name).into_owned();
                *value = unescaped(value).into_owned();
            }
        }
        Ok(tags)
    }

    /// A word from a closed list; the common ones cost no allocation.
    pub(super) fn word(&mut self) -> Result<Cow<'static, str>, StoreError> {
        Ok(word(&self.text()?))
    }

    pub(super) fn word_or_null(&mut self) -> Result<Option<Cow<'static, str>>, StoreError> {
        let text: Option<&str> = self.take()?;
        Ok(text.map(|text| word(&unescaped(text))))
    }

    pub(super) fn bad(&self, detail: &dyn ToString) -> StoreError {
        StoreError::BadRow { table: self.table, detail: format!("column {}: {}", self.next, detail.to_string()) }
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

fn unescaped(stored: &str) -> Cow<'_, str> {
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
