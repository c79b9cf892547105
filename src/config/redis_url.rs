//! Where Redis is. A URL may hold a password, so it is never shown as it was written.

use std::fmt;
use std::str::FromStr;

use redis::IntoConnectionInfo as _;

use super::Secret;

/// `[redis] url`: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` for TLS. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Secret);

/// What is wrong with the URL of a Redis server, and how to mend it. The URL is never quoted: it may have a password in
/// it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {fix}")]
pub struct BadRedisUrl {
    /// What is wrong.
    pub problem: &'static str,
    /// What to write instead.
    pub fix: &'static str,
}

const FIX: &str = "use \"redis://HOST:PORT\", or \"rediss://HOST:PORT\" for TLS; a password may be given apart, with \
    `password_env` or `password_file`";

impl RedisUrl {
    /// The URL itself, for the one place that connects.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.expose().starts_with("rediss://")
    }

    /// Whether a password is part of it.
    pub fn has_password(&self) -> bool {
        self.parts().1.is_some_and(|login| login.contains(':'))
    }

    /// Whether it names a database other than 0.
    pub fn has_database(&self) -> bool {
        let (_, _, host) = self.parts();
        host.split_once('/').is_some_and(|(_, database)| !matches!(database.trim_matches('/'), "" | "0"))
    }

    /// Scheme, login if any, and the rest. A password may itself hold an `@` or a `/`, so the last `@` counts.
    fn parts(&self) -> (&str, Option<&str>, &str) {
        let url = self.expose();
        let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
        match rest.rsplit_once('@') {
            Some((login, host)) => (scheme, Some(login), host),
            None => (scheme, None, rest),
        }
    }
}

impl FromStr for RedisUrl {
    type Err = BadRedisUrl;

    fn from_str(url: &str) -> Result<Self, BadRedisUrl> {
        let bad = |problem| Err(BadRedisUrl { problem, fix: FIX });
        let Some(rest) = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://")) else {
            return bad("not the URL of a Redis server");
        };
        // A query chooses the protocol and a fragment switches the check of certificates off.
        if rest.contains(['?', '#']) {
            return bad("the URL has a query or fragment");
        }
        if rest.is_empty() || rest.starts_with('/') || rest.contains(char::is_whitespace) || rest.ends_with('@') {
            return bad("the URL names no server");
        }
        if url.into_connection_info().is_err() {
            return bad("the host, port, user, password or database in the URL cannot be read");
        }
        Ok(Self(Secret::new(url.to_owned())))
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (scheme, None, host) => write!(f, "{scheme}://{host}"),
            (scheme, Some(login), host) => match login.split_once(':').map_or(login, |(user, _)| user) {
                "" => write!(f, "{scheme}://{host}"),
                user => write!(f, "{scheme}://{user}@{host}"),
            },
        }
    }
}

impl fmt::Debug for RedisUrl {
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
            ("redis://cache", "redis://cache"),
            ("rediss://cache:6380/2", "rediss://cache:6380/2"),
            ("redis://:hunter2@cache:6379", "redis://cache:6379"),
            ("redis://remora:hunter2@cache", "redis://remora@cache"),
            ("redis://remora:hunt%40er@2@cache", "redis://remora@cache"),
        ] {
            let url = url.parse::<RedisUrl>().unwrap();
            assert_eq!((format!("{url}"), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }

    #[test]
    fn what_the_url_holds_is_known_without_showing_it() {
        let url = "rediss://:p@cache/3".parse::<RedisUrl>().unwrap();
        assert!(url.is_tls() && url.has_password() && url.has_database());
        let url = "redis://user@cache/0".parse::<RedisUrl>().unwrap();
        assert!(!url.is_tls() && !url.has_password() && !url.has_database());
    }

    #[test]
    fn what_names_no_server_is_refused_and_not_repeated() {
        let long = "redis://u:hunter2@host:notaport";
        for url in ["", "cache:6379", "http://cache", "redis://", "redis:///0", "redis://a b", "redis://u:p@", long] {
            let bad = url.parse::<RedisUrl>().unwrap_err();
            assert!(!bad.to_string().contains("hunter2"), "{bad}");
        }
        for url in ["rediss://cache#insecure", "redis://cache?protocol=resp3", "redis://cache/many"] {
            assert!(url.parse::<RedisUrl>().is_err(), "{url}");
        }
    }
}
