//! What a tenant and a key are held to, read from a section: the same keys in `[[tenant]]` of the configuration and in the
//! file of `remora tenant apply`.
//!
//! Types are checked here and values by `terms`, as for the admin API, so that no way in accepts what another refuses.

use super::model::{CacheMode, Share, TenantCache};
use super::problem::{ProblemKind, quote};
use super::reader::Reader;
use super::sections::{MODES, SHARES, max_error_rate, similarity, ttl};
use super::terms::{Budget, KeySpec, Period, RateLimits, Right, TenantSpec, UnknownPrice};

/// Largest limit. The same as in `terms`, which has the last word.
const MOST: u64 = 1_000_000_000_000;

const UNKNOWN_PRICE: [(&str, UnknownPrice); 3] =
    [("deny", UnknownPrice::Deny), ("allow", UnknownPrice::Allow), ("assume_max", UnknownPrice::AssumeMax)];

/// The part of `[[tenant]]` that the admin API can change, too.
pub(super) fn tenant(reader: &mut Reader<'_>) -> TenantSpec {
    let usual = TenantSpec::default();
    let mut spec = TenantSpec {
        enabled: flag_or(reader, "enabled", usual.enabled),
        limits: reader.section("limits", limits),
        budgets: reader.list("budgets", budget),
        cache: reader.section("cache", cache),
        hits_when_spent: flag_or(reader, "hits_when_spent", usual.hits_when_spent),
        hits_take_tokens: flag_or(reader, "hits_take_tokens", usual.hits_take_tokens),
        unknown_price: reader
            .has("unknown_price")
            .then(|| reader.choice("unknown_price", UnknownPrice::Allow, &UNKNOWN_PRICE)),
    };
    spec.name_budgets();
    reader.note_wrong(&spec.wrong());
    spec
}

/// The part of `[[tenant.key]]` that the admin API can change, too.
pub(super) fn key(reader: &mut Reader<'_>) -> KeySpec {
    let usual = KeySpec::default();
    let spec = KeySpec {
        enabled: flag_or(reader, "enabled", usual.enabled),
        models: if reader.has("models") { reader.strings("models") } else { usual.models },
        routes: if reader.has("routes") { reader.strings("routes") } else { usual.routes },
        rights: rights(reader),
        limits: reader.section("limits", limits),
    };
    reader.note_wrong(&spec.wrong());
    spec
}

fn limits(reader: &mut Reader<'_>) -> RateLimits {
    let mut limit = |key: &str| reader.has(key).then(|| reader.whole(key, 1, MOST));
    RateLimits { rpm: limit("rpm"), tpm: limit("tpm"), tpd: limit("tpd"), concurrency: limit("concurrency") }
}

fn budget(reader: &mut Reader<'_>) -> Budget {
    let period = reader.checked("period", |text| {
        text.parse::<Period>().map_err(|_| {
            let fix = "write \"day\", \"week\", \"month\", or a duration of 1m to 366d for a rolling window";
            (format!("{} is not a period", quote(text)), fix.to_owned())
        })
    });
    let mut text = |key: &str| reader.has(key).then(|| reader.text(key));
    let (name, key, model, tag) = (text("name"), text("key"), text("model"), text("tag"));
    Budget {
        name: name.unwrap_or_default(),
        period: period.unwrap_or(Period::Month),
        usd: reader.money("usd"),
        hard: flag_or(reader, "hard", true),
        alert_at: if reader.has("alert_at") { reader.numbers("alert_at") } else { Budget::USUAL_ALERTS.to_vec() },
        key,
        model,
        tag,
    }
}

fn cache(reader: &mut Reader<'_>) -> TenantCache {
    TenantCache {
        mode: reader.has("mode").then(|| reader.choice("mode", CacheMode::Off, &MODES)),
        ttl: reader.has("ttl").then(|| ttl(reader)),
        similarity: reader.has("similarity").then(|| similarity(reader)),
        max_error_rate: reader.has("max_error_rate").then(|| max_error_rate(reader)),
        share: reader.has("share").then(|| reader.choice("share", Share::Key, &SHARES)),
    }
}

fn rights(reader: &mut Reader<'_>) -> Vec<Right> {
    let written = if reader.has("rights") { reader.strings("rights") } else { Vec::new() };
    let mut rights = Vec::with_capacity(written.len());
    for text in written {
        match Right::ALL.into_iter().find(|right| right.as_str() == text) {
            Some(right) => rights.push(right),
            None => {
                let source = reader.source_of("rights");
                let names = Right::ALL.map(|right| format!("\"{}\"", right.as_str())).join(" and ");
                let message = format!("{} is not a right", quote(&text));
                reader.note("rights", &source, ProblemKind::BadValue, message, format!("the rights are {names}"));
            }
        }
    }
    rights
}

fn flag_or(reader: &mut Reader<'_>, key: &str, usual: bool) -> bool {
    if reader.has(key) { reader.flag(key) } else { usual }
}
