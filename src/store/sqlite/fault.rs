//! The one edge where a database error becomes a [`StoreError`].

use std::path::Path;

use super::super::StoreError;

/// Primary result codes of SQLite (<https://www.sqlite.org/rescode.html>) that call for different advice.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

/// Names what happened to the database at `path`.
pub(super) fn fault(path: &Path, error: sqlx::Error) -> StoreError {
    let place = path.display().to_string();
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Busy { place },
        sqlx::Error::PoolClosed => StoreError::Closed,
        sqlx::Error::Database(database) => {
            let detail = database.message().to_owned();
            // The low byte of an extended result code is the primary one.
            match database.code().and_then(|text| text.parse::<i32>().ok()).map(|extended| extended & 0xff) {
                Some(code::BUSY | code::LOCKED) => StoreError::Busy { place },
                Some(code::READONLY | code::CANTOPEN) => StoreError::Unwritable { path: path.to_path_buf(), detail },
                Some(code::CORRUPT | code::NOTADB) => StoreError::Corrupt { path: path.to_path_buf(), detail },
                Some(code::FULL) => StoreError::DiskFull { place },
                Some(code::IOERR) => StoreError::Failed(format!("{}: {detail}", path.display()).into()),
                _ => StoreError::Failed(database),
            }
        }
        other => StoreError::Failed(other.into()),
    }
}

/// A fault of the file system while the file was looked at or created.
pub(super) fn file_fault(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unwritable { path: path.to_path_buf(), detail: error.to_string() }
}
