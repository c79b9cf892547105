//! The one edge where a database error becomes a [`StoreError`].
//!
//! The text names the place, never the password, and repeats what the server said about the statement but not its
//! details, which may quote rows.

use sqlx::error::DatabaseError;

use super::super::StoreError;

/// Error codes of PostgreSQL (<https://www.postgresql.org/docs/current/errcodes-appendix.html>) that call for different
/// advice.
mod code {
    pub(super) const NO_SUCH_DATABASE: &str = "3D000";
    pub(super) const READ_ONLY: &str = "25006";
    pub(super) const PRIVILEGE: &str = "42501";
    pub(super) const DISK_FULL: &str = "53100";
    pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub(super) const QUERY_CANCELED: &str = "57014";
    /// The transactions that were in the way are over when it is tried again; a foreign key fails when another
    /// transaction deletes the entry in that moment.
    pub(super) const CONFLICT: [&str; 3] = ["40001", "40P01", "23503"];
    /// Shutting down, crashed, starting up, gone.
    pub(super) const SERVER_GONE: [&str; 4] = ["57P01", "57P02", "57P03", "57P04"];
}

/// Names what happened to the database at `place`.
pub(super) fn fault(place: &str, error: sqlx::Error) -> StoreError {
    let place = place.to_owned();
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Busy { place },
        sqlx::Error::PoolClosed => StoreError::Closed,
        sqlx::Error::Io(error) => StoreError::Unreachable { place, detail: error.to_string() },
        sqlx::Error::Tls(error) => StoreError::Unreachable { place, detail: error.to_string() },
        sqlx::Error::Database(error) => said(place, &*error),
        other => StoreError::Failed(format!("{place}: {other}").into()),
    }
}

fn said(place: String, error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let detail = error.message().to_owned();
    match &*code {
        code::NO_SUCH_DATABASE => StoreError::Missing { place, advice: "create it with `createdb`" },
        code::READ_ONLY => StoreError::ReadOnly { place },
        code::PRIVILEGE => StoreError::Denied { place, detail },
        code::DISK_FULL => StoreError::DiskFull { place },
        code::LOCK_NOT_AVAILABLE | code::QUERY_CANCELED => StoreError::Busy { place },
        code if code::CONFLICT.contains(&code) => StoreError::Conflict { place, detail },
        code if code::SERVER_GONE.contains(&code) || code.starts_with("08") => {
            StoreError::Unreachable { place, detail }
        }
        // Out of connections, memory or another resource.
        code if code.starts_with("53") => StoreError::Busy { place },
        code if code.starts_with("28") => StoreError::Denied { place, detail },
        code => StoreError::Failed(format!("{place}: {detail} ({code})").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;
    use std::fmt;

    use sqlx::error::ErrorKind;

    use super::*;

    #[derive(Debug)]
    struct Said(&'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("words")
        }
    }

    impl Error for Said {}

    impl DatabaseError for Said {
        fn message(&self) -> &'static str {
            "words"
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(Cow::Borrowed(self.0))
        }
        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn every_class_of_error_has_its_name_and_says_where_it_was() {
        let cases = [
            ("40001", "conflict"),
            ("40P01", "conflict"),
            ("57P01", "unreachable"),
            ("57P03", "unreachable"),
            ("08006", "unreachable"),
            ("25006", "read_only"),
            ("53300", "busy"),
            ("53100", "disk_full"),
            ("57014", "busy"),
            ("28P01", "denied"),
            ("3D000", "missing"),
            ("42703", "failed"),
        ];
        for (code, name) in cases {
            let error = fault("postgres://me@db/remora", sqlx::Error::Database(Box::new(Said(code))));
            assert_eq!(error.as_str(), name, "{code}");
            assert!(error.to_string().contains("postgres://me@db/remora"), "{error}");
        }
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(fault("x", sqlx::Error::Io(refused)).as_str(), "unreachable");
    }
}
