//! What a tenant and a key are held to: limits, budgets, rights, cache policy.
//!
//! One shape for three ways in: `[[tenant]]` in the configuration file, the admin API, and `remora tenant apply`. The JSON of
//! the API and of the store is what serde makes of it; members that are not known are refused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::model::TenantCache;
use super::money::NanoUsd;
use super::units::{parse_duration, show_duration};

/// Limits of a tenant or of a key; a limit that is not set does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Requests per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// Tokens per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Tokens per day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpd: Option<u64>,
    /// Requests that may be with upstream at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
}

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A day in UTC.
    Day,
    /// A week in UTC, from Monday.
    Week,
    /// A calendar month in UTC.
    Month,
    /// The time before each moment, from a minute to a year.
    Rolling(Duration),
}

/// Text that is not a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a period: write \"day\", \"week\", \"month\", or a duration of 1m to 366d for a rolling window")]
pub struct BadPeriod;

impl FromStr for Period {
    type Err = BadPeriod;

    fn from_str(text: &str) -> Result<Self, BadPeriod> {
        let within = Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 60 * 60);
        match text {
            "day" => Ok(Self::Day),
            "week" => Ok(Self::Week),
            "month" => Ok(Self::Month),
            _ => parse_duration(text).filter(|length| within.contains(length)).map(Self::Rolling).ok_or(BadPeriod),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Rolling(length) => f.write_str(&show_duration(*length)),
        }
    }
}

/// Text both ways for serde.
macro_rules! as_text {
    ($kind:ty) => {
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Period);

/// An amount of money for a period. `key`, `model` and `tag` narrow what counts towards it; with none of them all requests
/// of the tenant do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Unique in the tenant; the period, if it is not given.
    #[serde(default)]
    pub name: String,
    /// How long it lasts.
    pub period: Period,
    /// How much there is.
    pub usd: NanoUsd,
    /// Whether requests are refused when it is spent; otherwise it only warns.
    #[serde(default = "yes")]
    pub hard: bool,
    /// Shares of it at which somebody is told, 0 to 10 (1 is all of it), rising.
    #[serde(default = "usual_alerts")]
    pub alert_at: Vec<f64>,
    /// Only requests with the key of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only requests for models that match this glob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only requests with this tag, as in `team=search`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

fn yes() -> bool {
    true
}

fn usual_alerts() -> Vec<f64> {
    Budget::USUAL_ALERTS.to_vec()
}

/// What to do with a request whose price is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPrice {
    /// Refuse it.
    Deny,
    /// Let it pass; it counts as unpriced, towards no budget.
    #[default]
    Allow,
    /// Charge the highest price there is in the book.
    AssumeMax,
}

/// What a tenant is held to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSpec {
    /// Whether its keys are accepted.
    pub enabled: bool,
    /// Limits of all its keys together.
    pub limits: RateLimits,
    /// Budgets; all must have room.
    pub budgets: Vec<Budget>,
    /// Narrows `[cache]`.
    pub cache: TenantCache,
    /// Whether hits are served when a hard budget is spent.
    pub hits_when_spent: bool,
    /// Whether the tokens of a hit count towards tokens per minute and per day.
    pub hits_take_tokens: bool,
    /// In the place of `[prices] unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_price: Option<UnknownPrice>,
}

impl Default for TenantSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            limits: RateLimits::default(),
            budgets: Vec::new(),
            cache: TenantCache::default(),
            hits_when_spent: true,
            hits_take_tokens: false,
            unknown_price: None,
        }
    }
}

/// Something a key may do besides asking for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Right {
    /// See similarity and neighbours.
    #[serde(rename = "cache:inspect")]
    CacheInspect,
    /// Ask the REM endpoint.
    #[serde(rename = "rem")]
    Rem,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::CacheInspect, Self::Rem];

    /// Name in files and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CacheInspect => "cache:inspect",
            Self::Rem => "rem",
        }
    }
}

/// What a key may do and what it is held to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySpec {
    /// Whether it is accepted.
    pub enabled: bool,
    /// Model globs it may use (`*` matches any run of characters).
    pub models: Vec<String>,
    /// Routes it may use, as globs over the path, as in `/v1/chat/*`.
    pub routes: Vec<String>,
    /// What else it may do.
    pub rights: Vec<Right>,
    /// Limits of this key alone; those of the tenant hold too.
    pub limits: RateLimits,
}

impl Default for KeySpec {
    fn default() -> Self {
        let all = || vec!["*".to_owned()];
        Self { enabled: true, models: all(), routes: all(), rights: Vec::new(), limits: RateLimits::default() }
    }
}

/// Something in a spec that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, as in `budgets[1].alert_at`.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub fix: &'static str,
}

impl TenantSpec {
    /// Gives budgets without a name the name of their period.
    pub fn name_budgets(&mut self) {
        for budget in self.budgets.iter_mut().filter(|budget| budget.name.is_empty()) {
            budget.name = budget.period.to_string();
        }
    }

    /// Everything that cannot be. Names must have been given before.
    pub fn wrong(&self) -> Vec<Wrong> {
        let mut found = wrong_limits("limits", &self.limits);
        wrong_cache(&self.cache, &mut found);
        for (index, budget) in self.budgets.iter().enumerate() {
            budget.wrong(&format!("budgets[{index}]"), &mut found);
            if self.budgets.iter().take(index).any(|other| other.name == budget.name) {
                found.push(Wrong {
                    place: format!("budgets[{index}].name"),
                    what: format!("two budgets are called `{}`", budget.name),
                    fix: "give each its own name",
                });
            }
        }
        found
    }
}

impl KeySpec {
    /// Everything that cannot be.
    pub fn wrong(&self) -> Vec<Wrong> {
        let mut found = wrong_limits("limits", &self.limits);
        for (name, globs) in [("models", &self.models), ("routes", &self.routes)] {
            if globs.is_empty() {
                found.push(Wrong {
                    place: name.to_owned(),
                    what: "an empty list allows nothing".to_owned(),
                    fix: "write [\"*\"] for all; a key that nobody may use is `enabled = false`",
                });
            }
            if globs.iter().any(|glob| glob.is_empty() || glob.len() > 256 || glob.chars().any(char::is_control)) {
                found.push(Wrong {
                    place: name.to_owned(),
                    what: "a pattern is empty, longer than 256 bytes or has control characters".to_owned(),
                    fix: "write names, with * for any run of characters, as in [\"gpt-4o*\"]",
                });
            }
        }
        found
    }
}

impl Budget {
    /// Half of it, most of it, all of it.
    pub const USUAL_ALERTS: [f64; 3] = [0.5, 0.8, 1.0];

    fn wrong(&self, place: &str, found: &mut Vec<Wrong>) {
        let mut note = |member: &str, what: &str, fix: &'static str| {
            found.push(Wrong { place: format!("{place}.{member}"), what: what.to_owned(), fix });
        };
        let name_fits = (1..=64).contains(&self.name.len())
            && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !name_fits {
            note("name", "not a name", "use 1 to 64 letters, digits, `-`, `_` or `.`");
        }
        if self.usd.0 == 0 {
            note("usd", "no money", "write an amount over 0, as in \"12.50\"");
        }
        let rising = self.alert_at.iter().zip(self.alert_at.iter().skip(1)).all(|(one, next)| one < next);
        if !rising || self.alert_at.len() > 16 || self.alert_at.iter().any(|share| !(*share > 0.0 && *share <= 10.0)) {
            note("alert_at", "not a list of shares", "write up to 16 rising numbers over 0, as in [0.5, 0.8, 1.0]");
        }
        let targets = [self.key.is_some(), self.model.is_some(), self.tag.is_some()];
        if targets.iter().filter(|given| **given).count() > 1 {
            note("key", "more than one of key, model and tag", "make a budget for each");
        }
        if self.tag.as_ref().is_some_and(|tag| tag.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
            note("tag", "not a tag", "write it as name=value");
        }
    }
}

/// The ranges of `[tenant.cache]`.
fn wrong_cache(cache: &TenantCache, found: &mut Vec<Wrong>) {
    let TenantCache { mode: _, ttl, similarity, max_error_rate, share: _ } = cache;
    let mut note = |member: &str, fix: &'static str| {
        found.push(Wrong { place: format!("cache.{member}"), what: "out of range".to_owned(), fix });
    };
    let lives = Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60);
    if ttl.is_some_and(|ttl| !lives.contains(&ttl)) {
        note("ttl", "write a duration of 1s to 365d");
    }
    if similarity.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        note("similarity", "write a number from 0 to 1");
    }
    if max_error_rate.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        note("max_error_rate", "write a number from 0 to 1");
    }
}

fn wrong_limits(place: &str, limits: &RateLimits) -> Vec<Wrong> {
    const MOST: u64 = 1_000_000_000_000;
    let RateLimits { rpm, tpm, tpd, concurrency } = limits;
    let mut found = Vec::new();
    for (name, limit) in [("rpm", rpm), ("tpm", tpm), ("tpd", tpd), ("concurrency", concurrency)] {
        if limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
            found.push(Wrong {
                place: format!("{place}.{name}"),
                what: "out of range".to_owned(),
                fix: "write a number from 1 to 1000000000000, or leave it out for no limit",
            });
        }
    }
    found
}
