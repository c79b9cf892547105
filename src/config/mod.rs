//! Configuration: what people write → what runs.
//!
//! `config/remora.toml` is compiled in and holds every key with its default, so the manual and the program cannot
//! differ. A user's file is laid over it, then `REMORA__SECTION__KEY` variables, then flags (`tree`); the result is
//! read key by key (`reader`, `sections`, `tenants`, `credential`) and the values are compared with each other
//! (`lattice`).
//!
//! Invariants: [`Config::load`] changes nothing and can be called again at any time; it returns a configuration
//! without a single doubt in it, or every problem at once. It must never panic on what people write, and never repeat a
//! secret.

mod alerts;
mod credential;
mod glob;
mod lattice;
mod limits;
mod master_key;
mod model;
mod money;
mod onboard;
mod problem;
mod reader;
mod redis_url;
mod rem;
mod render;
mod savings;
mod secret;
mod sections;
mod spec;
mod store_url;
mod telemetry;
mod tenants;
#[cfg(test)]
mod tenants_tests;
mod terms;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod unknown;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use alerts::{Alerts, Email, MailTls, Webhook, WebhookFormat};
pub use glob::glob_matches;
pub use limits::RateSettings;
pub use master_key::{MasterKey, Seal};
pub use model::*;
pub use money::{BadMoney, NanoUsd};
pub use onboard::{KeyPlan, TenantPlan};
pub use problem::{Problem, ProblemKind, Problems, Source, check_report};
pub use redis_url::{BadRedisUrl, RedisUrl};
pub use rem::{Rem, RemEmbed};
pub use savings::Savings;
pub use secret::Secret;
pub use store_url::{BadStoreUrl, StoreUrl};
pub use telemetry::{LogFormat, Telemetry};
pub use tenants::is_passthrough_name;
pub use terms::{BadPeriod, Budget, KeySpec, Period, RateLimits, Right, TenantSpec, UnknownPrice, Wrong};
pub(crate) use units::{parse_duration, show_duration};

use problem::quote;
use reader::{Context, Reader};
use tree::{Map, SetError};

/// The reference manual and the defaults.
pub const DEFAULTS: &str = include_str!("../../config/remora.toml");

/// Variables that set one key: `REMORA__CACHE__TTL`.
const PREFIX: &str = "REMORA__";
/// Short for the URL of the upstream. Unset when empty.
const UPSTREAM: &str = "REMORA_UPSTREAM";
/// Where spans go, by the name that OpenTelemetry gives it everywhere. Unset when empty.
const OTLP: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Largest configuration file, in bytes. A larger one is the wrong file.
const LARGEST_FILE: u64 = 4 << 20;

/// What was given on the command line. Wins over everything else; checked like everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen ADDRESS:PORT`
    pub listen: Option<String>,
    /// `--admin-listen ADDRESS:PORT`
    pub admin_listen: Option<String>,
    /// `--rem-listen ADDRESS:PORT`
    pub rem_listen: Option<String>,
    /// `--upstream URL`
    pub upstream: Option<String>,
    /// `--store URL`
    pub store: Option<String>,
    /// `--redis URL`
    pub redis: Option<String>,
}

impl Config {
    /// Reads the configuration from the embedded defaults, the file at `path` if any, `env` (name and value) and
    /// `overrides`; later ones win. Reads the files that are named inside, and nothing else.
    ///
    /// For `env`, take [`std::env::vars_os`] without what is not UTF-8: [`std::env::vars`] panics on that.
    ///
    /// # Errors
    /// Every problem there is; when the file cannot be read or is not TOML at all, that alone.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let file = path.and_then(|path| read_file(path, &mut problems));
        if !problems.is_empty() {
            return Err(problems);
        }
        let name: Arc<str> = path.map_or_else(String::new, |path| path.display().to_string()).into();
        Self::from_text(file.as_deref().map(|text| (name, text)), env, overrides)
    }

    /// [`Config::load`] with the file already read: its name for messages, and its text.
    fn from_text(
        file: Option<(Arc<str>, &str)>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &Overrides,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let defaults = tree::parse(DEFAULTS, None, &mut problems).unwrap_or_default();
        let mut root = defaults.clone();
        if let Some((name, text)) = file {
            match tree::parse(text, Some(&name), &mut problems) {
                Some(over) => tree::merge(&mut root, over),
                None => return Err(problems),
            }
        }
        tree::fill_list(&mut root, &defaults, "upstream");
        let env: BTreeMap<String, String> = env.collect();
        apply_env(&mut root, &env, &mut problems);
        apply_flags(&mut root, overrides, &mut problems);

        let mut known = Vec::new();
        tree::paths(&defaults, "", &mut known);
        let mut context = Context { env, problems, known };
        let config = Reader::root(&root, &mut context, sections::config);
        let mut problems = context.problems;
        lattice::check(&config, &root, &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(problems.in_reading_order()) }
    }
}

fn read_file(path: &Path, problems: &mut Problems) -> Option<String> {
    match credential::read_limited(path, LARGEST_FILE) {
        Ok(text) => Some(text),
        Err(error) => {
            problems.push(Problem {
                source: Source::File { path: path.display().to_string().into(), line: 1, column: 1 },
                key: String::new(),
                kind: ProblemKind::Unreadable,
                message: format!("the file cannot be read: {error}"),
                fix: "give the path of a TOML file that this user may read".to_owned(),
                suggestion: None,
            });
            None
        }
    }
}

fn apply_env(root: &mut Map, env: &BTreeMap<String, String>, problems: &mut Problems) {
    for (name, path) in [(UPSTREAM, "upstream.url"), (OTLP, "telemetry.otlp")] {
        if let Some(url) = env.get(name).filter(|url| !url.is_empty()) {
            put(root, path, url, &Source::Env(Arc::from(name)), problems);
        }
    }
    for (name, text) in env {
        if let Some(path) = name.strip_prefix(PREFIX) {
            let path = path.to_lowercase().replace("__", ".");
            put(root, &path, text, &Source::Env(Arc::from(name.as_str())), problems);
        }
    }
}

fn apply_flags(root: &mut Map, overrides: &Overrides, problems: &mut Problems) {
    let Overrides { listen, admin_listen, rem_listen, upstream, store, redis } = overrides;
    let flags = [
        ("server.listen", "--listen", listen),
        ("admin.listen", "--admin-listen", admin_listen),
        ("rem.listen", "--rem-listen", rem_listen),
        ("upstream.url", "--upstream", upstream),
        ("store.url", "--store", store),
        ("redis.url", "--redis", redis),
    ];
    for (path, flag, text) in flags {
        if let Some(text) = text {
            put(root, path, text, &Source::Flag(flag), problems);
        }
    }
}

fn put(root: &mut Map, path: &str, text: &str, source: &Source, problems: &mut Problems) {
    let segments: Vec<String> = path.split('.').map(str::to_owned).collect();
    let (message, fix) = match tree::set(root, &segments, text, source) {
        Ok(()) => return,
        Err(SetError::NoSuchElement) => (
            format!("there is no such element for {} to change", quote(path)),
            "declare it in a file; variables and flags only change what is declared",
        ),
        Err(SetError::NotASection) => {
            (format!("nothing can be set at {}", quote(path)), "remove it, or correct the name")
        }
    };
    let (source, fix) = (source.clone(), fix.to_owned());
    let problem =
        Problem { source, key: path.to_owned(), kind: ProblemKind::UnknownKey, message, fix, suggestion: None };
    problems.push(problem);
}
