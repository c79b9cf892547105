//! Entries as a table: whole, and by all but their bodies.

use std::sync::Arc;

use super::codec::{BadBytes, Reader, Writer};
use super::rows;
use super::table::{Rows, Table};
use crate::ids::{EntryId, TenantId};
use crate::store::{BoxFuture, Cursor, Entry, EntryMeta, EntryWrite, Exported, Loaded, Point, Stores};

/// Entries whole.
pub(super) enum Entries {}

/// Entries without their bodies, of which the lengths are compared. A body never changes while its entry lives.
pub(super) enum Heads {}

/// Owner and entry, in the order of both.
pub(super) type EntryKey = (TenantId, EntryId);

pub(super) fn cursor(key: &EntryKey) -> Cursor {
    Cursor { tenant: key.0.clone(), entry: key.1 }
}

fn show_entry(key: &EntryKey) -> String {
    format!("{}/{}", key.1, key.0)
}

fn parse_entry(text: &str) -> Option<EntryKey> {
    let (entry, tenant) = text.split_once('/')?;
    Some((TenantId::new(tenant), entry.parse().ok()?))
}

/// What [`Heads`] would say of a whole entry.
pub(super) fn head(exported: &Exported) -> Loaded {
    let meta = EntryMeta {
        entry: Entry { body: bytes::Bytes::new(), ..exported.entry.clone() },
        body_len: exported.entry.body.len() as u64,
    };
    Loaded { meta, points: exported.points.clone() }
}

pub(super) fn put(exported: &Exported) -> EntryWrite {
    EntryWrite::Put { entry: Arc::new(exported.entry.clone()), points: exported.points.clone() }
}

fn points_weight(points: &[Point]) -> usize {
    let of = |point: &Point| {
        512 + 4 * point.vector.as_ref().map_or(0, Vec::len) + point.prompt.as_ref().map_or(0, String::len)
    };
    512 + points.iter().map(of).sum::<usize>()
}

impl Rows for Entries {
    type Row = Exported;
    type Key = EntryKey;
    const TABLE: Table = Table::Entries;
    const PAGE: u32 = 256;

    fn key(row: &Exported) -> EntryKey {
        (row.entry.tenant.clone(), row.entry.id)
    }

    fn show(key: &EntryKey) -> String {
        show_entry(key)
    }

    fn parse(text: &str) -> Option<EntryKey> {
        parse_entry(text)
    }

    fn encode(out: &mut Writer, row: &Exported) {
        rows::put_entry(out, row);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Exported, BadBytes> {
        rows::entry(reader)
    }

    fn page<'a>(stores: &'a Stores, after: Option<&'a EntryKey>, limit: u32) -> BoxFuture<'a, Vec<Exported>> {
        Box::pin(async move {
            let after = after.map(cursor);
            stores.entries.export(after.as_ref(), limit).await
        })
    }

    fn one<'a>(stores: &'a Stores, key: &'a EntryKey) -> BoxFuture<'a, Option<Exported>> {
        Box::pin(async move {
            let Some(entry) = stores.entries.entry(&key.0, key.1).await? else { return Ok(None) };
            let points = stores.entries.points_of(&key.0, key.1).await?;
            Ok(Some(Exported { entry, points }))
        })
    }

    fn mends(_: &Exported, _: &Exported) -> bool {
        true
    }

    fn weight(row: &Exported) -> usize {
        row.entry.body.len() + points_weight(&row.points)
    }

    fn write<'a>(stores: &'a Stores, rows: &'a [Exported]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let writes: Vec<EntryWrite> = rows.iter().map(put).collect();
            stores.entries.apply(&writes).await
        })
    }
}

impl Rows for Heads {
    type Row = Loaded;
    type Key = EntryKey;
    const TABLE: Table = Table::Entries;
    const PAGE: u32 = 512;

    fn key(row: &Loaded) -> EntryKey {
        (row.meta.entry.tenant.clone(), row.meta.entry.id)
    }

    fn show(key: &EntryKey) -> String {
        show_entry(key)
    }

    fn parse(text: &str) -> Option<EntryKey> {
        parse_entry(text)
    }

    fn encode(out: &mut Writer, row: &Loaded) {
        rows::put_loaded(out, row);
    }

    fn decode(_: &mut Reader<'_>) -> Result<Loaded, BadBytes> {
        Err(BadBytes("an entry without its body is never written"))
    }

    fn page<'a>(stores: &'a Stores, after: Option<&'a EntryKey>, limit: u32) -> BoxFuture<'a, Vec<Loaded>> {
        Box::pin(async move {
            let after = after.map(cursor);
            // Of all times: what has expired is carried too, until it is swept.
            stores.entries.scan(0, after.as_ref(), limit).await
        })
    }

    fn one<'a>(stores: &'a Stores, key: &'a EntryKey) -> BoxFuture<'a, Option<Loaded>> {
        Box::pin(async move { Ok(stores.entries.load(std::slice::from_ref(key)).await?.pop()) })
    }

    fn mends(_: &Loaded, _: &Loaded) -> bool {
        true
    }

    fn weight(row: &Loaded) -> usize {
        points_weight(&row.points)
    }

    /// Heads are for looking only.
    fn write<'a>(_: &'a Stores, _: &'a [Loaded]) -> BoxFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
