//! From a file to a store. Nothing is believed before its digest has been checked.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::super::answers::Entries;
use super::super::codec::{BadBytes, Reader};
use super::super::directory::{Keys, Specs, Tokens};
use super::super::records::{Audit, Corrections, Decisions, Learned, Requests, Tenants};
use super::super::rem::Rem;
use super::super::sum::Sum;
use super::super::table::{Rows, Table};
use super::super::verify::Side;
use super::super::{Progress, TransferError};
use super::format::{Block, BlockReader, FORMAT, HEADER, SECRET, TRAILER};
use crate::clock::UnixMs;
use crate::store::{StoreError, Stores};

/// Tries of a write that the destination refuses because of an invalidation there.
const OBEY_TRIES: u32 = 8;

/// How to restore.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreOptions {
    /// Check only.
    pub dry_run: bool,
    /// Add to what is there.
    pub merge: bool,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// By table.
    pub tables: BTreeMap<Table, Side>,
    /// Version of the program that wrote it.
    pub program: String,
    /// `sqlite` or `postgres`.
    pub source: String,
    /// When it was begun.
    pub made_at: UnixMs,
    /// Wrapped data keys of sealed tenants, by the names of their notes.
    pub data_keys: BTreeMap<String, String>,
    /// Notes about REM data: whose was deleted, and how far the ledger was filled from.
    pub rem_notes: BTreeMap<String, String>,
}

/// Checks every byte of a backup and reads every row of it.
///
/// # Errors
/// It cannot be read, is damaged, or is of a newer program.
pub fn check(file: &Path) -> Result<Found, TransferError> {
    checked(file).map(|(found, _)| found)
}

/// [`check`], with the secret.
pub(super) fn checked(file: &Path) -> Result<(Found, Option<[u8; 32]>), TransferError> {
    let (mut reader, header, secret) = begin(file)?;
    let mut sums: BTreeMap<Table, Sum> = Table::ALL.into_iter().map(|table| (table, Sum::default())).collect();
    let trailer = loop {
        let block = reader.next()?;
        if block.kind == TRAILER {
            break block;
        }
        let Some(table) = Table::from_code(block.kind) else { return Err(reader.damaged("a block of no table")) };
        let sum = sums.entry(table).or_default();
        let read = match table {
            Table::Tenants => each::<Tenants>(&block, |_| {}, sum),
            Table::Entries => each::<Entries>(&block, |_| {}, sum),
            Table::Requests => each::<Requests>(&block, |_| {}, sum),
            Table::Decisions => each::<Decisions>(&block, |_| {}, sum),
            Table::Learned => each::<Learned>(&block, |_| {}, sum),
            Table::Audit => each::<Audit>(&block, |_| {}, sum),
            Table::Specs => each::<Specs>(&block, |_| {}, sum),
            Table::Keys => each::<Keys>(&block, |_| {}, sum),
            Table::Tokens => each::<Tokens>(&block, |_| {}, sum),
            Table::Corrections => each::<Corrections>(&block, |_| {}, sum),
            Table::Rem => each::<Rem>(&block, |_| {}, sum),
        };
        read.map_err(|error| reader.damaged(error.to_string()))?;
    };
    let side = |(table, sum): (Table, Sum)| (table, Side { rows: sum.rows, digest: sum.hex() });
    let tables: BTreeMap<Table, Side> = sums.into_iter().map(side).collect();
    let format = header.get("format").and_then(Value::as_u64).unwrap_or_default();
    let told: Value = serde_json::from_slice(&trailer.bytes).unwrap_or_default();
    for (table, side) in &tables {
        let told = told.get(table.as_str());
        // An older program does not know all tables.
        if told.is_none() && side.rows == 0 && format < u64::from(FORMAT) {
            continue;
        }
        let rows = told.and_then(|told| told.get("rows")).and_then(Value::as_u64);
        let digest = told.and_then(|told| told.get("digest")).and_then(Value::as_str);
        if rows != Some(side.rows) || digest != Some(side.digest.as_str()) {
            return Err(reader.damaged(format!("the rows of `{table}` are not those that were written")));
        }
    }
    let text = |name: &str| header.get(name).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let made_at = header.get("made_at").and_then(Value::as_u64).unwrap_or_default();
    // An older program writes none.
    let notes = |name: &str| header.get(name).cloned().map(serde_json::from_value).transpose();
    let data_keys = notes("data_keys").map_err(|_| reader.damaged("its data keys cannot be read"))?.unwrap_or_default();
    let rem_notes = notes("rem_notes").map_err(|_| reader.damaged("its notes cannot be read"))?.unwrap_or_default();
    Ok((Found { tables, program: text("program"), source: text("source"), made_at, data_keys, rem_notes }, secret))
}

/// Reads up to the rows.
fn begin(file: &Path) -> Result<(BlockReader, Value, Option<[u8; 32]>), TransferError> {
    let mut reader = BlockReader::open(file)?;
    let header = reader.next()?;
    let described: Value = serde_json::from_slice(&header.bytes).unwrap_or_default();
    let format = described.get("format").and_then(Value::as_u64).and_then(|format| u32::try_from(format).ok());
    match format {
        Some(format) if header.kind == HEADER && (1..=FORMAT).contains(&format) => {}
        Some(found) if header.kind == HEADER && found > FORMAT => {
            return Err(TransferError::NewerBackup { path: reader.path().to_owned(), found, known: FORMAT });
        }
        _ => return Err(reader.damaged("it has no header")),
    }
    let secret = reader.next()?;
    let bytes = <[u8; 32]>::try_from(secret.bytes.as_slice());
    match (secret.kind, secret.rows, bytes) {
        (SECRET, 1, Ok(bytes)) => Ok((reader, described, Some(bytes))),
        (SECRET, 0, _) => Ok((reader, described, None)),
        _ => Err(reader.damaged("it has no secret")),
    }
}

/// Hands on each row of a block.
fn each<R: Rows>(block: &Block, mut take: impl FnMut(R::Row), sum: &mut Sum) -> Result<(), BadBytes> {
    let mut reader = Reader::new(&block.bytes);
    let mut rows = 0;
    while !reader.is_empty() {
        let bytes = reader.bytes()?;
        let mut row = Reader::new(bytes);
        take(R::decode(&mut row)?);
        row.end()?;
        sum.add(blake3::hash(bytes).as_bytes());
        rows += 1;
    }
    if rows == block.rows { Ok(()) } else { Err(BadBytes("a block has another number of rows than it says")) }
}

/// Writes all rows of a file that has been checked.
pub(super) async fn write(
    file: &Path,
    found: &Found,
    stores: &Stores,
    merge: bool,
    progress: &Progress,
) -> Result<(), TransferError> {
    let (mut reader, _, _) = begin(file)?;
    let mut done: BTreeMap<Table, u64> = BTreeMap::new();
    loop {
        let block = reader.next()?;
        if block.kind == TRAILER {
            return Ok(());
        }
        let Some(table) = Table::from_code(block.kind) else { return Err(reader.damaged("a block of no table")) };
        let written = match table {
            Table::Tenants => block_of::<Tenants>(stores, &block, merge).await,
            Table::Entries => block_of::<Entries>(stores, &block, merge).await,
            Table::Requests => block_of::<Requests>(stores, &block, merge).await,
            Table::Decisions => block_of::<Decisions>(stores, &block, merge).await,
            Table::Learned => block_of::<Learned>(stores, &block, merge).await,
            Table::Audit => block_of::<Audit>(stores, &block, merge).await,
            Table::Specs => block_of::<Specs>(stores, &block, merge).await,
            Table::Keys => block_of::<Keys>(stores, &block, merge).await,
            Table::Tokens => block_of::<Tokens>(stores, &block, merge).await,
            Table::Corrections => block_of::<Corrections>(stores, &block, merge).await,
            Table::Rem => block_of::<Rem>(stores, &block, merge).await,
        };
        if let Err(bad) = written? {
            return Err(reader.damaged(bad.to_string()));
        }
        let rows = done.entry(table).or_default();
        *rows += u64::from(block.rows);
        progress(table, *rows, found.tables.get(&table).map(|side| side.rows));
    }
}

async fn block_of<R: Rows>(stores: &Stores, block: &Block, merge: bool) -> Result<Result<(), BadBytes>, StoreError> {
    let mut rows = Vec::new();
    if let Err(bad) = each::<R>(block, |row| rows.push(row), &mut Sum::default()) {
        return Ok(Err(bad));
    }
    // The other tables keep what they have by themselves.
    if merge && R::TABLE.is_small() {
        let there = R::page(stores, None, u32::MAX).await?;
        let there: HashSet<String> = there.iter().map(|row| R::show(&R::key(row))).collect();
        rows.retain(|row| !there.contains(&R::show(&R::key(row))));
    } else if merge && matches!(R::TABLE, Table::Decisions | Table::Rem) {
        let mut missing = Vec::new();
        for row in rows {
            if R::one(stores, &R::key(&row)).await?.is_none() {
                missing.push(row);
            }
        }
        rows = missing;
    }
    let mut tries = 0;
    loop {
        match R::write(stores, &rows).await {
            Err(StoreError::Behind) if tries < OBEY_TRIES => {
                tries += 1;
                obey(stores).await?;
            }
            done => return done.map(Ok),
        }
    }
}

/// Says to a database that replicas share that its invalidations are known, or it refuses to store anything.
async fn obey(stores: &Stores) -> Result<(), StoreError> {
    if let Some(changes) = &stores.changes {
        let head = changes.feed(u64::MAX >> 1, 1).await?.head;
        changes.obeyed(head);
    }
    Ok(())
}
