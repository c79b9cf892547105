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
    /// There is no such database, and the operation does not create one.
    #[error("{place}: there is no such database; {advice}")]
    Missing {
        /// The database: a file, or a URL without its password.
        place: String,
        /// Who makes one.
        advice: &'static str,
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
    /// The database is that of another program.
    #[error(
        "{place}: a database of another program ({detail}); it was not changed. Move the file away, or let `[store] url` name a database of its own for Remora"
    )]
    Foreign {
        /// The database: a file, or a URL without its password.
        place: String,
        /// What was found in it.
        detail: String,
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
    #[error(
        "{place}: the database has schema {found}, this program knows schemas up to {known}; it was not changed. Run the newer program, or restore a backup that was made before the upgrade"
    )]
    Newer {
        /// The database: a file, or a URL without its password.
        place: String,
        /// Schema version of the database.
        found: u32,
        /// Newest schema version of this program.
        known: u32,
    },
    /// The schema is older than this program needs, and it was told not to migrate by itself.
    #[error(
        "{place}: the database has schema {found}, this program needs schema {needed}; back it up and run `remora migrate up`, or set `[store] migrate = \"auto\"`"
    )]
    Older {
        /// The database: a file, or a URL without its password.
        place: String,
        /// Schema version of the database.
        found: u32,
        /// Schema version this program needs.
        needed: u32,
    },
    /// A step down to a schema that does not exist, or that would delete all data.
    #[error(
        "{place}: cannot go {way} from schema {found} to {asked}; possible are {least} to {most}. To start empty, use another database"
    )]
    NoSuchVersion {
        /// The database: a file, or a URL without its password.
        place: String,
        /// `up` or `down`.
        way: &'static str,
        /// Schema version of the database.
        found: u32,
        /// Schema version that was asked for.
        asked: u32,
        /// Oldest version that can be gone to.
        least: u32,
        /// Newest version that can be gone to.
        most: u32,
    },
    /// Another process or a long operation held the database longer than the deadline.
    #[error("{place}: the database was busy for too long")]
    Busy {
        /// The database: a file, or a URL without its password.
        place: String,
    },
    /// No room on the disk.
    #[error("{place}: the disk is full")]
    DiskFull {
        /// The database: a file, or a URL without its password.
        place: String,
    },
    /// The server cannot be reached, is starting or is shutting down.
    #[error(
        "{place}: the database server cannot be reached ({detail}); check that it runs and that `[store] url` names it"
    )]
    Unreachable {
        /// The database: a file, or a URL without its password.
        place: String,
        /// What the network or the server said.
        detail: String,
    },
    /// The server takes no writes: a standby, or told to be read-only.
    #[error(
        "{place}: the database is read-only; nothing was written. Let `[store] url` name the primary server, and check `default_transaction_read_only`"
    )]
    ReadOnly {
        /// The database: a file, or a URL without its password.
        place: String,
    },
    /// The server does not let us in, or not do what must be done.
    #[error(
        "{place}: the database refuses this user ({detail}); check the user and the password in `[store] url` and what the user may do"
    )]
    Denied {
        /// The database: a file, or a URL without its password.
        place: String,
        /// What the server said.
        detail: String,
    },
    /// The server lacks something that must be there.
    #[error("{place}: {lack}; {advice}")]
    Unsuitable {
        /// The database: a file, or a URL without its password.
        place: String,
        /// What is missing.
        lack: String,
        /// How to mend it.
        advice: &'static str,
    },
    /// Transactions of several programs got into each other's way again and again.
    #[error(
        "{place}: the write met others on the same rows too often ({detail}); it was not made and may be tried again"
    )]
    Conflict {
        /// The database: a file, or a URL without its password.
        place: String,
        /// What the server said.
        detail: String,
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
    /// Whether the store is away rather than refusing what it was given, so that the same may succeed later.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. } | Self::DiskFull { .. } | Self::Unreachable { .. } | Self::ReadOnly { .. } | Self::Behind
        )
    }

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
            Self::Unreachable { .. } => "unreachable",
            Self::ReadOnly { .. } => "read_only",
            Self::Denied { .. } => "denied",
            Self::Unsuitable { .. } => "unsuitable",
            Self::Conflict { .. } => "conflict",
            Self::BadRow { .. } => "bad_row",
            Self::Behind => "behind",
            Self::Closed => "closed",
            Self::Failed(_) => "failed",
        }
    }
}
