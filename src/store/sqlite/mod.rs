//! The store on SQLite: one file, no service to run.
//!
//! Write-ahead log, one connection that writes and a few that read, so readers never wait for the writer. A commit
//! survives the death of the process at any moment; with `synchronous = NORMAL` a power cut may lose the last commits
//! but cannot damage the file. Deleted content is overwritten (`secure_delete`).
//!
//! Opening looks before it touches: the header is read with plain reads (`file.rs`), schema version and integrity over
//! a read-only connection, and only then is the file opened for writing. A file of up to 32 MiB gets a
//! `quick_check` on each start; a larger one does not, because the check reads the whole file and start-up must stay
//! short. An unclean shutdown is no reason for a check: the log has checksums, and SQLite recovers from it by design.
//! A truncated file of any size is recognised from its header; other damage surfaces as [`StoreError::Corrupt`] when
//! it is read.

mod alerts;
mod attempts;
mod audit;
mod cells;
mod corrections;
mod decisions;
mod directory;
mod entries;
mod fault;
mod file;
mod guarded;
mod ledger;
mod migrate;
mod notes;
mod rem;
mod search;
mod spend;
mod tenants;
mod usage;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
pub(super) mod files;
#[cfg(test)]
mod usage_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::sqlite::{SqliteSynchronous, SqliteTransaction};
use sqlx::{ConnectOptions, Connection, raw_sql};

use super::rollup::Caps;
use super::usage::fold_at_start;
use super::{StoreError, Stores};
use crate::config::Migrate;
pub(super) use migrate::{LATEST, OLDEST, STEPS};
pub use migrate::{migrate_down, migrate_up, status};

use fault::fault;
use file::Found;

/// Files up to this size are checked for damage at each start: 25 MiB took 0.05 s.
const CHECK_UP_TO: u64 = 32 << 20;
/// Connections that read.
const READERS: u32 = 3;
/// Longest wait for another process's lock.
const BUSY: Duration = Duration::from_secs(5);
/// Longest wait for one of our own connections.
const ACQUIRE: Duration = Duration::from_secs(5);
/// Who makes a database where there is none.
const MAKES_ONE: &str = "`remora serve` creates it";
/// Rows that a reading connection may be ahead of us. With the driver's default of 50 a scan mostly switches threads.
const ROWS_AHEAD: usize = 1024;
/// Holds four points with a 384-d vector, where the default of 4 KiB would often hold one.
const PAGE_BYTES: u32 = 8192;
/// The log is cut back to this after a large batch.
const WAL_BYTES: &str = "67108864";

/// Statements that must not read a whole table, each with what finds its rows.
#[cfg(test)]
const INDEXED: [(&str, &str); 6] = [
    (ledger::SERVED, "requests_by_entry"),
    (ledger::RECENT_TENANT, "requests_by_tenant"),
    (decisions::SINCE_ALL, "PRIMARY KEY"),
    (decisions::SINCE_TENANT, "decisions_by_tenant"),
    (decisions::FORGET, "decisions_by_time"),
    (alerts::DUE, "alert_deliveries_due"),
];

/// An open SQLite database.
pub struct SqliteStore {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    searchers: search::Searchers,
    caps: Caps,
    /// Vectors of REM data.
    shelf: rem::Shelf<rem::Part>,
    /// Trigrams of its names.
    lexicons: rem::Shelf<rem::Lexicon>,
    places: guarded::Places,
}

impl SqliteStore {
    /// Opens the database at `path`, or creates it. An older schema is brought up to date if `migrate` allows it.
    /// On any error the file is as it was.
    pub async fn open(path: &Path, migrate: Migrate) -> Result<Arc<Self>, StoreError> {
        let found = migrate::prepare(path).await?;
        if found < migrate::LATEST {
            migrate::up_if_allowed(path, found, migrate).await?;
        }
        let writer = pool(path, 1, writing(path)).await?;
        let readers = pool(path, READERS, base(path).read_only(true).row_buffer_size(ROWS_AHEAD)).await?;
        let searchers = search::Searchers::open(path, search::SEARCHERS).await?;
        let store = Self {
            path: path.to_path_buf(),
            writer,
            readers,
            searchers,
            caps: Caps::default(),
            shelf: rem::Shelf::default(),
            lexicons: rem::Shelf::default(),
            places: guarded::Places::default(),
        };
        // A file on a read-only mount opens without complaint; find out now instead of at the first write.
        let mut transaction = store.begin_write().await?;
        store.chain_the_rest(&mut transaction).await?;
        store.commit(transaction).await?;
        fold_at_start(&store).await;
        Ok(Arc::new(store))
    }

    /// Opens an existing database only to read from it, also while another process works on it. Nothing is created,
    /// migrated or written, and every write fails. A schema that is not this program's own is refused.
    pub async fn open_to_read(path: &Path) -> Result<Arc<Self>, StoreError> {
        // To look at one that was interrupted while being made would roll it back.
        if let Found::Ours { journal: true, .. } = file::inspect(path)? {
            return Err(StoreError::Missing { place: path.display().to_string(), advice: MAKES_ONE });
        }
        let found = status(path).await?.current;
        if found < migrate::LATEST {
            return Err(StoreError::Older { place: path.display().to_string(), found, needed: migrate::LATEST });
        }
        let readers = pool(path, READERS, base(path).read_only(true).row_buffer_size(ROWS_AHEAD)).await?;
        Ok(Arc::new(Self {
            path: path.to_path_buf(),
            writer: readers.clone(),
            searchers: search::Searchers::open(path, 1).await?,
            readers,
            caps: Caps::default(),
            shelf: rem::Shelf::default(),
            lexicons: rem::Shelf::default(),
            places: guarded::Places::default(),
        }))
    }

    /// This database behind the storage traits.
    pub fn stores(self: &Arc<Self>) -> Stores {
        Stores {
            entries: self.clone(),
            ledger: self.clone(),
            tenants: self.clone(),
            directory: self.clone(),
            audit: self.clone(),
            decisions: self.clone(),
            notes: self.clone(),
            usage: self.clone(),
            alerts: self.clone(),
            counters: None,
            changes: None,
            search: None,
            rem: Some(self.clone()),
            sql: Some(self.clone()),
        }
    }

    /// Waits for running operations, folds the log into the file and closes it. Later operations fail with `Closed`.
    pub async fn close(&self) {
        self.searchers.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin_write(&self) -> Result<SqliteTransaction<'static>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.fault(error))
    }

    /// A snapshot: all reads in it see the same moment.
    async fn begin_read(&self) -> Result<SqliteTransaction<'static>, StoreError> {
        self.readers.begin().await.map_err(|error| self.fault(error))
    }

    async fn commit(&self, transaction: SqliteTransaction<'static>) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|error| self.fault(error))
    }

    fn fault(&self, error: sqlx::Error) -> StoreError {
        fault(&self.path, error)
    }
}

fn base(path: &Path) -> SqliteConnectOptions {
    // Statement logging would cost on each statement and say nothing that our own metrics do not.
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).foreign_keys(true).disable_statement_logging()
}

fn writing(path: &Path) -> SqliteConnectOptions {
    base(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("secure_delete", "ON")
        .pragma("journal_size_limit", WAL_BYTES)
}

async fn pool(path: &Path, size: u32, way: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    options(size).connect_with(way).await.map_err(|error| fault(path, error))
}

fn options(size: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(size)
        .min_connections(size)
        .acquire_timeout(ACQUIRE)
        // Connections to a file do not go stale.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // On a full disk SQLite ends the transaction by itself. The driver's own rollback then fails, and it goes on
        // to count one transaction as open, in which no other can begin; such a connection is replaced.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
}

async fn connect(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    options.connect().await.map_err(|error| fault(path, error))
}

/// Runs fixed SQL outside of a transaction.
async fn run(path: &Path, connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    raw_sql(sql).execute(connection).await.map(|_| ()).map_err(|error| fault(path, error))
}

/// Closes a connection that was only needed for a moment.
async fn done(path: &Path, connection: SqliteConnection) -> Result<(), StoreError> {
    connection.close().await.map_err(|error| fault(path, error))
}
