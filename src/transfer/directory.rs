//! Specs of tenants, virtual keys and admin tokens as tables.
//!
//! A database has few of them and changes them as a whole, so they are read as a whole too. When a key was last used is
//! carried along and not compared: each database notes it for itself.

use super::codec::{BadBytes, Reader, Writer};
use super::rows;
use super::table::{Rows, Table};
use crate::ids::TenantId;
use crate::store::{BoxFuture, DirectoryWrite, KeyRow, StoreError, Stores, TenantRecord, TokenRow};

const PAGE: u32 = 10_000;

/// What specs, keys and tokens have in common.
pub(super) trait Listed: Rows {
    fn put(row: &Self::Row) -> DirectoryWrite;
    fn delete(key: Self::Key) -> DirectoryWrite;
}

/// The rows after a key, of all that are there by key.
fn page_of<R: Rows>(mut rows: Vec<R::Row>, after: Option<&R::Key>, limit: u32) -> Vec<R::Row> {
    rows.retain(|row| after.is_none_or(|after| R::key(row) > *after));
    rows.truncate(limit as usize);
    rows
}

/// Puts rows, whatever else is changed meanwhile.
async fn put_all<R: Listed>(stores: &Stores, rows: &[R::Row]) -> Result<(), StoreError> {
    let writes: Vec<DirectoryWrite> = rows.iter().map(R::put).collect();
    let mut done = writes.is_empty();
    while !done {
        let seen = stores.directory.directory_version().await?;
        done = stores.directory.change_directory(seen, &writes, &[]).await?.is_some();
    }
    Ok(())
}

/// The parts of [`Rows`] that are alike.
macro_rules! listed {
    ($table:ident, $row:ty, $key:ty, $make:path, $list:ident, $put:path, $get:path) => {
        const TABLE: Table = Table::$table;
        const PAGE: u32 = PAGE;

        fn show(key: &$key) -> String {
            key.to_string()
        }

        fn parse(text: &str) -> Option<$key> {
            Some($make(text))
        }

        fn encode(out: &mut Writer, row: &$row) {
            $put(out, row);
        }

        fn decode(reader: &mut Reader<'_>) -> Result<$row, BadBytes> {
            $get(reader)
        }

        fn page<'a>(stores: &'a Stores, after: Option<&'a $key>, limit: u32) -> BoxFuture<'a, Vec<$row>> {
            Box::pin(async move { Ok(page_of::<Self>(stores.directory.directory().await?.$list, after, limit)) })
        }

        fn one<'a>(stores: &'a Stores, key: &'a $key) -> BoxFuture<'a, Option<$row>> {
            Box::pin(async move {
                let rows = stores.directory.directory().await?.$list;
                Ok(rows.into_iter().find(|row| Self::key(row) == *key))
            })
        }

        fn mends(_: &$row, _: &$row) -> bool {
            true
        }

        fn write<'a>(stores: &'a Stores, rows: &'a [$row]) -> BoxFuture<'a, ()> {
            Box::pin(put_all::<Self>(stores, rows))
        }
    };
}

pub(super) enum Specs {}

impl Rows for Specs {
    type Row = TenantRecord;
    type Key = TenantId;

    listed!(Specs, TenantRecord, TenantId, TenantId::new, tenants, rows::put_spec, rows::spec);

    fn key(row: &TenantRecord) -> TenantId {
        row.tenant.clone()
    }
}

impl Listed for Specs {
    fn put(row: &TenantRecord) -> DirectoryWrite {
        DirectoryWrite::PutTenant(row.clone())
    }

    fn delete(key: TenantId) -> DirectoryWrite {
        DirectoryWrite::DeleteTenant(key)
    }
}

pub(super) enum Keys {}

impl Rows for Keys {
    type Row = KeyRow;
    type Key = String;

    listed!(Keys, KeyRow, String, String::from, keys, rows::put_key, rows::key);

    fn key(row: &KeyRow) -> String {
        row.id.clone()
    }

    fn compared(out: &mut Writer, row: &KeyRow) {
        rows::put_key(out, &KeyRow { used_at: None, ..row.clone() });
    }
}

impl Listed for Keys {
    fn put(row: &KeyRow) -> DirectoryWrite {
        DirectoryWrite::PutKey(row.clone())
    }

    fn delete(key: String) -> DirectoryWrite {
        DirectoryWrite::DeleteKey(key)
    }
}

pub(super) enum Tokens {}

impl Rows for Tokens {
    type Row = TokenRow;
    type Key = String;

    listed!(Tokens, TokenRow, String, String::from, tokens, rows::put_token, rows::token);

    fn key(row: &TokenRow) -> String {
        row.id.clone()
    }

    fn compared(out: &mut Writer, row: &TokenRow) {
        rows::put_token(out, &TokenRow { used_at: None, ..row.clone() });
    }
}

impl Listed for Tokens {
    fn put(row: &TokenRow) -> DirectoryWrite {
        DirectoryWrite::PutToken(row.clone())
    }

    fn delete(key: String) -> DirectoryWrite {
        DirectoryWrite::DeleteToken(key)
    }
}
