//! Connections for searches of REM data, which may take long and must not hold what serves answers.
//!
//! A statement ends soon after nobody waits for it any more. One caller, and all of one tenant, have fewer of the connections than
//! there are, and callers together leave one to the tasks in the background. A place is free again when its connection is.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteTransaction};

use super::super::StoreError;
use super::super::rem::{Scope, SqlPlace, SqlPlaces};
use super::{ACQUIRE, ROWS_AHEAD, SqliteStore, base, fault, options};

/// Searches of callers at a time: of all, of one tenant, of one caller.
pub(super) const PLACES: usize = 4;
const OF_ONE_TENANT: usize = 3;
const OF_ONE_CALLER: usize = 2;
/// Connections: those, and one that callers do not take.
pub(super) const SEARCHERS: u32 = 5;
/// Instructions between two looks at whether somebody waits: comparing one row with a pattern is one of them, and may take long.
const STEPS: i32 = 10;

/// See the module.
pub(super) struct Searchers {
    pool: SqlitePool,
    pub(super) places: SqlPlaces,
}

/// A connection, or a transaction, of one search. Dropped before its end, it ends the statement that runs.
pub(super) struct Search<C> {
    // Before the connection: what that still does when it is dropped waits for the statement.
    stop: Stop,
    on: C,
}

/// Stops the statement when it is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<C: Deref<Target = SqliteConnection>> Deref for Search<C> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.on
    }
}

impl<C: DerefMut<Target = SqliteConnection>> DerefMut for Search<C> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.on
    }
}

impl Searchers {
    /// So many connections to the file at `path`.
    pub(super) async fn open(path: &Path, size: u32) -> Result<Self, StoreError> {
        let way = base(path).read_only(true).row_buffer_size(ROWS_AHEAD);
        // With the handler goes the place that it holds.
        let settled = options(size).after_release(|connection, _| {
            Box::pin(async move {
                connection.lock_handle().await?.remove_progress_handler();
                Ok(true)
            })
        });
        let pool = settled.connect_with(way).await.map_err(|error| fault(path, error))?;
        Ok(Self { pool, places: SqlPlaces::new(PLACES, OF_ONE_TENANT, OF_ONE_CALLER) })
    }

    /// Waits for running searches and closes all connections.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl SqliteStore {
    /// A connection for a search of this caller.
    pub(super) async fn search(&self, scope: &Scope) -> Result<Search<PoolConnection<Sqlite>>, StoreError> {
        let place = self.search_place(Some(scope)).await?;
        let connection = self.searchers.pool.acquire().await.map_err(|error| self.fault(error))?;
        self.stoppable(connection, place).await
    }

    /// A snapshot for a search of this caller, or for a task in the background.
    pub(super) async fn begin_search(
        &self,
        scope: Option<&Scope>,
    ) -> Result<Search<SqliteTransaction<'static>>, StoreError> {
        let place = self.search_place(scope).await?;
        let transaction = self.searchers.pool.begin().await.map_err(|error| self.fault(error))?;
        self.stoppable(transaction, place).await
    }

    /// Ends a snapshot.
    pub(super) async fn end_search(&self, search: Search<SqliteTransaction<'static>>) -> Result<(), StoreError> {
        let Search { stop, on } = search;
        let done = self.commit(on).await;
        drop(stop);
        done
    }

    async fn search_place(&self, scope: Option<&Scope>) -> Result<Option<SqlPlace>, StoreError> {
        let Some(scope) = scope else { return Ok(None) };
        match self.searchers.places.take(scope, ACQUIRE).await {
            Some(place) => Ok(Some(place)),
            None => Err(StoreError::Busy { place: self.path.display().to_string() }),
        }
    }

    async fn stoppable<C>(&self, mut on: C, place: Option<SqlPlace>) -> Result<Search<C>, StoreError>
    where
        C: DerefMut<Target = SqliteConnection>,
    {
        let stop = Stop(Arc::default());
        let stopped = Arc::clone(&stop.0);
        let mut handle = on.lock_handle().await.map_err(|error| self.fault(error))?;
        handle.set_progress_handler(STEPS, move || {
            let _held = &place;
            !stopped.load(Ordering::Relaxed)
        });
        drop(handle);
        Ok(Search { stop, on })
    }
}
