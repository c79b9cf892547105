//! The store on PostgreSQL with pgvector, which several replicas may share.

use std::sync::Arc;

use super::{StoreError, Stores};
use crate::config::{Migrate, StoreUrl};

/// An open PostgreSQL database.
pub struct PostgresStore {}

impl PostgresStore {
    /// Opens the database, or sets up an empty one. An older schema is brought up to date if `migrate` allows it.
    ///
    /// # Errors
    /// The server cannot be reached or used.
    pub async fn open(_url: &StoreUrl, _migrate: Migrate) -> Result<Arc<Self>, StoreError> {
        Err(StoreError::Closed)
    }

    /// Opens an existing database only to read from it.
    ///
    /// # Errors
    /// The server cannot be reached or used.
    pub async fn open_to_read(_url: &StoreUrl) -> Result<Arc<Self>, StoreError> {
        Err(StoreError::Closed)
    }

    /// This database behind the storage traits.
    pub fn stores(self: &Arc<Self>) -> Stores {
        unimplemented!()
    }

    /// Closes all connections.
    pub async fn close(&self) {}
}
