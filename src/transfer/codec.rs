//! Bytes of single values: fixed widths, little-endian, lengths before what is of any length.
//!
//! One form for two uses: a digest of a row is a hash of its bytes, and a backup is made of them. So equal rows have
//! equal bytes whichever database they come from, and what a backup holds can be checked against a store.
//!
//! Reading never panics and never takes more memory than there are bytes.

use std::borrow::Cow;

/// The bytes are not what this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row cannot be read: {0}")]
pub struct BadBytes(pub(super) &'static str);

/// Appends values to bytes.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    pub(super) fn money(&mut self, number: i64) {
        self.raw(&number.to_le_bytes());
    }

    pub(super) fn small(&mut self, number: u16) {
        self.raw(&number.to_le_bytes());
    }

    pub(super) fn real(&mut self, number: f32) {
        self.raw(&number.to_bits().to_le_bytes());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.raw(&[u8::from(flag)]);
    }

    pub(super) fn reals(&mut self, numbers: &[f32]) {
        self.number(numbers.len() as u64);
        for number in numbers {
            self.real(*number);
        }
    }

    pub(super) fn tags(&mut self, tags: &[(String, String)]) {
        self.number(tags.len() as u64);
        for (name, value) in tags {
            self.text(name);
            self.text(value);
        }
    }

    pub(super) fn maybe<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }
}

/// Takes values from bytes, in the order in which they were written.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), BadBytes> {
        if self.0.is_empty() { Ok(()) } else { Err(BadBytes("bytes are left over")) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], BadBytes> {
        let count = usize::try_from(count).map_err(|_| BadBytes("it ends early"))?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadBytes("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBytes> {
        let taken = self.take(N as u64)?;
        <[u8; N]>::try_from(taken).map_err(|_| BadBytes("it ends early"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], BadBytes> {
        let length = self.number()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, BadBytes> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BadBytes("a text is not UTF-8"))
    }

    pub(super) fn string(&mut self) -> Result<String, BadBytes> {
        self.text().map(str::to_owned)
    }

    pub(super) fn word(&mut self) -> Result<Cow<'static, str>, BadBytes> {
        self.string().map(Cow::Owned)
    }

    pub(super) fn number(&mut self) -> Result<u64, BadBytes> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn money(&mut self) -> Result<i64, BadBytes> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn small(&mut self) -> Result<u16, BadBytes> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn real(&mut self) -> Result<f32, BadBytes> {
        self.array().map(|bytes| f32::from_bits(u32::from_le_bytes(bytes)))
    }

    pub(super) fn flag(&mut self) -> Result<bool, BadBytes> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(BadBytes("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, BadBytes>,
    ) -> Result<Vec<T>, BadBytes> {
        let count = self.number()?;
        // Not reserved: the count may be wrong.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(super) fn reals(&mut self) -> Result<Vec<f32>, BadBytes> {
        self.list(Self::real)
    }

    pub(super) fn tags(&mut self) -> Result<Vec<(String, String)>, BadBytes> {
        self.list(|reader| Ok((reader.string()?, reader.string()?)))
    }

    pub(super) fn maybe<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, BadBytes>,
    ) -> Result<Option<T>, BadBytes> {
        if self.flag()? { item(self).map(Some) } else { Ok(None) }
    }
}
