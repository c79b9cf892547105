//! The directory of the journal: its lock, and the names of its files.
//!
//! `lock` is locked while a process works here. `ledger-NUMBER.journal` are the files, numbered in the order in which they
//! were begun; `ledger-NUMBER.journal.damaged` are those set aside. Anything else is left alone.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::JournalError;

const DAMAGED: &str = ".damaged";

pub(super) struct Directory {
    path: PathBuf,
    /// Locked.
    _lock: File,
}

/// What an earlier life left.
pub(super) struct Found {
    /// Numbers and bytes of the files.
    pub(super) files: Vec<(u64, u64)>,
    /// Number of the next file.
    pub(super) next: u64,
}

impl Directory {
    /// Makes and locks the directory, and looks what is in it.
    pub(super) fn open(path: &Path) -> Result<(Self, Found), JournalError> {
        let failed = |error: io::Error| JournalError::Directory { path: path.to_owned(), detail: error.to_string() };
        if !path.is_dir() {
            // What is in a row is nobody else's business.
            DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
        }
        let lock = private().write(true).create(true).truncate(false).open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut found = Found { files: Vec::new(), next: 1 };
        for entry in path.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let live = name.strip_suffix(DAMAGED);
            let Some(number) = number_of(live.unwrap_or(name)) else { continue };
            found.next = found.next.max(number.saturating_add(1));
            if live.is_none() {
                found.files.push((number, entry.metadata().map_err(failed)?.len()));
            }
        }
        Ok((Self { path: path.to_owned(), _lock: lock }, found))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("ledger-{number:012}.journal"))
    }

    /// A new file. Its name survives a power cut when the directory has been synced.
    pub(super) fn create(&self, number: u64) -> io::Result<File> {
        private().append(true).create_new(true).open(self.file(number))
    }

    /// Deletes a file, or sets it aside if it is damaged. A file that stays is read again by the next life, which changes
    /// nothing.
    pub(super) fn remove(&self, number: u64, damaged: bool) {
        let file = self.file(number);
        let removed = if damaged {
            let mut aside = file.clone().into_os_string();
            aside.push(DAMAGED);
            std::fs::rename(&file, aside)
        } else {
            std::fs::remove_file(&file)
        };
        if let Err(error) = removed {
            tracing::warn!(file = %file.display(), %error, "a file of the ledger journal cannot be removed");
        }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("ledger-")?.strip_suffix(".journal")?;
    (digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}
