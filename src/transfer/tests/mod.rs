//! Copies, comparisons and backups between real databases.

mod backups;
mod copies;
mod engines;
mod samples;
mod sealed;

use std::path::Path;
use std::sync::Arc;

use super::secret::write_private;
use super::{CopyOptions, CopyReport, Place, Progress, Table, TransferError, copy, verify};
use crate::config::{Migrate, StoreUrl};
use crate::store::{Database, Stores};

/// The secret of the databases that these tests begin with.
const SECRET: [u8; 32] = [7; 32];

fn quiet() -> Progress {
    Arc::new(|_, _, _| {})
}

fn sqlite(directory: &Path, name: &str) -> Place {
    Place::new(StoreUrl::Sqlite(directory.join(name)))
}

/// A database with a secret, handed open to `work` and then closed.
async fn with<F: Future<Output = ()>>(place: &Place, work: impl FnOnce(Stores) -> F) {
    let database = Database::open(&place.url, Migrate::Auto).await.unwrap();
    let stores = database.stores();
    match place.key_file() {
        Some(key) if !key.exists() => write_private(&key, &SECRET).unwrap(),
        Some(_) => {}
        None => {
            super::secret::give(place, &stores, &SECRET).await.unwrap();
        }
    }
    work(stores).await;
    database.close().await;
}

async fn copied(from: &Place, to: &Place) -> CopyReport {
    copy(from, to, &CopyOptions::default(), &quiet()).await.unwrap()
}

/// Both hold the same and have the same secret.
async fn assert_equal(a: &Place, b: &Place) {
    let verified = verify(a, b, &quiet()).await.unwrap();
    assert!(verified.equal(), "{verified:#?}");
    for table in &verified.tables {
        assert_eq!(table.source, table.destination, "equal rows, equal digests");
    }
}

/// Tables that differ, with how many rows.
async fn differences(a: &Place, b: &Place) -> Vec<(Table, u64)> {
    let verified = verify(a, b, &quiet()).await.unwrap();
    let different = verified.tables.iter().filter(|table| table.different > 0);
    different.map(|table| (table.table, table.different)).collect()
}
