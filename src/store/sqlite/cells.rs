//! Reads a row cell by cell in the order of its column list. Ids and digests are blobs; the other forms are in
//! `forms.rs`.

use std::borrow::Cow;

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

pub(super) use super::super::forms::{stored, stored_or_null, tags_text, vector_bytes};
use super::super::forms::{tags_of, vector_of, word};
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
        bytes.map(vector_of).transpose().map_err(|error| self.bad(&error))
    }

    pub(super) fn tags(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let text: &str = self.take()?;
        tags_of(text).map_err(|error| self.bad(&error))
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
