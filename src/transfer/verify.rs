//! `--verify`: whether two stores hold the same.
//!
//! Both are walked side by side and every row is compared by a hash of all its bytes. Rows that differ are looked at again
//! a little later, one by one, because the source and its shadow are never quite at the same point while requests are
//! served. Counts and digests are of the rows as they were compared, so for equal stores they are equal.
//!
//! Of tenants the times are not compared: they say when a database heard of the tenant. Nor is the time at which a key was
//! last used: each database notes it for itself. Decisions that are older than
//! the oldest of the source are not compared either: the source has forgotten them by its own rule.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::answers::Entries;
use super::directory::{Keys, Specs, Tokens};
use super::records::{Audit, Corrections, Decisions, Learned, Requests, Tenants};
use super::rem::Rem;
use super::secret::{self, Place};
use super::sum::Sum;
use super::table::{Rows, Table};
use super::walk::Walk;
use super::{Progress, TransferError};
use crate::ids::RequestId;
use crate::store::{Database, StoreError, Stores};

/// Rows of one table that are looked at again.
const SUSPECTS: usize = 10_000;
/// The same where looking at one row reads the table.
const FEW_SUSPECTS: usize = 100;
/// Waits before looking again.
const WAITS: [u64; 5] = [200, 400, 800, 1_600, 3_200];
/// Keys of rows that differ, named for each table.
const NAMED: usize = 5;

/// One side of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Rows.
    pub rows: u64,
    /// Digest of all rows, in whatever order.
    pub digest: String,
}

/// One table, compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Which.
    pub table: Table,
    /// What the source has.
    pub source: Side,
    /// What the destination has.
    pub destination: Side,
    /// Rows that differ or are on one side only.
    pub different: u64,
    /// Some of their keys.
    pub examples: Vec<String>,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// By table.
    pub tables: Vec<Checked>,
    /// Both have the same secret.
    pub secret: bool,
}

impl Verified {
    /// Nothing differs.
    pub fn equal(&self) -> bool {
        self.secret && self.tables.iter().all(|table| table.different == 0)
    }
}

/// Compares two databases; both are only read.
///
/// # Errors
/// See [`TransferError`].
pub async fn verify(from: &Place, to: &Place, progress: &Progress) -> Result<Verified, TransferError> {
    let source = Database::open_to_read(&from.url).await?;
    let destination = match Database::open_to_read(&to.url).await {
        Ok(destination) => destination,
        Err(error) => {
            source.close().await;
            return Err(error.into());
        }
    };
    let (here, there) = (source.stores(), destination.stores());
    let compared = async {
        let secret = secret::read(from, &here).await? == secret::read(to, &there).await?;
        Ok(Verified { tables: compare(&here, &there, progress).await?, secret })
    };
    let compared = compared.await;
    source.close().await;
    destination.close().await;
    compared
}

/// Compares all tables.
pub(super) async fn compare(
    source: &Stores,
    destination: &Stores,
    progress: &Progress,
) -> Result<Vec<Checked>, StoreError> {
    let oldest = source.decisions.since(None, 0, None, 1).await?;
    let oldest = oldest.first().and_then(|row| u128::from_be_bytes(row.request.to_bytes()).checked_sub(1));
    let oldest = oldest.map(|before| RequestId::from_bytes(before.to_be_bytes()));
    let pair = Pair { source, destination, progress };
    Ok(vec![
        pair.table::<Tenants>(None).await?,
        pair.table::<Entries>(None).await?,
        pair.table::<Requests>(None).await?,
        pair.table::<Decisions>(oldest).await?,
        pair.table::<Learned>(None).await?,
        pair.table::<Audit>(None).await?,
        pair.table::<Specs>(None).await?,
        pair.table::<Keys>(None).await?,
        pair.table::<Tokens>(None).await?,
        pair.table::<Corrections>(None).await?,
        pair.table::<Rem>(None).await?,
    ])
}

struct Pair<'a> {
    source: &'a Stores,
    destination: &'a Stores,
    progress: &'a Progress,
}

impl Pair<'_> {
    async fn table<R: Rows>(&self, after: Option<R::Key>) -> Result<Checked, StoreError> {
        let mut found = Comparison::<R>::default();
        let most = if R::TABLE.is_small() { FEW_SUSPECTS } else { SUSPECTS };
        let mut walk: Walk<'_, R> = Walk::new(self.source, Some(self.destination), after, None, u32::MAX);
        let mut rows = 0;
        while let Some(window) = walk.next().await? {
            let mut there: HashMap<String, (R::Key, [u8; 32])> = HashMap::new();
            for row in &window.destination {
                let key = R::key(row);
                there.insert(R::show(&key), (key, R::digest(row)));
            }
            for row in &window.source {
                let (key, here) = (R::key(row), R::digest(row));
                let other = there.remove(&R::show(&key)).map(|(_, digest)| digest);
                found.pair(key, Some(here), other, most);
            }
            for (key, digest) in there.into_values() {
                found.pair(key, None, Some(digest), most);
            }
            rows += window.source.len() as u64;
            (self.progress)(R::TABLE, rows, None);
        }
        for wait in WAITS {
            if found.suspects.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
            for key in std::mem::take(&mut found.suspects) {
                let (here, there) = self.both::<R>(&key).await?;
                found.pair(key, here, there, most);
            }
        }
        for key in std::mem::take(&mut found.suspects) {
            let (here, there) = self.both::<R>(&key).await?;
            found.pair(key, here, there, 0);
        }
        Ok(found.checked())
    }

    async fn both<R: Rows>(&self, key: &R::Key) -> Result<(Option<[u8; 32]>, Option<[u8; 32]>), StoreError> {
        let here = R::one(self.source, key).await?;
        let there = R::one(self.destination, key).await?;
        Ok((here.as_ref().map(R::digest), there.as_ref().map(R::digest)))
    }
}

struct Comparison<R: Rows> {
    source: Sum,
    destination: Sum,
    suspects: BTreeSet<R::Key>,
    different: u64,
    examples: Vec<String>,
}

impl<R: Rows> Default for Comparison<R> {
    fn default() -> Self {
        Self {
            source: Sum::default(),
            destination: Sum::default(),
            suspects: BTreeSet::new(),
            different: 0,
            examples: Vec::new(),
        }
    }
}

impl<R: Rows> Comparison<R> {
    /// Counts a row by its hash on both sides. If they differ it is put off, unless `most` already are.
    fn pair(&mut self, key: R::Key, source: Option<[u8; 32]>, destination: Option<[u8; 32]>, most: usize) {
        if source != destination && self.suspects.len() < most {
            self.suspects.insert(key);
            return;
        }
        if source != destination {
            self.different += 1;
            if self.examples.len() < NAMED {
                self.examples.push(R::show(&key));
            }
        }
        if let Some(digest) = source {
            self.source.add(&digest);
        }
        if let Some(digest) = destination {
            self.destination.add(&digest);
        }
    }

    fn checked(self) -> Checked {
        let side = |sum: Sum| Side { rows: sum.rows, digest: sum.hex() };
        Checked {
            table: R::TABLE,
            source: side(self.source),
            destination: side(self.destination),
            different: self.different,
            examples: self.examples,
        }
    }
}
