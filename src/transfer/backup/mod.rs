//! `remora backup` and `remora restore`: all of a store in one file that restores into any kind of store.
//!
//! The file contains the secret and everything that was cached: whoever has it can read the answers and find them by their
//! prompts, but for what is sealed: of that the file has the wrapped data keys, and not the master key. It can be read by
//! its owner only. A backup of a store in use is not one moment of it: each page is, so an entry
//! that was linked meanwhile may be as it was before or after.
//!
//! A restore reads the file twice: once to check every byte, and only if all is right once more to write.

mod format;
mod read;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

pub use self::read::{Found, RestoreOptions, check};
use super::secret::{self, Place};
use super::table::Table;
use super::verify::Side;
use super::{Progress, TransferError, close_written, data_keys, open_to_look, open_to_write, rem_notes};
use crate::store::Database;

/// What was written to a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// By table.
    pub tables: BTreeMap<Table, Side>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes all of a store to a file, which is complete when it has its name.
///
/// # Errors
/// See [`TransferError`]; there is no file then, or the one that was there before.
pub async fn backup(from: &Place, file: &Path, progress: &Progress) -> Result<BackupReport, TransferError> {
    let source = Database::open_to_read(&from.url).await?;
    let stores = source.stores();
    let written = async {
        let secret = secret::read(from, &stores).await?;
        if secret.is_none() && secret::has_data(&stores).await? {
            return Err(TransferError::NoSecret(from.url.clone()));
        }
        let keys = data_keys::read(&stores).await?;
        let notes = write::Notes { keys, rem: rem_notes::read(&stores).await? };
        write::all(&stores, secret.as_ref(), &notes, &from.url, file, progress).await
    };
    let written = written.await;
    source.close().await;
    written
}

/// Writes what is in a backup to a store, which must be empty unless `options.merge`: then what is there stays as it is and
/// what is missing is added. A dry run checks the file and whether the store would take it.
///
/// # Errors
/// See [`TransferError`]. The file is checked as a whole before anything is written. A restore that was interrupted is
/// completed by the same call with `options.merge`.
pub async fn restore(
    file: &Path,
    to: &Place,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<Found, TransferError> {
    let path = file.to_owned();
    let (found, secret) = read::checked(&path)?;
    if options.dry_run {
        if let Some(destination) = open_to_look(to).await? {
            let stores = destination.stores();
            let allowed = async {
                if secret::has_data(&stores).await? && !options.merge {
                    return Err(TransferError::NotEmpty(to.url.clone()));
                }
                if let Some(secret) = &secret {
                    secret::fits(to, &stores, secret).await?;
                }
                data_keys::fits(to, &stores, &found.data_keys).await
            };
            let allowed = allowed.await;
            destination.close().await;
            allowed?;
        }
        return Ok(found);
    }
    let held = secret::lock(to)?;
    let destination = open_to_write(to).await?;
    let stores = destination.stores();
    let written = async {
        if secret::has_data(&stores).await? && !options.merge {
            return Err(TransferError::NotEmpty(to.url.clone()));
        }
        let mut held = held;
        if let Some(secret) = &secret {
            secret::give(to, &stores, secret).await?;
            if held.is_none() {
                held = secret::lock(to)?;
            }
        }
        data_keys::give(to, &stores, &found.data_keys).await?;
        rem_notes::give_forgotten(&stores, &found.rem_notes).await?;
        read::write(&path, &found, &stores, options.merge, progress).await?;
        // What was there before may not have been filled from at all.
        if !options.merge {
            rem_notes::give_place(&stores, &found.rem_notes).await?;
        }
        drop(held);
        Ok(())
    };
    close_written(&destination, written.await).await.map(|()| found)
}
