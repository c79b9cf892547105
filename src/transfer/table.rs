//! Each kind of row as a table that can be walked in key order, written and digested.
//!
//! Over the storage traits alone, so that it is the same for every database. Keys order as the databases order them: ids
//! by their bytes, texts by their bytes.

use std::fmt;

use super::codec::{BadBytes, Reader, Writer};
use crate::clock::UnixMs;
use crate::store::{BoxFuture, Stores};

/// What is carried from store to store, in this order: corrections after the rows that they correct, REM data after the entries
/// and ledger rows that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Tenants.
    Tenants,
    /// Answers with their points.
    Entries,
    /// The requests ledger.
    Requests,
    /// Decisions of the semantic tier.
    Decisions,
    /// What was learnt from them.
    Learned,
    /// The audit of admin changes.
    Audit,
    /// What tenants are held to.
    Specs,
    /// Virtual keys.
    Keys,
    /// Admin tokens.
    Tokens,
    /// Corrections of the ledger.
    Corrections,
    /// REM data.
    Rem,
}

impl Table {
    /// All, in the order in which they are carried.
    pub const ALL: [Self; 11] = [
        Self::Tenants,
        Self::Entries,
        Self::Requests,
        Self::Decisions,
        Self::Learned,
        Self::Audit,
        Self::Specs,
        Self::Keys,
        Self::Tokens,
        Self::Corrections,
        Self::Rem,
    ];

    /// Name in reports and checkpoints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Entries => "entries",
            Self::Requests => "requests",
            Self::Decisions => "decisions",
            Self::Learned => "learned",
            Self::Audit => "audit",
            Self::Specs => "specs",
            Self::Keys => "keys",
            Self::Tokens => "tokens",
            Self::Corrections => "corrections",
            Self::Rem => "rem",
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Tenants => 1,
            Self::Entries => 2,
            Self::Requests => 3,
            Self::Decisions => 4,
            Self::Learned => 5,
            Self::Audit => 6,
            Self::Specs => 7,
            Self::Keys => 8,
            Self::Tokens => 9,
            Self::Corrections => 10,
            Self::Rem => 11,
        }
    }

    /// Whether it has few rows, which are read all at once.
    pub(super) fn is_small(self) -> bool {
        matches!(self, Self::Tenants | Self::Learned | Self::Specs | Self::Keys | Self::Tokens)
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.code() == code)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A table. Pages are read after a key; one with fewer rows than it may have is the end, as of then.
pub(super) trait Rows: Send + Sync + 'static {
    type Row: Clone + Send + Sync + 'static;
    type Key: Ord + Clone + Send + Sync + 'static;
    const TABLE: Table;
    /// Most rows of one page.
    const PAGE: u32;
    /// What is gone at the source is deleted by [`Rows::remove`].
    const FOLLOWS_DELETES: bool = false;

    fn key(row: &Self::Row) -> Self::Key;
    /// How a key is written in reports and checkpoints.
    fn show(key: &Self::Key) -> String;
    /// The inverse of [`Rows::show`].
    fn parse(text: &str) -> Option<Self::Key>;
    /// All of a row.
    fn encode(out: &mut Writer, row: &Self::Row);
    fn decode(reader: &mut Reader<'_>) -> Result<Self::Row, BadBytes>;
    /// What has to be equal on both sides; all of the row unless there is more to say.
    fn compared(out: &mut Writer, row: &Self::Row) {
        Self::encode(out, row);
    }
    fn page<'a>(stores: &'a Stores, after: Option<&'a Self::Key>, limit: u32) -> BoxFuture<'a, Vec<Self::Row>>;
    fn one<'a>(stores: &'a Stores, key: &'a Self::Key) -> BoxFuture<'a, Option<Self::Row>>;
    /// Whether writing the source's row over the destination's, which differs, makes them equal.
    fn mends(source: &Self::Row, destination: &Self::Row) -> bool;
    /// Adds rows, and brings up to date what can be.
    fn write<'a>(stores: &'a Stores, rows: &'a [Self::Row]) -> BoxFuture<'a, ()>;
    /// Deletes rows of the destination.
    fn remove<'a>(_: &'a Stores, _: &'a [Self::Row]) -> BoxFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
    /// About how many bytes a row takes, so that a page of large rows has fewer.
    fn weight(_row: &Self::Row) -> usize {
        512
    }

    /// Hash of what is compared.
    fn digest(row: &Self::Row) -> [u8; 32] {
        let mut out = Writer::default();
        Self::compared(&mut out, row);
        *blake3::hash(&out.into_bytes()).as_bytes()
    }
}

/// About how many bytes of rows a page should have.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// The smallest id of a time, for all kinds of id.
pub(super) fn floor(at: UnixMs) -> [u8; 16] {
    // 48 bits of time lead an id.
    ((u128::from(at) & 0xffff_ffff_ffff) << 80).to_be_bytes()
}
