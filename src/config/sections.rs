//! Each section of the file, key by key: type, range and where it goes in the model.
//!
//! The ranges are repeated in the comments of `config/remora.toml`; a test compares the two.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::alerts;
use super::credential::{self, Purpose};
use super::master_key::{MasterKey, Seal};
use super::model::*;
use super::problem::{ProblemKind, quote};
use super::reader::Reader;
use super::redis_url::{BadRedisUrl, RedisUrl};
use super::store_url::{BadStoreUrl, StoreUrl};
use super::terms::UnknownPrice;
use super::{telemetry, tenants};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MILLION: u32 = 1_000_000;

/// The whole file. What it returns is only good if no problem was noted.
pub(super) fn config(root: &mut Reader<'_>) -> Config {
    let tenants = tenants::read(root);
    let passthrough_by_default = tenants.is_empty();
    Config {
        server: root.section("server", |reader| server(reader, passthrough_by_default)),
        admin: root.section("admin", admin),
        rem: root.section("rem", super::rem::read),
        store: root.section("store", store),
        redis: root.section("redis", redis),
        limits: root.section("limits", super::limits::read),
        embedding: root.section("embedding", embedding),
        cache: root.section("cache", cache),
        upstream: the_upstream(root),
        prices: root.section("prices", prices),
        savings: root.section("savings", super::savings::read),
        alerts: root.section("alerts", alerts::read),
        tenants,
        telemetry: root.section("telemetry", telemetry::read),
    }
}

fn server(reader: &mut Reader<'_>, passthrough_by_default: bool) -> Server {
    Server {
        listen: reader.address("listen"),
        tls: reader.section("tls", tls),
        passthrough: reader.flag_or_auto("passthrough", passthrough_by_default),
        drain: reader.duration("drain", Duration::ZERO, HOUR),
        limits: reader.section("limits", limits),
        deadlines: reader.section("deadlines", deadlines),
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        connections: count(reader, "connections", 1, MILLION),
        connections_per_ip: count(reader, "connections_per_ip", 1, MILLION),
        h2_streams: reader.count("h2_streams", 1, 10_000),
        head_bytes: bytes(reader, "head_bytes", 8 * KIB, MIB),
        headers: count(reader, "headers", 8, 1000),
        uri_bytes: bytes(reader, "uri_bytes", 64, 32 * KIB),
        body_bytes: bytes(reader, "body_bytes", KIB, GIB),
        json_depth: count(reader, "json_depth", 4, 127),
        json_keys: count(reader, "json_keys", 16, 10 * MILLION),
        json_array: count(reader, "json_array", 16, 10 * MILLION),
        json_string: bytes(reader, "json_string", KIB, GIB),
        messages: count(reader, "messages", 1, MILLION),
        tools: count(reader, "tools", 0, 10_000),
        choices: u64::from(reader.count("choices", 1, 1000)),
        stop: count(reader, "stop", 0, 1000),
        response_bytes: bytes(reader, "response_bytes", 64 * KIB, GIB),
        sse_line_bytes: bytes(reader, "sse_line_bytes", KIB, 64 * MIB),
        sse_event_bytes: bytes(reader, "sse_event_bytes", KIB, 64 * MIB),
    }
}

fn deadlines(reader: &mut Reader<'_>) -> Deadlines {
    Deadlines {
        tls: reader.duration("tls", 10 * MS, 5 * MINUTE),
        head: reader.duration("head", 10 * MS, 5 * MINUTE),
        body_idle: reader.duration("body_idle", 10 * MS, 10 * MINUTE),
        body: reader.duration("body", 10 * MS, HOUR),
        keep_alive: reader.duration("keep_alive", 10 * MS, HOUR),
        write_stall: reader.duration("write_stall", 10 * MS, HOUR),
    }
}

/// The two files of a listener.
pub(super) fn tls(reader: &mut Reader<'_>) -> Option<Tls> {
    let cert = readable_file(reader, "cert");
    let key = readable_file(reader, "key");
    match (cert, key) {
        (Some(cert), Some(key)) => Some(Tls { cert, key }),
        (None, None) => None,
        (cert, _) => {
            let missing = if cert.is_some() { "key" } else { "cert" };
            if !reader.context.problems.touch(&reader.path_of(missing)) {
                let source = reader.source_of(if cert.is_some() { "cert" } else { "key" });
                let message = "TLS needs both `cert` and `key`".to_owned();
                let fix = "give both files, or neither for clear text".to_owned();
                reader.note(missing, &source, ProblemKind::Missing, message, fix);
            }
            None
        }
    }
}

fn admin(reader: &mut Reader<'_>) -> Admin {
    Admin {
        listen: reader.address("listen"),
        tls: reader.section("tls", tls),
        token: credential::read(reader, "token", Purpose::Presented),
    }
}

fn store(reader: &mut Reader<'_>) -> Store {
    let url = reader.checked("url", store_url).unwrap_or_else(|| StoreUrl::Sqlite(PathBuf::new()));
    let secret_file = match (reader.text("secret_file"), &url) {
        (file, StoreUrl::Sqlite(path)) if file.is_empty() => Some(beside(path, ".key")),
        (file, _) => (!file.is_empty()).then(|| PathBuf::from(file)),
    };
    let journal_dir = match (reader.text("journal_dir"), &url) {
        (directory, StoreUrl::Sqlite(path)) if directory.is_empty() => beside(path, ".journal"),
        (directory, _) if directory.is_empty() => PathBuf::from("remora-journal"),
        (directory, _) => PathBuf::from(directory),
    };
    let shadow = reader.checked("shadow", shadow_url).flatten();
    let seal = the_seal(reader);
    let before = reader.context.problems.len();
    let master_key = the_master_key(reader, "master_key");
    if seal != Seal::None && master_key.is_none() && reader.context.problems.len() == before {
        let source = reader.source_of(if seal == Seal::All { "seal" } else { "seal_tenants" });
        let message = "tenants are to be sealed, and there is no master key".to_owned();
        let fix = "make one with `openssl rand -hex 32` and name it by master_key_env or master_key_file".to_owned();
        reader.note("master_key_file", &source, ProblemKind::Missing, message, fix);
    }
    Store {
        url,
        shadow,
        migrate: reader.choice("migrate", Migrate::Auto, &[("auto", Migrate::Auto), ("manual", Migrate::Manual)]),
        secret_file,
        flush: reader.duration("flush", MS, 10 * SECOND),
        start_wait: reader.duration("start_wait", Duration::ZERO, 3600 * SECOND),
        blind: reader.duration("blind", SECOND, 24 * 3600 * SECOND),
        journal_dir,
        journal_bytes: reader.size("journal_bytes", 4 * MIB, TIB),
        journal_sync: reader.choice("journal_sync", false, &[("off", false), ("on", true)]),
        seal,
        master_key,
        previous_master_key: the_master_key(reader, "previous_master_key"),
    }
}

fn the_seal(reader: &mut Reader<'_>) -> Seal {
    let all = reader.choice("seal", false, &[("none", false), ("all", true)]);
    let names = reader.strings("seal_tenants");
    match (all, names.is_empty()) {
        (true, _) => Seal::All,
        (false, true) => Seal::None,
        (false, false) => Seal::Tenants(names),
    }
}

fn the_master_key(reader: &mut Reader<'_>, name: &str) -> Option<MasterKey> {
    let text = credential::read(reader, name, Purpose::Sent)?;
    let key = MasterKey::parse(text.expose());
    if key.is_none() {
        let given = format!("{name}_file");
        let key = if reader.text(&given).is_empty() { format!("{name}_env") } else { given };
        let source = reader.source_of(&key);
        let message = "the master key is not 64 hexadecimal digits, nor 32 bytes as base64".to_owned();
        let fix = "make one with `openssl rand -hex 32`".to_owned();
        reader.note(&key, &source, ProblemKind::BadSecret, message, fix);
    }
    key
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// The text is never quoted: the URL of a database may have a password in it.
fn store_url(url: &str) -> Result<StoreUrl, (String, String)> {
    url.parse().map_err(|bad: BadStoreUrl| (bad.problem.to_owned(), bad.fix.to_owned()))
}

/// Every key is read, so that it is checked, whether or not there is a URL.
fn redis(reader: &mut Reader<'_>) -> Option<Redis> {
    let url = reader.checked("url", redis_url).flatten();
    let password = credential::read(reader, "password", Purpose::Sent);
    let cluster = reader.flag("cluster");
    let ca_file = readable_file(reader, "ca_file");
    let deadline = reader.duration("deadline", MS, SECOND);
    let in_flight = count(reader, "in_flight", 1, 10_000);
    let queue = count(reader, "queue", 1, MILLION);
    let exact_ttl = reader.duration("exact_ttl", SECOND, DAY);
    let lease_wait = reader.duration("lease_wait", Duration::ZERO, 10 * MINUTE);
    let url = url?;
    let mut conflict = |key: &str, message: &str, fix: &str| {
        let source = reader.source_of(key);
        reader.note(key, &source, ProblemKind::Conflict, message.to_owned(), fix.to_owned());
    };
    if password.is_some() && url.has_password() {
        conflict("url", "the URL has a password, and another one is given", "keep one of them");
    }
    if cluster && url.has_database() {
        conflict("cluster", "a cluster has no numbered databases", "take the number off the end of the URL");
    }
    if ca_file.is_some() && !url.is_tls() {
        conflict("ca_file", "the connection is not encrypted", "write rediss:// in the URL, or remove the file");
    }
    Some(Redis { url, password, ca_file, cluster, deadline, in_flight, queue, exact_ttl, lease_wait })
}

/// `None` for the empty text. The text is never quoted: there may be a password in it.
fn redis_url(url: &str) -> Result<Option<RedisUrl>, (String, String)> {
    if url.is_empty() {
        return Ok(None);
    }
    url.parse().map(Some).map_err(|bad: BadRedisUrl| (bad.problem.to_owned(), bad.fix.to_owned()))
}

/// None where nothing is written.
fn shadow_url(url: &str) -> Result<Option<StoreUrl>, (String, String)> {
    if url.is_empty() { Ok(None) } else { store_url(url).map(Some) }
}

fn embedding(reader: &mut Reader<'_>) -> Embedding {
    #[derive(Clone, Copy)]
    enum Kind {
        Builtin,
        OpenAi,
    }
    let kind = reader.choice("kind", Kind::Builtin, &[("builtin", Kind::Builtin), ("openai", Kind::OpenAi)]);
    let url = base_url(reader, "url");
    let model = model_name(reader, "model");
    let dimensions = count(reader, "dimensions", 1, 8192);
    let api_key = credential::read(reader, "api_key", Purpose::Sent);
    Embedding {
        kind: match kind {
            Kind::Builtin => EmbeddingKind::Builtin,
            Kind::OpenAi => EmbeddingKind::OpenAi { url, model, api_key, dimensions },
        },
        deadline: reader.duration("deadline", MS, 30 * SECOND),
        threads: count(reader, "threads", 1, 256),
        queue: count(reader, "queue", 1, MILLION),
        cache_entries: count(reader, "cache_entries", 0, 10 * MILLION),
    }
}

/// The choices of `mode`, in `[cache]` and in `[tenant.cache]`.
pub(super) const MODES: [(&str, CacheMode); 4] = [
    ("semantic", CacheMode::Semantic),
    ("shadow", CacheMode::Shadow),
    ("exact", CacheMode::Exact),
    ("off", CacheMode::Off),
];
/// The choices of `share`, in `[cache]` and in `[tenant.cache]`.
pub(super) const SHARES: [(&str, Share); 3] = [("key", Share::Key), ("tenant", Share::Tenant), ("user", Share::User)];

/// `ttl`, in `[cache]` and in `[tenant.cache]`.
pub(super) fn ttl(reader: &mut Reader<'_>) -> Duration {
    reader.duration("ttl", SECOND, 365 * DAY)
}

/// `similarity`, in `[cache]` and in `[tenant.cache]`.
pub(super) fn similarity(reader: &mut Reader<'_>) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "vectors are compared in f32; the range is 0 to 1")]
    let similarity = reader.number("similarity", 0.0, 1.0) as f32;
    similarity
}

/// `max_error_rate`, in `[cache]` and in `[tenant.cache]`.
pub(super) fn max_error_rate(reader: &mut Reader<'_>) -> f64 {
    reader.number("max_error_rate", 0.0, 1.0)
}

fn audit(reader: &mut Reader<'_>) -> Audit {
    Audit {
        rate: reader.number("rate", 0.0, 1.0),
        per_hour: reader.count("per_hour", 0, MILLION),
        tokens_per_day: reader.count("tokens_per_day", 0, 4000 * MILLION).into(),
    }
}

fn cache(reader: &mut Reader<'_>) -> Cache {
    Cache {
        mode: reader.choice("mode", CacheMode::Off, &MODES),
        ttl: ttl(reader),
        similarity: similarity(reader),
        max_error_rate: max_error_rate(reader),
        share: reader.choice("share", Share::Key, &SHARES),
        max_temperature: reader.number("max_temperature", 0.0, 2.0),
        max_entries: count(reader, "max_entries", 1, 100 * MILLION),
        max_bytes: reader.size("max_bytes", MIB, 16 * TIB),
        memory_bytes: reader.size("memory_bytes", MIB, TIB),
        index_bytes: reader.size("index_bytes", MIB, TIB),
        max_entry_bytes: bytes(reader, "max_entry_bytes", KIB, 64 * MIB),
        guards_off: guards_off(reader),
        hnsw_from: count(reader, "hnsw_from", 1000, 10 * MILLION),
        weights_file: readable_file(reader, "weights_file"),
        record_prompts: reader.flag("record_prompts"),
        keep_decisions: reader.duration("keep_decisions", HOUR, 365 * DAY),
        two_writers: reader.flag("two_writers"),
        writes_per_minute: reader.count("writes_per_minute", 1, 100 * MILLION),
        writer_share: reader.number("writer_share", 0.0, 1.0),
        probe_alarm: reader.count("probe_alarm", 1, 100 * MILLION),
        audit: reader.section("audit", audit),
    }
}

fn guards_off(reader: &mut Reader<'_>) -> Vec<String> {
    let names = reader.strings("guards_off");
    for name in &names {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            let source = reader.source_of("guards_off");
            let message = format!("{} is not the name of a guard", quote(name));
            let fix = "use names as they appear in x-remora-reason, as in \"numbers\"".to_owned();
            reader.note("guards_off", &source, ProblemKind::BadValue, message, fix);
        }
    }
    names
}

fn the_upstream(root: &mut Reader<'_>) -> Upstream {
    let mut all = root.list("upstream", upstream);
    let source = root.source_of("upstream");
    if all.len() > 1 {
        let message = format!("{} upstreams are declared; several are not supported in this version", all.len());
        let fix = "keep one [[upstream]]".to_owned();
        root.note("upstream", &source, ProblemKind::NotSupported, message, fix);
    }
    all.pop().unwrap_or_else(|| {
        if !root.context.problems.touch("upstream") {
            let fix = "declare one [[upstream]], or leave it out for the default".to_owned();
            root.note("upstream", &source, ProblemKind::Missing, "there is no upstream".to_owned(), fix);
        }
        Upstream {
            name: String::new(),
            url: String::new(),
            api_key: None,
            ca_file: None,
            connect: Duration::ZERO,
            first_byte_stream: Duration::ZERO,
            first_byte: Duration::ZERO,
            idle: Duration::ZERO,
            total: Duration::ZERO,
            max_in_flight: 0,
            trace_context: false,
        }
    })
}

fn upstream(reader: &mut Reader<'_>) -> Upstream {
    Upstream {
        name: name_like(reader, "name"),
        url: base_url(reader, "url"),
        api_key: credential::read(reader, "api_key", Purpose::Sent),
        ca_file: readable_file(reader, "ca_file"),
        connect: reader.duration("connect", 10 * MS, 5 * MINUTE),
        first_byte_stream: reader.duration("first_byte_stream", 10 * MS, HOUR),
        first_byte: reader.duration("first_byte", 10 * MS, HOUR),
        idle: reader.duration("idle", 10 * MS, HOUR),
        total: reader.duration("total", 10 * MS, DAY),
        max_in_flight: count(reader, "max_in_flight", 1, MILLION),
        trace_context: reader.flag("trace_context"),
    }
}

fn prices(reader: &mut Reader<'_>) -> Prices {
    let policies =
        [("deny", UnknownPrice::Deny), ("allow", UnknownPrice::Allow), ("assume_max", UnknownPrice::AssumeMax)];
    Prices {
        file: readable_file(reader, "file"),
        unknown: reader.choice("unknown", UnknownPrice::Allow, &policies),
        assumed_output: reader.count("assumed_output", 1, MILLION),
    }
}

/// A name that appears in logs, metric labels and ids: 1 to 64 letters, digits, dots, dashes, underscores.
pub(super) fn name_like(reader: &mut Reader<'_>, key: &str) -> String {
    let read = reader.checked(key, |text| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(good) {
            return Ok(text.to_owned());
        }
        Err((format!("{} cannot be a name", quote(text)), "use 1 to 64 of a-z A-Z 0-9 . - _".to_owned()))
    });
    read.unwrap_or_default()
}

/// A model's name, which may have slashes and colons: 1 to 256 characters, none of them blank or control.
fn model_name(reader: &mut Reader<'_>, key: &str) -> String {
    let read = reader.checked(key, |text| {
        if (1..=256).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Ok(text.to_owned());
        }
        Err((format!("{} cannot be a model", quote(text)), "use 1 to 256 bytes without blanks".to_owned()))
    });
    read.unwrap_or_default()
}

/// An absolute http or https URL, without the trailing slash. Not quoted in problems: there may be a password in it.
pub(super) fn base_url(reader: &mut Reader<'_>, key: &str) -> String {
    let fix = "write scheme, host and path only, as in \"https://api.openai.com/v1\"";
    let bad = |why: &str| Err((why.to_owned(), fix.to_owned()));
    let read = reader.checked(key, |text| {
        // `http::Uri` drops a fragment without a word.
        if text.contains('#') || text.contains('?') {
            return bad("the URL has a query or fragment");
        }
        let Ok(uri) = text.parse::<http::Uri>() else { return bad("not a URL") };
        let Some(authority) = uri.authority() else { return bad("the URL has no host") };
        if authority.as_str().contains('@') {
            return bad("the URL has a user or password in it");
        }
        if authority.host().is_empty() {
            return bad("the URL has no host");
        }
        match uri.scheme_str() {
            Some("http" | "https") => Ok(text.trim_end_matches('/').to_owned()),
            _ => bad("the URL is neither http nor https"),
        }
    });
    read.unwrap_or_default()
}

/// A path that can be opened; `None` when it is empty, or after a problem.
fn readable_file(reader: &mut Reader<'_>, key: &str) -> Option<PathBuf> {
    let path = PathBuf::from(reader.text(key));
    if path.as_os_str().is_empty() {
        return None;
    }
    if let Err(error) = std::fs::File::open(&path) {
        let source = reader.source_of(key);
        let message = format!("{} cannot be read: {error}", quote(&path.to_string_lossy()));
        let fix = "give a file that this user may read; relative paths start at the working directory".to_owned();
        reader.note(key, &source, ProblemKind::Unreadable, message, fix);
        return None;
    }
    Some(path)
}

fn count(reader: &mut Reader<'_>, key: &str, least: u32, most: u32) -> usize {
    usize::try_from(reader.count(key, least, most)).unwrap_or(usize::MAX)
}

fn bytes(reader: &mut Reader<'_>, key: &str, least: u64, most: u64) -> usize {
    usize::try_from(reader.size(key, least, most)).unwrap_or(usize::MAX)
}
