//! Tenants and keys as people read them.

use serde_json::Value;

use crate::cli::table::{Table, members, none, text, time};
use crate::cli::terms::{percents, target};
use crate::config::Budget;

/// All tenants, a line each.
pub(super) fn tenants(tenants: &[Value]) -> String {
    let mut table = Table::new(&["name", "state", "keys", "upstream key", "limits", "budgets", "from"]);
    for tenant in tenants {
        let spec = tenant.get("spec").unwrap_or(&Value::Null);
        let budgets = budgets(spec).iter().map(|b| format!("{}={}", b.name, b.usd)).collect::<Vec<_>>().join(" ");
        table.row(vec![
            text(tenant, "name"),
            state(spec).to_owned(),
            text(tenant, "keys"),
            upstream_key(tenant).to_owned(),
            limits(spec),
            if budgets.is_empty() { none() } else { budgets },
            origin(tenant).to_owned(),
        ]);
    }
    if table.is_empty() { "There are no tenants; `remora tenant create` makes one.\n".to_owned() } else { table.text() }
}

/// One tenant; with its keys, if any are given.
pub(super) fn tenant(tenant: &Value, its_keys: &[Value]) -> String {
    let spec = tenant.get("spec").unwrap_or(&Value::Null);
    let said = |member: &str| spec.get(member).and_then(Value::as_bool).unwrap_or(false);
    let spent = if said("hits_when_spent") {
        "served when a hard budget is spent"
    } else {
        "refused when a hard budget is spent"
    };
    let tokens = if said("hits_take_tokens") { "their tokens count" } else { "their tokens do not count" };
    let mut out = members(&[
        ("name", text(tenant, "name")),
        ("state", state(spec).to_owned()),
        ("from", origin(tenant).to_owned()),
        ("upstream key", upstream_key(tenant).to_owned()),
        ("limits", limits(spec)),
        ("cache", cache(spec)),
        ("hits", format!("{spent}; {tokens}")),
        (
            "unknown price",
            if text(spec, "unknown_price") == none() {
                "as in [prices]".to_owned()
            } else {
                text(spec, "unknown_price")
            },
        ),
        ("created", time(tenant.get("created_at"))),
        ("changed", time(tenant.get("updated_at"))),
    ]);
    let mut table = Table::new(&["budget", "period", "usd", "for", "when spent", "alerts at %"]);
    for budget in &budgets(spec) {
        let when = if budget.hard { "refuses" } else { "warns" };
        let cells = [
            &*budget.name,
            &budget.period.to_string(),
            &budget.usd.to_string(),
            &target(budget),
            when,
            &percents(&budget.alert_at),
        ];
        table.row(cells.map(str::to_owned).to_vec());
    }
    if !table.is_empty() {
        out.push('\n');
        out.push_str(&table.text());
    }
    if !its_keys.is_empty() {
        out.push('\n');
        out.push_str(&keys(its_keys));
    }
    out
}

/// Keys, a line each.
pub(in crate::cli) fn keys(keys: &[Value]) -> String {
    let mut table = Table::new(&["key", "id", "state", "models", "limits", "rights", "expires", "last used", "from"]);
    for key in keys {
        let spec = key.get("spec").unwrap_or(&Value::Null);
        table.row(vec![
            key_name(key),
            text(key, "id"),
            key_state(key, spec),
            text(spec, "models"),
            limits(spec),
            text(spec, "rights"),
            time(key.get("expires_at")),
            time(key.get("used_at")),
            origin(key).to_owned(),
        ]);
    }
    table.text()
}

/// One key.
pub(in crate::cli) fn key(key: &Value) -> String {
    let spec = key.get("spec").unwrap_or(&Value::Null);
    members(&[
        ("key", key_name(key)),
        ("id", text(key, "id")),
        ("state", key_state(key, spec)),
        ("from", origin(key).to_owned()),
        ("models", text(spec, "models")),
        ("routes", text(spec, "routes")),
        ("rights", text(spec, "rights")),
        ("limits", limits(spec)),
        ("expires", time(key.get("expires_at"))),
        ("created", time(key.get("created_at"))),
        ("changed", time(key.get("updated_at"))),
        ("last used", time(key.get("used_at"))),
    ])
}

fn key_name(key: &Value) -> String {
    format!("{}/{}", text(key, "tenant"), text(key, "name"))
}

/// A key that was replaced is good for the rest of the overlap.
fn key_state(key: &Value, spec: &Value) -> String {
    match key.get("replaced_by").and_then(Value::as_str) {
        Some(by) => format!("replaced by {by}"),
        None => state(spec).to_owned(),
    }
}

fn state(spec: &Value) -> &'static str {
    if spec.get("enabled") == Some(&Value::Bool(false)) { "disabled" } else { "enabled" }
}

fn origin(value: &Value) -> &'static str {
    if value.get("declared") == Some(&Value::Bool(true)) { "config file" } else { "admin API" }
}

fn upstream_key(tenant: &Value) -> &'static str {
    if tenant.get("has_upstream_key") == Some(&Value::Bool(true)) { "own" } else { "shared" }
}

fn limits(spec: &Value) -> String {
    pairs(spec.get("limits"), &["rpm", "tpm", "tpd", "concurrency"])
}

fn cache(spec: &Value) -> String {
    pairs(spec.get("cache"), &["mode", "ttl", "similarity", "max_error_rate", "share"])
}

fn pairs(section: Option<&Value>, names: &[&str]) -> String {
    let Some(section) = section else { return none() };
    let given = names.iter().filter(|name| section.get(**name).is_some_and(|value| !value.is_null()));
    let pairs: Vec<_> = given.map(|name| format!("{name}={}", text(section, name))).collect();
    if pairs.is_empty() { none() } else { pairs.join(" ") }
}

/// What cannot be read is left out: it is for looking at.
fn budgets(spec: &Value) -> Vec<Budget> {
    let all = spec.get("budgets").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|budget| serde_json::from_value(budget.clone()).ok()).collect()
}
