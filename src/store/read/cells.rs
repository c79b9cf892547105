//! Reads a row cell by cell in the order of its column list, whichever database it comes from. Ids and digests are bytes; the other
//! forms are in `forms.rs`.

use std::borrow::Cow;

use sqlx::{ColumnIndex, Decode, Row, Type};

use super::super::forms::{vector_of, word};
use super::super::{Digest, StoreError};

/// A row whose driver makes a `T` of a cell.
pub(in crate::store) trait Cell<'r, T> {
    fn cell(&'r self, at: usize) -> Result<T, sqlx::Error>;
}

impl<'r, T, R> Cell<'r, T> for R
where
    R: Row,
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    fn cell(&'r self, at: usize) -> Result<T, sqlx::Error> {
        self.try_get(at)
    }
}

/// A row of either database: what a driver makes of a cell in both of them, and what is stored in another form in each.
pub(in crate::store) trait StoredRow<'r>:
    Cell<'r, bool>
    + Cell<'r, Option<bool>>
    + Cell<'r, i32>
    + Cell<'r, Option<i32>>
    + Cell<'r, i64>
    + Cell<'r, Option<i64>>
    + Cell<'r, f32>
    + Cell<'r, Option<f32>>
    + Cell<'r, &'r str>
    + Cell<'r, Option<&'r str>>
    + Cell<'r, &'r [u8]>
    + Cell<'r, Option<&'r [u8]>>
    + Cell<'r, Vec<u8>>
    + Cell<'r, Option<Vec<u8>>>
    + Sized
{
    /// A text as it was before it was stored.
    fn text(stored: &str) -> Cow<'_, str>;

    /// Tags as they were before they were stored.
    fn tags(stored: &str) -> Result<Vec<(String, String)>, serde_json::Error>;
}

/// A row being read from left to right.
pub(in crate::store) struct Cells<'r, R> {
    table: &'static str,
    row: &'r R,
    next: usize,
}

impl<'r, R: StoredRow<'r>> Cells<'r, R> {
    pub(in crate::store) fn of(table: &'static str, row: &'r R) -> Self {
        Self { table, row, next: 0 }
    }

    /// The next cell as whatever the database driver can make of it; for texts there is [`Self::text`].
    pub(in crate::store) fn take<T>(&mut self) -> Result<T, StoreError>
    where
        R: Cell<'r, T>,
    {
        let at = self.next;
        self.next += 1;
        self.row.cell(at).map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn text(&mut self) -> Result<Cow<'r, str>, StoreError> {
        Ok(R::text(self.take()?))
    }

    pub(in crate::store) fn string(&mut self) -> Result<String, StoreError> {
        self.text().map(Cow::into_owned)
    }

    pub(in crate::store) fn text_or_null(&mut self) -> Result<Option<String>, StoreError> {
        let text: Option<&str> = self.take()?;
        Ok(text.map(|text| R::text(text).into_owned()))
    }

    pub(in crate::store) fn count(&mut self) -> Result<u64, StoreError> {
        let value: i64 = self.take()?;
        u64::try_from(value).map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn count_or_null(&mut self) -> Result<Option<u64>, StoreError> {
        let value: Option<i64> = self.take()?;
        value.map(u64::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn small(&mut self) -> Result<u16, StoreError> {
        let value: i32 = self.take()?;
        u16::try_from(value).map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn small_or_null(&mut self) -> Result<Option<u16>, StoreError> {
        let value: Option<i32> = self.take()?;
        value.map(u16::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn id(&mut self) -> Result<[u8; 16], StoreError> {
        let bytes: &[u8] = self.take()?;
        bytes.try_into().map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn id_or_null(&mut self) -> Result<Option<[u8; 16]>, StoreError> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes.map(<[u8; 16]>::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn digest(&mut self) -> Result<Digest, StoreError> {
        let bytes: &[u8] = self.take()?;
        bytes.try_into().map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn digest_or_null(&mut self) -> Result<Option<Digest>, StoreError> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes.map(Digest::try_from).transpose().map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn vector_or_null(&mut self) -> Result<Option<Vec<f32>>, StoreError> {
        let bytes: Option<&[u8]> = self.take()?;
        bytes.map(vector_of).transpose().map_err(|error| self.bad(&error))
    }

    pub(in crate::store) fn tags(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let text: &str = self.take()?;
        R::tags(text).map_err(|error| self.bad(&error))
    }

    /// A word from a closed list; the common ones cost no allocation.
    pub(in crate::store) fn word(&mut self) -> Result<Cow<'static, str>, StoreError> {
        Ok(word(&self.text()?))
    }

    pub(in crate::store) fn word_or_null(&mut self) -> Result<Option<Cow<'static, str>>, StoreError> {
        let text: Option<&str> = self.take()?;
        Ok(text.map(|text| word(&R::text(text))))
    }

    pub(in crate::store) fn bad(&self, detail: &dyn ToString) -> StoreError {
        StoreError::BadRow { table: self.table, detail: format!("column {}: {}", self.next, detail.to_string()) }
    }
}
