//! Moving data between stores and keeping copies: `copy`, `verify`, `backup`, `restore`.
//!
//! Everything goes through the storage traits, so each pair of databases works alike. The secret that keys all hashes
//! travels with the rows, or they could never be found again.
//!
//! Invariants:
//! - Memory is bounded by pages, not by tables.
//! - Whatever is written is written in transactions that may be repeated; after a kill at any moment the same command
//!   completes the work.
//! - The source is opened for reading only, also while a program serves from it.
//! - A database with data under another secret is refused before anything is written.
//!
//! It must never: know SQL, print, or put a secret or a password into a text.

mod answers;
mod backup;
mod codec;
mod copy;
mod data_keys;
mod directory;
mod ledger_rows;
mod records;
mod rem;
mod rem_notes;
mod rows;
pub(crate) mod secret;
mod sum;
mod table;
mod tenant;
mod verify;
mod walk;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::backup::{BackupReport, Found, RestoreOptions, backup, check, restore};
pub use self::codec::BadBytes;
pub use self::copy::{CopyOptions, CopyReport, Tally, copy};
pub use self::secret::Place;
pub use self::table::Table;
pub use self::tenant::{Deleted, delete_tenant, forget_rem, forget_rem_of_key, reopen_tenant, rotate_master};
pub use self::verify::{Checked, Side, Verified, verify};
use crate::config::{Migrate, StoreUrl};
use crate::store::{Database, StoreError};

/// Is told how far the work has come: the table, rows done, and how many there are where that is known.
pub type Progress = Arc<dyn Fn(Table, u64, Option<u64>) + Send + Sync>;

/// Why data could not be moved. The texts are for whoever typed the command.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Source and destination are one.
    #[error("{0}: source and destination are the same database; give two different ones")]
    Same(StoreUrl),
    /// The destination has data under another secret.
    #[error(
        "{0}: the database holds data whose hashes were made with another secret; nothing was written. Use an empty \
         database, or give the file with the right secret by --to-secret"
    )]
    OtherSecret(StoreUrl),
    /// There is data, but not its secret.
    #[error(
        "{0}: the database holds data, but its secret is not where it belongs; nothing was written. Give the file with \
         the secret by --from-secret or --to-secret"
    )]
    NoSecret(StoreUrl),
    /// The secret at hand is not the one that the database says.
    #[error(
        "{0}: the secret at hand is not the one that the hashes in this database were made with; give the file with the \
         right one by --from-secret or --to-secret"
    )]
    WrongSecret(StoreUrl),
    /// The destination has data under other data keys.
    #[error(
        "{0}: the database holds sealed data under other data keys, or under another master key; nothing was written. \
         Use an empty database, or run `remora rotate-master` on it first so that both have the same master key"
    )]
    OtherKeys(StoreUrl),
    /// Data keys cannot be wrapped anew.
    #[error("{0}")]
    Rotate(#[from] crate::store::sealed::RotateError),
    /// What the database holds is no secret.
    #[error("the database holds a secret that cannot be read; restore the database from a backup")]
    BadSecret,
    /// A secret file cannot be read or written.
    #[error("secret file {path}: {problem}", path = .path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A program serves from the destination.
    #[error("{0} is in use: a remora runs on this database; stop it first, so that its memory does not drift apart")]
    InUse(StoreUrl),
    /// The destination has data.
    #[error("{0}: the database is not empty; nothing was written. Restore into an empty one, or add --merge")]
    NotEmpty(StoreUrl),
    /// A backup file cannot be read or written.
    #[error("{path}: {problem}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A backup file is damaged.
    #[error("{path}: the backup is damaged ({problem}); nothing was written. Use another copy of it", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// The file is none of ours.
    #[error("{path}: not a backup made by `remora backup`", path = .path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a newer program.
    #[error("{path}: a backup of format {found}, this program knows formats up to {known}; use a newer program", path = .path.display())]
    NewerBackup {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format of this program.
        known: u32,
    },
}

/// Opens the destination for writing.
async fn open_to_write(place: &Place) -> Result<Database, TransferError> {
    let database = Database::open(&place.url, Migrate::Auto).await?;
    // One vector index built at the end takes a fraction of the time of adding each vector to it.
    database.begin_bulk();
    Ok(database)
}

/// Ends the writing to a store: builds what was put off, also after a failure, and closes it.
async fn close_written<T>(database: &Database, done: Result<T, TransferError>) -> Result<T, TransferError> {
    let built = database.finish_bulk().await;
    database.close().await;
    let done = done?;
    built?;
    Ok(done)
}

/// Opens the destination for looking only; `None` if nothing has been created there yet.
async fn open_to_look(place: &Place) -> Result<Option<Database>, TransferError> {
    match Database::open_to_read(&place.url).await {
        Ok(database) => Ok(Some(database)),
        Err(StoreError::Missing { .. } | StoreError::Older { found: 0, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
