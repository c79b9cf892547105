//! What the caller says about caching, attribution and time, in our headers and in those of other gateways.
//!
//! A mistake in one of our own headers is refused with advice; a mistake in another product's header is ignored, since
//! the request would have worked without us.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::config::CacheMode;
use crate::json::{Member, Node, Value};

const MAX_TAGS: usize = 10;
const MAX_TEXT: usize = 256;
/// Headers of others that say with whom an answer may be shared.
const KEEP_APART: [&str; 3] = ["x-portkey-cache-namespace", "helicone-cache-seed", "helicone-user-id"];

/// Cache controls of one request. The default allows everything the tenant allows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Controls {
    /// How far the request may go.
    pub mode: Option<CacheMode>,
    /// Least cosine; may only tighten.
    pub similarity: Option<f32>,
    /// Lifetime of what this request stores.
    pub ttl: Option<Duration>,
    /// Separate entries inside the tenant.
    pub namespace: Option<String>,
    /// Attribution, at most ten.
    pub tags: Vec<(String, String)>,
    /// End user.
    pub user: Option<String>,
    /// Longest time for the whole request.
    pub timeout: Option<Duration>,
    /// Do not read, but store.
    pub no_cache: bool,
    /// Do not store. In `Cache-Control` it also means: do not read.
    pub no_store: bool,
    /// Oldest entry that may be served.
    pub max_age: Option<Duration>,
    /// Fail with 504 rather than ask upstream.
    pub only_if_cached: bool,
}

/// One of our headers has a value we cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header `{header}` {problem}")]
pub struct BadControl {
    /// Name of the header.
    pub header: &'static str,
    /// What is expected.
    pub problem: &'static str,
}

impl Controls {
    /// Reads `Cache-Control`, the `x-remora-*` headers and the aliases.
    ///
    /// # Errors
    /// The first `x-remora-*` header with a value that cannot be used.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, BadControl> {
        let mut controls = Self::default();
        // Almost every request has none of them; this keeps the common case at one pass over the names.
        for name in headers.keys() {
            match name.as_str() {
                "cache-control" => controls.cache_control(headers),
                n if n.starts_with("x-remora-") => controls.own(n, headers)?,
                n => {
                    let bytes = headers.get(n).map(http::HeaderValue::as_bytes).unwrap_or_default();
                    match std::str::from_utf8(bytes) {
                        Ok(value) => controls.alias(n, value.trim()),
                        Err(_) if KEEP_APART.contains(&n) => controls.limit(CacheMode::Off),
                        Err(_) => {}
                    }
                }
            }
        }
        Ok(controls)
    }

    /// The same with the body's controls filling what the headers leave open.
    pub fn or(self, body: Self) -> Self {
        Self {
            mode: [self.mode, body.mode].into_iter().flatten().min(),
            similarity: self.similarity.or(body.similarity),
            ttl: self.ttl.or(body.ttl),
            namespace: self.namespace.or(body.namespace),
            tags: self.tags,
            user: self.user.or(body.user),
            timeout: self.timeout.or(body.timeout),
            no_cache: self.no_cache || body.no_cache,
            no_store: self.no_store || body.no_store,
            max_age: self.max_age.or(body.max_age),
            only_if_cached: self.only_if_cached || body.only_if_cached,
        }
    }

    /// Whether this is LiteLLM's `cache` member and not something meant for upstream.
    pub(super) fn is_body_member(member: &Member<'_>) -> bool {
        const KNOWN: [&str; 7] = ["no-cache", "no-store", "ttl", "s-maxage", "s-max-age", "namespace", "use-cache"];
        member.name == "cache"
            && matches!(member.node.value, Value::Object(_))
            && member.node.members().iter().all(|m| KNOWN.contains(&m.name.as_ref()))
    }

    /// LiteLLM's `cache` member: `{"no-cache", "no-store", "ttl", "s-maxage", "namespace"}`.
    pub(super) fn from_body(cache: Option<&Node<'_>>) -> Self {
        let Some(cache) = cache else { return Self::default() };
        let flag = |name: &str| cache.get(name).and_then(Node::boolean).unwrap_or(false);
        let seconds = |name: &str| cache.get(name).and_then(Node::double).and_then(seconds);
        let namespace = cache.get("namespace").filter(|n| !n.is_null() && n.text() != Some(""));
        let mut controls = Self {
            no_cache: flag("no-cache"),
            no_store: flag("no-store"),
            ttl: seconds("ttl"),
            max_age: seconds("s-maxage").or_else(|| seconds("s-max-age")),
            namespace: namespace.and_then(Node::text).map(str::to_owned).filter(short),
            ..Self::default()
        };
        if namespace.is_some() && controls.namespace.is_none() {
            controls.limit(CacheMode::Off);
        }
        controls
    }

    fn cache_control(&mut self, headers: &HeaderMap) {
        let lines: Vec<_> =
            headers.get_all(header::CACHE_CONTROL).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        for directive in lines.iter().flat_map(|line| line.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" => self.no_cache = true,
                "no-store" => {
                    self.no_store = true;
                    self.limit(CacheMode::Off);
                }
                "max-age" => {
                    let age = whole_seconds(value.trim().trim_matches('"'));
                    self.max_age = Some(self.max_age.map_or(age, |known| known.min(age)));
                }
                "only-if-cached" => self.only_if_cached = true,
                _ => {}
            }
        }
    }

    fn own(&mut self, name: &str, headers: &HeaderMap) -> Result<(), BadControl> {
        let value = text(headers, name).unwrap_or_default();
        match name {
            "x-remora-cache" => {
                self.limit(match value {
                    "off" => CacheMode::Off,
                    "exact" => CacheMode::Exact,
                    "shadow" => CacheMode::Shadow,
                    "semantic" => CacheMode::Semantic,
                    _ => return Err(bad("x-remora-cache", "must be `off`, `exact`, `shadow` or `semantic`")),
                });
            }
            "x-remora-similarity" => {
                let floor = value.parse::<f32>().ok().filter(|s| (0.0..=1.0).contains(s));
                self.similarity =
                    Some(floor.ok_or_else(|| bad("x-remora-similarity", "must be a number from 0 to 1, as in 0.97"))?);
            }
            "x-remora-ttl" => {
                self.ttl =
                    Some(duration(value).ok_or_else(|| bad("x-remora-ttl", "must be seconds or as in `10m`, `24h`"))?);
            }
            "x-remora-timeout" => {
                let wait = duration(value).filter(|d| !d.is_zero());
                self.timeout = Some(wait.ok_or_else(|| bad("x-remora-timeout", "must be seconds or as in `30s`"))?);
            }
            "x-remora-namespace" => self.namespace = Some(short_text("x-remora-namespace", value)?),
            "x-remora-user" => self.user = Some(short_text("x-remora-user", value)?),
            "x-remora-tags" => self.tags(value)?,
            _ => {}
        }
        Ok(())
    }

    fn tags(&mut self, value: &str) -> Result<(), BadControl> {
        let mut tags = Vec::new();
        for pair in value.split(',').filter(|p| !p.trim().is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| bad("x-remora-tags", "must be `name=value, name=value`"))?;
            tags.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        if tags.len() > MAX_TAGS {
            return Err(bad("x-remora-tags", "has more than 10 tags"));
        }
        // Those of other gateways take what room is left, whichever header came first.
        tags.append(&mut self.tags);
        tags.truncate(MAX_TAGS);
        self.tags = tags;
        Ok(())
    }

    fn alias(&mut self, name: &str, value: &str) {
        let yes = value.eq_ignore_ascii_case("true");
        match name {
            "x-portkey-cache-force-refresh" => self.no_cache |= yes,
            "x-portkey-cache-namespace" | "helicone-cache-seed" if self.namespace.is_none() => {
                self.namespace = Some(value.to_owned()).filter(short);
                self.keep_apart(value);
            }
            "helicone-cache-enabled" if value.eq_ignore_ascii_case("false") => self.limit(CacheMode::Off),
            "helicone-user-id" if self.user.is_none() => {
                self.user = Some(value.to_owned()).filter(short);
                self.keep_apart(value);
            }
            "cf-aig-skip-cache" if yes => self.limit(CacheMode::Off),
            "cf-aig-cache-ttl" | "x-bf-cache-ttl" if self.ttl.is_none() => self.ttl = duration(value),
            "cf-aig-metadata" => self.metadata(value),
            "x-bf-cache-threshold" if self.similarity.is_none() => {
                self.similarity = value.parse().ok().filter(|s| (0.0..=1.0).contains(s));
            }
            "x-bf-cache-no-store" => self.no_store |= yes,
            _ => {
                if let Some(property) = name.strip_prefix("helicone-property-") {
                    self.tag(property, value);
                }
            }
        }
    }

    /// A namespace or a user that we cannot use must still keep apart what it was meant to keep apart: without it the
    /// request would share with all others, so it goes without the cache.
    fn keep_apart(&mut self, value: &str) {
        if value.len() > MAX_TEXT {
            self.limit(CacheMode::Off);
        }
    }

    fn limit(&mut self, mode: CacheMode) {
        self.mode = Some(self.mode.map_or(mode, |m| m.min(mode)));
    }

    fn metadata(&mut self, value: &str) {
        let Ok(serde_json::Value::Object(members)) = serde_json::from_str(value) else { return };
        for (name, value) in members {
            match value {
                serde_json::Value::String(text) => self.tag(&name, &text),
                other => self.tag(&name, &other.to_string()),
            }
        }
    }

    fn tag(&mut self, name: &str, value: &str) {
        if self.tags.len() < MAX_TAGS && name.len() + value.len() <= MAX_TEXT {
            self.tags.push((name.to_owned(), value.to_owned()));
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim)
}

fn bad(header: &'static str, problem: &'static str) -> BadControl {
    BadControl { header, problem }
}

#[expect(clippy::ptr_arg, reason = "is used as a filter of `Option<String>`")]
fn short(text: &String) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT
}

fn short_text(header: &'static str, value: &str) -> Result<String, BadControl> {
    let text = value.to_owned();
    if short(&text) { Ok(text) } else { Err(bad(header, "must be 1 to 256 bytes of printable ASCII")) }
}

fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok()
}

/// The age in a `max-age`. One that cannot be read accepts nothing, so that doubt is a miss; one too large for us is as
/// good as any age (RFC 9111, 1.2.2).
fn whole_seconds(text: &str) -> Duration {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(text.parse().unwrap_or(u64::MAX))
}

/// Seconds, or a number with one of `ms`, `s`, `m`, `h`, `d`.
fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    seconds(number.trim().parse::<f64>().ok()? * scale)
}
