//! Where the data is kept: a file, or a PostgreSQL server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Secret;

/// `[store] url`. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite://PATH`
    Sqlite(PathBuf),
    /// `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=…]`, which several replicas may share.
    Postgres(Secret),
}

/// What is wrong with the URL of a store, and how to mend it. The URL is never quoted: it may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {fix}")]
pub struct BadStoreUrl {
    /// What is wrong.
    pub problem: &'static str,
    /// What to write instead.
    pub fix: &'static str,
}

const FIX: &str = "use a SQLite file, as in \"sqlite://remora.db\" or \"sqlite:///var/lib/remora/remora.db\", or a \
    PostgreSQL server, as in \"postgres://remora@db.example.com/remora\"";

impl StoreUrl {
    /// The file of a SQLite database.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// Whether several replicas may work on it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }
}

impl FromStr for StoreUrl {
    type Err = BadStoreUrl;

    fn from_str(url: &str) -> Result<Self, BadStoreUrl> {
        if let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) {
            if rest.is_empty() || rest.starts_with('/') || rest.contains(char::is_whitespace) {
                return Err(BadStoreUrl { problem: "the URL names no server", fix: FIX });
            }
            return Ok(Self::Postgres(Secret::new(url.to_owned())));
        }
        let Some(path) = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) else {
            return Err(BadStoreUrl { problem: "not the URL of a supported store", fix: FIX });
        };
        if path.is_empty() || path.contains(['?', '#', '\0']) || path == ":memory:" || path.ends_with('/') {
            return Err(BadStoreUrl { problem: "the URL does not name a file", fix: FIX });
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => {
                let url = url.expose();
                let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
                // The password may itself hold an `@`, so the last one before the path counts.
                let (authority, path) = match rest.find(['/', '?']) {
                    Some(at) => rest.split_at(at),
                    None => (rest, ""),
                };
                let path = path.split_once('?').map_or(path, |(path, _)| path);
                match authority.rsplit_once('@') {
                    Some((login, host)) => {
                        let user = login.split_once(':').map_or(login, |(user, _)| user);
                        write!(f, "{scheme}://{user}@{host}{path}")
                    }
                    None => write!(f, "{scheme}://{authority}{path}"),
                }
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://remora:hunter2@db/remora", "postgres://remora@db/remora"),
            ("postgresql://u:p@ss@db:5433/x?password=hunter2", "postgresql://u@db:5433/x"),
            ("postgres://db/x", "postgres://db/x"),
            ("postgres://u@db", "postgres://u@db"),
            ("sqlite:///var/x.db", "sqlite:///var/x.db"),
        ] {
            assert_eq!(url.parse::<StoreUrl>().map(|url| format!("{url:?}")), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn what_names_no_store_is_refused() {
        for url in ["", "postgres://", "postgres:///x", "mysql://db/x", "sqlite://", "sqlite://:memory:", "sqlite://a/"]
        {
            assert!(url.parse::<StoreUrl>().is_err(), "{url}");
        }
    }
}
