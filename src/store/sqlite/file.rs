//! Looks at the database file before SQLite does.
//!
//! SQLite may write to a file merely by opening it (it rolls journals back and folds logs in), so whether a file is
//! ours is read from its header with plain reads. Nothing here changes a file that exists.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::super::StoreError;
use super::fault::file_fault;

/// Marks a database as Remora's: "Rmra" in ASCII, at offset 68 of the file
/// (<https://www.sqlite.org/fileformat2.html#application_id>).
pub(super) const APPLICATION_ID: u32 = 0x526d_7261;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: u64 = 100;

/// What is at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or an empty file as a start that was interrupted leaves it.
    Nothing,
    /// A database that carries our mark.
    Ours {
        /// Size of the file.
        bytes: u64,
        /// A rollback journal lies beside it: it was interrupted while being made.
        journal: bool,
    },
}

/// Says what is at `path`, or why it cannot be used.
pub(super) fn inspect(path: &Path) -> Result<Found, StoreError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        return Err(StoreError::DirectoryMissing { path: path.to_path_buf() });
    }
    let meta = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return nothing(path),
        Err(error) => return Err(file_fault(path, &error)),
        Ok(meta) if !meta.is_file() => return Err(StoreError::NotADatabase { path: path.to_path_buf() }),
        Ok(meta) => meta,
    };
    if meta.len() == 0 {
        return nothing(path);
    }
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES).read_to_end(&mut header))
        .map_err(|error| file_fault(path, &error))?;
    if !header.starts_with(MAGIC) {
        return Err(StoreError::NotADatabase { path: path.to_path_buf() });
    }
    let application_id = header.get(68..72).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes);
    if application_id != APPLICATION_ID {
        return Err(StoreError::Foreign {
            place: path.display().to_string(),
            detail: format!("application id {application_id:#010x}"),
        });
    }
    Ok(Found::Ours { bytes: meta.len(), journal: beside(path, "-journal").exists() })
}

/// No database; but when one was moved away without its log, SQLite would delete the log.
fn nothing(path: &Path) -> Result<Found, StoreError> {
    let log = beside(path, "-wal");
    if fs::metadata(&log).is_ok_and(|meta| meta.len() > 0) {
        Err(StoreError::StrayLog { log })
    } else {
        Ok(Found::Nothing)
    }
}

/// Makes an empty file that only its owner can read: it will hold prompts and answers. SQLite gives its companion
/// files the same permissions.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file_fault(path, &error)),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
