//! The one place that knows which database is behind the traits.

use std::sync::Arc;

use super::{PostgresStore, SqliteStore, StoreError, Stores};
use crate::config::{Migrate, StoreUrl};

/// An open database.
#[derive(Clone)]
pub enum Database {
    /// A file.
    Sqlite(Arc<SqliteStore>),
    /// A PostgreSQL server.
    Postgres(Arc<PostgresStore>),
}

impl Database {
    /// Opens the database at `url`; a SQLite file is created if there is none. An older schema is brought up to date if
    /// `migrate` allows it.
    ///
    /// # Errors
    /// The database cannot be used; it is as it was.
    pub async fn open(url: &StoreUrl, migrate: Migrate) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Sqlite(path) => SqliteStore::open(path, migrate).await.map(Self::Sqlite),
            StoreUrl::Postgres(_) => PostgresStore::open(url, migrate).await.map(Self::Postgres),
        }
    }

    /// Opens an existing database only to read from it, also while others work on it. Nothing is created, migrated or
    /// written. A schema that is not this program's own is refused.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn open_to_read(url: &StoreUrl) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Sqlite(path) => SqliteStore::open_to_read(path).await.map(Self::Sqlite),
            StoreUrl::Postgres(_) => PostgresStore::open_to_read(url).await.map(Self::Postgres),
        }
    }

    /// To be called before many entries are copied into an empty database, and [`Self::finish_bulk`] after it.
    pub fn begin_bulk(&self) {
        if let Self::Postgres(store) = self {
            store.defer_vector_index();
        }
    }

    /// Builds what was put off for the sake of copying; also after a copy that was interrupted.
    ///
    /// # Errors
    /// The database does not do it; what was copied stays.
    pub async fn finish_bulk(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(store) => store.build_vector_index().await,
        }
    }

    /// The database behind the storage traits.
    pub fn stores(&self) -> Stores {
        match self {
            Self::Sqlite(store) => store.stores(),
            Self::Postgres(store) => store.stores(),
        }
    }

    /// Waits for running operations and closes it. Later operations fail with `Closed`.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
