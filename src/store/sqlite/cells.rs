//! Reads a row cell by cell in the order of its column list, and the forms in which our types are stored:
//! ids and digests as blobs, vectors as little-endian `f32`, tags as JSON, counts and times as signed 64-bit integers.

use std::borrow::Cow;

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use super::super::{Digest, StoreError};

/// A row being read from left to right.
pub(super) struct Cells<'r> {
    table: &'static str,
    row: &'r SqliteRow,
    next: usize,
}

impl<'r> Cells<'r> {
    pub(super) fn of(table: &'static str, row: &'r SqliteRow) -> Self {
        Self { table, row, next: 0 }
    }

    /// The next cell as whatever the database driver can make of it.
    pub(super) fn take<T: Decode<'r, Sqlite> + Type<Sqlite>>(&mut self) -> Result<T, StoreError> {
        let at = self.next;
        self.next += 1;
        self.row.try_get(at).map_err(|error| self.bad(&error))
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
        let value: i64 = self.take()?;
        u16::try_from(value).map_err(|error| self.bad(&error))
    }

    pub(super) fn small_or_null(&mut self) -> Result<Option<u16>, StoreError> {
        let value: Option<i64> = self.take()?;
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
        let Some(bytes) = bytes else { return Ok(None) };
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(self.bad(&"a vector whose length is not a multiple of four bytes"));
        }
        Ok(Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()))
    }

    pub(super) fn tags(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let text: &str = self.take()?;
        // By far most rows have none.
        if text == NO_TAGS {
            return Ok(Vec::new());
        }
        serde_json::from_str(text).map_err(|error| self.bad(&error))
    }

    /// A word from a closed list; the common ones cost no allocation.
    pub(super) fn word(&mut self) -> Result<Cow<'static, str>, StoreError> {
        let text: &str = self.take()?;
        Ok(word(text))
    }

    pub(super) fn word_or_null(&mut self) -> Result<Option<Cow<'static, str>>, StoreError> {
        let text: Option<&str> = self.take()?;
        Ok(text.map(word))
    }

    fn bad(&self, detail: &dyn ToString) -> StoreError {
        StoreError::BadRow { table: self.table, detail: format!("column {}: {}", self.next, detail.to_string()) }
    }
}

const NO_TAGS: &str = "[]";

/// The words that nearly every entry or decision has; others are allocated, so a missing one costs time, not truth.
const COMMON_WORDS: [&str; 13] = [
    "",
    "chat",
    "completions",
    "embeddings",
    "responses",
    "stop",
    "tool_calls",
    "serve",
    "shadow",
    "accept",
    "audit",
    "miss",
    "feedback",
];

fn word(text: &str) -> Cow<'static, str> {
    match COMMON_WORDS.iter().find(|common| **common == text) {
        Some(common) => Cow::Borrowed(common),
        None => Cow::Owned(text.to_owned()),
    }
}

/// Tags as stored: `[["name","value"], …]`.
pub(super) fn tags_text(tags: &[(String, String)]) -> Result<Cow<'static, str>, StoreError> {
    if tags.is_empty() {
        return Ok(Cow::Borrowed(NO_TAGS));
    }
    serde_json::to_string(tags).map(Cow::Owned).map_err(|error| StoreError::Failed(error.into()))
}

/// A vector as stored.
pub(super) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vector.len() * 4);
    for number in vector {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// A count or time as stored. What exceeds 63 bits is clamped: no such value is real, and a ledger row must not fail.
pub(super) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// [`stored`] of a value that may be absent.
pub(super) fn stored_or_null(value: Option<u64>) -> Option<i64> {
    value.map(stored)
}
