//! The store on PostgreSQL with pgvector, which several replicas may share.
//!
//! What the file promises, this promises too: batches are all or nothing, a batch written twice changes nothing, the
//! tenant leads every key. Besides, all changes to entries are numbered in the order of their commits (`feed.rs`), and
//! the database can search for what a replica does not hold in memory (`search.rs`).
//!
//! Invariants:
//! - Opening checks before it touches: version of the server, encoding, `vector` extension, schema.
//! - Every wait has an end: for a connection, a lock, a statement.
//! - A write that met others on the same rows is tried again, three times at most; any other fault is the caller's.
//! - A server that takes no writes never counts a write as done.
//!
//! Servers from PostgreSQL 16 on work. On 18 the asynchronous I/O helps with scans at start-up and with large exact
//! searches: `io_method = worker` (the default) with `io_workers` at about a quarter of the cores, or
//! `io_method = io_uring` where the server was built with it; `effective_io_concurrency = 16` or more on flash storage.

mod alerts;
mod attempts;
mod audit;
mod cells;
mod corrections;
mod counters;
mod decisions;
mod directory;
mod entries;
mod fault;
mod feed;
mod guarded;
mod ledger;
mod migrate;
mod months;
mod notes;
mod rem;
mod search;
mod server;
mod spaces;
mod spend;
mod tenants;
mod usage;
mod withdrawn;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use sqlx::postgres::{PgListener, PgPool, PgTransaction};

use super::rollup::Caps;
use super::usage::fold_at_start;
use super::{StoreError, Stores};
use crate::config::{Migrate, StoreUrl};

use fault::fault;
pub(super) use migrate::{LATEST, OLDEST, STEPS, migrate_down, migrate_up, status};
use server::{Server, Suspect};

/// A snapshot: all reads in it see the same moment.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How often a write that met others on the same rows is tried again.
const RETRIES: u32 = 3;

/// Longest wait for somebody who listens when the database is closed.
const LISTENER_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// An open PostgreSQL database.
pub struct PostgresStore {
    server: Server,
    writer: PgPool,
    readers: PgPool,
    listeners: PgPool,
    counters: PgPool,
    rem_readers: PgPool,
    rem_writers: PgPool,
    suspect: Suspect,
    spaces: spaces::Known,
    months: months::Made,
    caps: Caps,
    /// Who made a change, in the order of changes; new each time a database is opened.
    replica: [u8; 16],
    /// How far this replica has read; a store that nobody reads for is never behind.
    obeyed: AtomicU64,
    /// What it has taken out since, of which nothing that is on its way may be stored.
    withdrawn: withdrawn::Withdrawn,
    listener: tokio::sync::Mutex<Option<PgListener>>,
    /// Points of a partition from which on [`super::Search::Fast`] uses the vector index.
    fast_from: i64,
    /// Who runs SQL of callers, and how many do at a time.
    guarded: guarded::Callers,
}

impl PostgresStore {
    /// Opens the database, or sets up an empty one. An older schema is brought up to date if `migrate` allows it.
    ///
    /// # Errors
    /// The server cannot be reached or used.
    pub async fn open(url: &StoreUrl, migrate: Migrate) -> Result<Arc<Self>, StoreError> {
        let server = Server::of(url)?;
        let mut connection = server.connect().await?;
        server.check(&mut connection, true).await?;
        migrate::prepare(&server, &mut connection, migrate).await?;
        server.done(connection).await?;
        let suspect = Suspect::default();
        let writer = server.writers(&suspect);
        let readers = server.readers(&suspect);
        let rem_writers = server.rem_writers(&suspect);
        let store = Self::of(server, [writer, rem_writers], readers, suspect).met().await?;
        store.chain_the_rest().await?;
        fold_at_start(&*store).await;
        Ok(store)
    }

    /// Opens an existing database only to read from it. Nothing is set up, migrated or written, and every write fails. A
    /// schema that this program cannot work on is refused.
    ///
    /// # Errors
    /// The server cannot be reached or used.
    pub async fn open_to_read(url: &StoreUrl) -> Result<Arc<Self>, StoreError> {
        let server = Server::of(url)?;
        let mut connection = server.connect().await?;
        server.check(&mut connection, false).await?;
        let found = migrate::version(&server, &mut connection).await?;
        server.done(connection).await?;
        let place = server.place.clone();
        match found {
            0 => return Err(StoreError::Missing { place, advice: "it is empty; `remora serve` sets it up" }),
            found if found < LATEST => return Err(StoreError::Older { place, found, needed: LATEST }),
            _ => {}
        }
        let suspect = Suspect::default();
        let readers = server.readers(&suspect);
        Self::of(server, [readers.clone(), readers.clone()], readers, suspect).met().await
    }

    /// Finds out now instead of at the first read and write whether there are connections for both.
    async fn met(self) -> Result<Arc<Self>, StoreError> {
        for pool in [&self.readers, &self.writer] {
            pool.acquire().await.map_err(|error| self.pool_fault(pool, error))?;
        }
        Ok(Arc::new(self))
    }

    fn of(server: Server, [writer, rem_writers]: [PgPool; 2], readers: PgPool, suspect: Suspect) -> Self {
        Self {
            listeners: server.listeners(),
            counters: server.counters(&suspect),
            rem_readers: server.rem_readers(&suspect),
            rem_writers,
            server,
            writer,
            readers,
            suspect,
            spaces: spaces::Known::default(),
            months: months::Made::default(),
            caps: Caps::default(),
            replica: fastrand::u128(..).to_be_bytes(),
            obeyed: AtomicU64::new(u64::MAX),
            withdrawn: withdrawn::Withdrawn::default(),
            listener: tokio::sync::Mutex::default(),
            fast_from: search::FAST_FROM,
            guarded: guarded::Callers::default(),
        }
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
            counters: Some(self.clone()),
            changes: Some(self.clone()),
            search: Some(self.clone()),
            rem: Some(self.clone()),
            sql: Some(self.clone()),
        }
    }

    /// Waits for running operations and closes all connections. Later operations fail with `Closed`.
    pub async fn close(&self) {
        // Its connection belongs to the pool, which waits for it. Whoever still listens is not waited for.
        if let Ok(mut listener) = tokio::time::timeout(LISTENER_WAIT, self.listener.lock()).await {
            *listener = None;
            self.listeners.close().await;
        }
        for pool in [&self.rem_readers, &self.rem_writers, &self.readers, &self.writer] {
            pool.close().await;
        }
        self.counters.close().await;
    }

    async fn begin_write(&self) -> Result<PgTransaction<'static>, StoreError> {
        self.writer.begin().await.map_err(|error| self.pool_fault(&self.writer, error))
    }

    async fn begin_rem_write(&self) -> Result<PgTransaction<'static>, StoreError> {
        self.rem_writers.begin().await.map_err(|error| self.pool_fault(&self.rem_writers, error))
    }

    async fn begin_read(&self) -> Result<PgTransaction<'static>, StoreError> {
        self.readers.begin_with(SNAPSHOT).await.map_err(|error| self.pool_fault(&self.readers, error))
    }

    async fn commit(&self, transaction: PgTransaction<'static>) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|error| self.fault(error))
    }

    fn fault(&self, error: sqlx::Error) -> StoreError {
        self.pool_fault(&self.readers, error)
    }

    /// The pool waits for a server that is gone until its time is up; that is not a busy server.
    fn pool_fault(&self, pool: &PgPool, error: sqlx::Error) -> StoreError {
        let place = &self.server.place;
        let error = match error {
            sqlx::Error::PoolTimedOut if pool.size() < pool.options().get_max_connections() => {
                let detail = "no connection could be made in time".to_owned();
                StoreError::Unreachable { place: place.clone(), detail }
            }
            other => fault(place, other),
        };
        if matches!(error, StoreError::Unreachable { .. } | StoreError::ReadOnly { .. }) {
            *self.suspect.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        error
    }
}

/// Waits a moment if what failed may be tried again; otherwise the error comes back.
async fn pause(round: &mut u32, error: StoreError) -> Result<(), StoreError> {
    *round += 1;
    if *round > RETRIES || !matches!(error, StoreError::Conflict { .. }) {
        return Err(error);
    }
    // Different for each, so that those who met do not meet again.
    sleep(Duration::from_millis(fastrand::u64(5..=25) << *round)).await;
    Ok(())
}
