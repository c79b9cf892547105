//! From a store to a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::answers::Entries;
use super::super::codec::Writer;
use super::super::directory::{Keys, Specs, Tokens};
use super::super::records::{Audit, Corrections, Decisions, Learned, Requests, Tenants};
use super::super::rem::Rem;
use super::super::sum::Sum;
use super::super::table::{Rows, Table};
use super::super::verify::Side;
use super::super::walk::Walk;
use super::super::{Progress, TransferError, data_keys, rem_notes};
use super::BackupReport;
use super::format::{
    BlockWriter, DIRECTORY_FORMAT, FORMAT, HEADER, LEDGER_FORMAT, SEALED_FORMAT, SECRET, TRAILER, UNSEALED_FORMAT,
};
use crate::clock::Clock;
use crate::config::StoreUrl;
use crate::store::Stores;

/// Bytes of rows from which on a block is written.
const BLOCK_BYTES: usize = 1 << 20;

/// Notes that are in the header.
pub(super) struct Notes {
    /// Wrapped data keys.
    pub(super) keys: data_keys::Notes,
    /// What they say about REM data.
    pub(super) rem: rem_notes::Notes,
}

pub(super) async fn all(
    stores: &Stores,
    secret: Option<&[u8; 32]>,
    notes: &Notes,
    url: &StoreUrl,
    file: &Path,
    progress: &Progress,
) -> Result<BackupReport, TransferError> {
    let mut writer = BlockWriter::create(file)?;
    let counts = stores.entries.counts().await?;
    let requests = stores.ledger.count().await?;
    let directory = stores.directory.directory().await?;
    let rem = !Rem::page(stores, None, 1).await?.is_empty();
    // As of the beginning; what is in the file is told at its end.
    let header = json!({
        // Without what an older program does not know it can read the file too.
        "format": match (rem, requests, directory.version, notes.keys.is_empty()) {
            (true, ..) => FORMAT,
            (false, 1.., ..) => LEDGER_FORMAT,
            (false, 0, 1.., _) => DIRECTORY_FORMAT,
            (false, 0, 0, false) => SEALED_FORMAT,
            (false, 0, 0, true) => UNSEALED_FORMAT,
        },
        "data_keys": notes.keys,
        "rem_notes": notes.rem,
        "program": env!("CARGO_PKG_VERSION"),
        "made_at": Clock::system().now_ms(),
        "source": if url.is_shared() { "postgres" } else { "sqlite" },
        "entries": counts.entries,
        "points": counts.points,
        "requests": requests,
    });
    writer.block(HEADER, 1, header.to_string().as_bytes())?;
    writer.block(SECRET, u32::from(secret.is_some()), secret.map_or(&[][..], |secret| &secret[..]))?;
    let mut tables = BTreeMap::new();
    table::<Tenants>(stores, &mut writer, None, progress, &mut tables).await?;
    table::<Entries>(stores, &mut writer, Some(counts.entries), progress, &mut tables).await?;
    table::<Requests>(stores, &mut writer, Some(requests), progress, &mut tables).await?;
    table::<Decisions>(stores, &mut writer, None, progress, &mut tables).await?;
    table::<Learned>(stores, &mut writer, None, progress, &mut tables).await?;
    table::<Audit>(stores, &mut writer, None, progress, &mut tables).await?;
    table::<Specs>(stores, &mut writer, None, progress, &mut tables).await?;
    table::<Keys>(stores, &mut writer, None, progress, &mut tables).await?;
    table::<Tokens>(stores, &mut writer, None, progress, &mut tables).await?;
    table::<Corrections>(stores, &mut writer, None, progress, &mut tables).await?;
    // Rows that came since the format was said are for the next backup: an older program could not read this one.
    if rem {
        table::<Rem>(stores, &mut writer, None, progress, &mut tables).await?;
    } else {
        tables.insert(Table::Rem, Side { rows: 0, digest: Sum::default().hex() });
    }
    writer.block(TRAILER, 1, trailer(&tables).as_bytes())?;
    Ok(BackupReport { tables, bytes: writer.finish()? })
}

fn trailer(tables: &BTreeMap<Table, Side>) -> String {
    let of = |(table, side): (&Table, &Side)| {
        (table.as_str().to_owned(), json!({ "rows": side.rows, "digest": side.digest }))
    };
    Value::Object(tables.iter().map(of).collect::<Map<_, _>>()).to_string()
}

async fn table<R: Rows>(
    stores: &Stores,
    writer: &mut BlockWriter,
    of: Option<u64>,
    progress: &Progress,
    tables: &mut BTreeMap<Table, Side>,
) -> Result<(), TransferError> {
    let mut sum = Sum::default();
    let (mut block, mut rows) = (Writer::default(), 0);
    let mut walk: Walk<'_, R> = Walk::new(stores, None, None, None, u32::MAX);
    while let Some(window) = walk.next().await? {
        for row in &window.source {
            let mut bytes = Writer::default();
            R::encode(&mut bytes, row);
            let bytes = bytes.into_bytes();
            sum.add(blake3::hash(&bytes).as_bytes());
            block.bytes(&bytes);
            rows += 1;
            if block.len() >= BLOCK_BYTES {
                writer.block(R::TABLE.code(), rows, &std::mem::take(&mut block).into_bytes())?;
                rows = 0;
            }
        }
        progress(R::TABLE, sum.rows, of);
    }
    if rows > 0 {
        writer.block(R::TABLE.code(), rows, &block.into_bytes())?;
    }
    tables.insert(R::TABLE, Side { rows: sum.rows, digest: sum.hex() });
    Ok(())
}
