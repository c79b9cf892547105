//! `[rem]`: the REM sidecar, its listener, what it is filled with, and what a query may take.

use std::net::SocketAddr;
use std::time::Duration;

use super::model::{EmbeddingKind, Tls};
use super::reader::Reader;
use super::sections;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `[rem]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rem {
    /// Whether there is a sidecar at all.
    pub enabled: bool,
    /// Its address.
    pub listen: SocketAddr,
    /// TLS of its listener; clear text without.
    pub tls: Option<Tls>,
    /// Whether traffic leaves rows and edges behind.
    pub fill: bool,
    /// Whether texts become vectors.
    pub embed: RemEmbed,
    /// How long rows that the program made from traffic are kept.
    pub keep: Duration,
    /// Longest time of a query.
    pub deadline: Duration,
    /// Most rows of an answer of SQL.
    pub sql_rows: u32,
    /// Most bytes of an answer of SQL, as JSON.
    pub sql_bytes: u64,
    /// Longest time of a statement of SQL.
    pub sql_time: Duration,
}

/// `[rem] embed`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemEmbed {
    /// With the built-in model only, which costs nothing.
    Auto,
    /// With whatever embedder there is.
    On,
    /// Never.
    Off,
}

impl RemEmbed {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }

    /// Whether an embedder of this kind is used.
    pub fn uses(self, kind: &EmbeddingKind) -> bool {
        match self {
            Self::Auto => matches!(kind, EmbeddingKind::Builtin),
            Self::On => true,
            Self::Off => false,
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Rem {
    let embed = [RemEmbed::Auto, RemEmbed::On, RemEmbed::Off].map(|embed| (embed.as_str(), embed));
    Rem {
        enabled: reader.flag("enabled"),
        listen: reader.address("listen"),
        tls: reader.section("tls", sections::tls),
        fill: reader.flag("fill"),
        embed: reader.choice("embed", RemEmbed::Auto, &embed),
        keep: reader.duration("keep", HOUR, 3660 * DAY),
        deadline: reader.duration("deadline", 10 * MS, 5 * MINUTE),
        sql_rows: reader.count("sql_rows", 1, 100_000),
        sql_bytes: reader.size("sql_bytes", 1 << 10, 64 << 20),
        sql_time: reader.duration("sql_time", 10 * MS, 5 * MINUTE),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Config, EmbeddingKind, Overrides, Problems, RemEmbed};

    fn load(env: &[(&str, &str)], flags: &Overrides) -> Result<Config, Problems> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, env, flags)
    }

    fn one(env: &[(&str, &str)]) -> String {
        let problems = load(env, &Overrides::default()).err().unwrap_or_default();
        problems.iter().map(|found| format!("{} {}", found.key, found.kind.as_str())).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_sidecar_is_there_without_a_word_and_on_this_machine_only() {
        let rem = load(&[], &Overrides::default()).unwrap_or_else(|problems| panic!("{problems}")).rem;
        assert_eq!(rem.listen.to_string(), "127.0.0.1:8082");
        assert!(rem.enabled && rem.fill && rem.tls.is_none());
        assert_eq!((rem.deadline, rem.sql_time), (Duration::from_secs(5), Duration::from_secs(2)));
        assert_eq!((rem.sql_rows, rem.sql_bytes), (1_000, 4 << 20));
        let flags = Overrides { rem_listen: Some("127.0.0.1:9".into()), ..Overrides::default() };
        assert_eq!(load(&[], &flags).unwrap_or_else(|problems| panic!("{problems}")).rem.listen.port(), 9);
    }

    #[test]
    fn the_model_inside_is_used_by_itself_and_one_that_costs_money_when_asked_to() {
        let (url, model, api_key, dimensions) = (String::new(), String::new(), None, 1);
        let remote = EmbeddingKind::OpenAi { url, model, api_key, dimensions };
        assert!(RemEmbed::Auto.uses(&EmbeddingKind::Builtin) && !RemEmbed::Auto.uses(&remote));
        assert!(RemEmbed::On.uses(&EmbeddingKind::Builtin) && RemEmbed::On.uses(&remote));
        assert!(!RemEmbed::Off.uses(&EmbeddingKind::Builtin) && !RemEmbed::Off.uses(&remote));
    }

    #[test]
    fn what_cannot_hold_together_is_told_unless_the_sidecar_is_off() {
        let off = ("REMORA__REM__ENABLED", "false");
        for at in [":8080", ":8081"] {
            let taken = format!("127.0.0.1{at}");
            let listen = ("REMORA__REM__LISTEN", taken.as_str());
            assert_eq!(one(&[listen]), "rem.listen conflict");
            assert_eq!(one(&[listen, off]), "");
        }
        assert_eq!(one(&[("REMORA__SERVER__LISTEN", "0.0.0.0:8082")]), "rem.listen conflict");
        assert_eq!(one(&[("REMORA__REM__SQL_TIME", "5s")]), "rem.deadline conflict");
        assert_eq!(one(&[("REMORA__REM__EMBED", "sometimes")]), "rem.embed bad_value");
        assert_eq!(one(&[("REMORA__REM__TLS__CERT", "Cargo.toml")]), "rem.tls.key missing");
    }
}
