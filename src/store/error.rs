//! What can go wrong with storage, in words for whoever runs the program.
//!
//! There is deliberately no conversion from [`StoreError`] into anything that becomes an HTTP status: on the request
//! path a storage fault is a cache bypass with a reason.

use std::path::PathBuf;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A storage operation that did not happen. The database is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory that should hold the file does not exist.
    #[error("{path}: the directory does not exist; create it, or change `[store] url`", path = .path.display())]
    DirectoryMissing {
        /// The database file that was asked for.
        path: PathBuf,
    },
    /// The file does not exist, and the operation does not create one.
    #[error("{path}: there is no such database; `remora serve` creates it", path = .path.display())]
    Missing {
        /// The database file that was asked for.
        path: PathBuf,
    },
    /// The file cannot be read, created or written.
    #[error("{path}: cannot be opened for reading and writing ({detail}); check the owner and the permissions of the file and of its directory, which must be writable too", path = .path.display())]
    Unwritable {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The file is something else than an SQLite database.
    #[error("{path}: not a Remora database; it was not changed. Move the file away, or change `[store] url`", path = .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is the SQLite database of another program.
    #[error("{path}: a database of another program (application id {application_id:#010x}); it was not changed. Move the file away, or change `[store] url`", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The application id found in it.
        application_id: u32,
    },
    /// There is no database, but the log of one.
    #[error("{log}: the log of a database that is not there, with changes that are nowhere else; put it back beside its database, or move it away too", log = .log.display())]
    StrayLog {
        /// The log.
        log: PathBuf,
    },
    /// The file is damaged.
    #[error("{path}: the database is damaged ({detail}); it was not changed. Restore a backup, or move the file and the `-wal` file beside it away to start empty", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// The schema is newer than this program knows.
    #[error("{path}: the database has schema {found}, this program knows schemas up to {known}; it was not changed. Run the newer program, or restore a backup that was made before the upgrade", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Schema version of the file.
        found: u32,
        /// Newest schema version of this program.
        known: u32,
    },
    /// The schema is older than this program needs, and it was told not to migrate by itself.
    #[error("{path}: the database has schema {found}, this program needs schema {needed}; back the file up and run `remora migrate up`, or set `[store] migrate = \"auto\"`", path = .path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Schema version of the file.
        found: u32,
        /// Schema version this program needs.
        needed: u32,
    },
    /// A step down to a schema that does not exist, or that would delete all data.
    #[error("{path}: cannot go down from schema {found} to {asked}; possible are {oldest} to {found}. To start empty, move the file away", path = .path.display())]
    NoSuchVersion {
        /// The file.
        path: PathBuf,
        /// Schema version of the file.
        found: u32,
        /// Schema version that was asked for.
        asked: u32,
        /// Oldest schema version that still holds data.
        oldest: u32,
    },
    /// Another process or a long operation held the database longer than the deadline.
    #[error("{path}: the database was busy for too long", path = .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// No room on the disk.
    #[error("{path}: the disk is full", path = .path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A stored row does not have the shape that this program writes.
    #[error("a row of `{table}` cannot be read: {detail}")]
    BadRow {
        /// Table it was read from.
        table: &'static str,
        /// What was wrong with it.
        detail: String,
    },
    /// An invalidation that another replica made has not been obeyed here yet; what was to be stored may be meant by it.
    #[error("this replica has not yet obeyed the latest invalidation; the write is tried again")]
    Behind,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// Anything else the database said.
    #[error("storage failed: {0}")]
    Failed(#[source] Source),
}

impl StoreError {
    /// Name in logs and metric labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::DirectoryMissing { .. } => "directory_missing",
            Self::Missing { .. } => "missing",
            Self::Unwritable { .. } => "unwritable",
            Self::NotADatabase { .. } => "not_a_database",
            Self::Foreign { .. } => "foreign",
            Self::StrayLog { .. } => "stray_log",
            Self::Corrupt { .. } => "corrupt",
            Self::Newer { .. } => "newer_schema",
            Self::Older { .. } => "older_schema",
            Self::NoSuchVersion { .. } => "no_such_version",
            Self::Busy { .. } => "busy",
            Self::DiskFull { .. } => "disk_full",
            Self::BadRow { .. } => "bad_row",
            Self::Behind => "behind",
            Self::Closed => "closed",
            Self::Failed(_) => "failed",
        }
    }
}
