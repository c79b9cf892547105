//! `remora tenant apply`: many tenants with their keys from one file.
//!
//! The file is read and checked whole before anything is asked of the proxy, and the proxy makes all changes or none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use crate::cli::AdminAt;
use crate::cli::api::ask;
use crate::cli::cache::print_json;
use crate::cli::check::environment;
use crate::cli::secrets::{SecretsFile, of_answer};
use crate::cli::table::{Table, text};
use crate::config::{KeyPlan, TenantPlan, check_report, show_duration};

pub(super) const EXAMPLES: &str = "\
The file has [[tenant]] and [[tenant.key]] as in the configuration, but no secrets of keys: those are made here. A tenant
or key in the file becomes what the file says of it; what is not in the file stays. May be repeated: what is as the file
says is left alone. config/examples/tenants.toml is an example.

Lines begin with + for what is made, ~ for what is changed, = for what stays. Secrets of new keys are printed once at the
end, or written to the file of --secrets, as lines \"tenant/key\" = \"rk-…\", readable only by its owner.

Examples:
  remora tenant apply tenants.toml --dry-run
  remora tenant apply tenants.toml --secrets new-keys.toml";

#[derive(Args)]
pub(in crate::cli) struct Apply {
    /// File with the tenants.
    file: PathBuf,
    /// Change nothing; show what would be changed.
    #[arg(long)]
    dry_run: bool,
    /// File for the secrets of new keys, instead of standard output; what is in it is kept.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Let new tenants and keys take over what others of their names have left; without it that is a reason to refuse.
    #[arg(long)]
    adopt_data: bool,
    #[command(flatten)]
    at: AdminAt,
}

impl Apply {
    pub(in crate::cli) async fn run(self) -> Result<(), String> {
        let Self { file, dry_run, secrets, adopt_data, at } = self;
        let plans = TenantPlan::load(&file, environment()).map_err(|problems| check_report(&problems))?;
        let place = match &secrets {
            Some(path) if !dry_run => Some(SecretsFile::prepare(path)?),
            _ => None,
        };
        let mut body = body(&plans, dry_run);
        if adopt_data {
            put(&mut body, "adopt_data", true);
        }
        let mut told = ask(&at, Method::POST, "/admin/v1/tenants/apply", Some(&body)).await?;
        let made = of_answer(&told);
        let unwritten = place.map(|place| place.write(&made)).transpose();
        let hidden = secrets.is_some() && unwritten.is_ok();
        if at.json {
            if let Some(members) = told.as_object_mut().filter(|_| hidden) {
                members.insert("secrets".to_owned(), json!([]));
            }
            print_json(&told);
        } else {
            print!("{}", changes(&told, dry_run));
            match &secrets {
                _ if made.is_empty() => {}
                Some(path) if hidden => println!("{} secrets of new keys are in {}.", made.len(), path.display()),
                _ => print!("{}", shown_once(&made)),
            }
        }
        unwritten.map(|_| ())
    }
}

/// What the API takes.
fn body(plans: &[TenantPlan], dry_run: bool) -> Value {
    let key = |plan: &KeyPlan| {
        let mut body = json!(plan.spec);
        put(&mut body, "name", plan.name.as_str());
        if let Some(expires_in) = plan.expires_in {
            put(&mut body, "expires_in", show_duration(expires_in));
        }
        body
    };
    let tenant = |plan: &TenantPlan| {
        let mut body = json!(plan.spec);
        // The API leaves alone what is not named, but the file is all that is to be.
        if plan.spec.unknown_price.is_none() {
            put(&mut body, "unknown_price", Value::Null);
        }
        put(&mut body, "name", plan.name.as_str());
        put(&mut body, "keys", plan.keys.iter().map(key).collect::<Value>());
        if let Some(credential) = &plan.upstream_api_key {
            put(&mut body, "upstream_api_key", credential.expose());
        }
        body
    };
    json!({ "tenants": plans.iter().map(tenant).collect::<Value>(), "dry_run": dry_run })
}

fn put(body: &mut Value, member: &str, value: impl Into<Value>) {
    if let Some(members) = body.as_object_mut() {
        members.insert(member.to_owned(), value.into());
    }
}

/// The difference, line by line, and how much of it there is.
fn changes(told: &Value, dry_run: bool) -> String {
    let (mut out, mut made, mut changed, mut same) = (String::new(), 0, 0, 0);
    for change in told.get("changes").and_then(Value::as_array).into_iter().flatten() {
        let (kind, tenant, name) = (text(change, "kind"), text(change, "tenant"), text(change, "name"));
        let what = if kind == "key" { format!("key {tenant}/{name}") } else { format!("tenant {tenant}") };
        let (before, after) = (flat(change.get("before")), flat(change.get("after")));
        let sign = match change.get("action").and_then(Value::as_str) {
            Some("create") => {
                made += 1;
                '+'
            }
            Some("change") => {
                changed += 1;
                '~'
            }
            _ => {
                same += 1;
                '='
            }
        };
        out.push_str(&format!("{sign} {what}\n"));
        if sign == '~' {
            out.push_str(&difference(&before, &after));
        }
    }
    let verdict = match (made + changed, dry_run) {
        (0, _) => "Nothing to change: all is as the file says.".to_owned(),
        (_, true) => {
            format!("{made} to make, {changed} to change, {same} as they are. Nothing was changed (--dry-run).")
        }
        (_, false) => format!("{made} made, {changed} changed, {same} as they were."),
    };
    format!("{out}{verdict}\n")
}

/// Each member that differs, with what it was and what it is.
fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> String {
    let mut differing: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    differing.retain(|name| before.get(*name) != after.get(*name));
    let width = differing.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let said = |side: &BTreeMap<String, String>, name: &str| side.get(name).map_or("–", String::as_str).to_owned();
    let line = |name: &String| format!("    {name:width$}  {} → {}\n", said(before, name), said(after, name));
    differing.into_iter().map(line).collect()
}

/// Members by their path; elements of lists that have names by these, as in `budgets[month].usd`.
fn flat(value: Option<&Value>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if let Some(value) = value.filter(|value| !value.is_null()) {
        flatten(String::new(), value, &mut out);
    }
    out
}

fn flatten(path: String, value: &Value, out: &mut BTreeMap<String, String>) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| flatten(join(name), value, out)),
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            for (number, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Value::as_str).map_or_else(|| number.to_string(), str::to_owned);
                let rest: Map<_, _> = item
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(key, _)| *key != "name")
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                flatten(format!("{path}[{name}]"), &rest.into(), out);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            out.insert(path, text.clone());
        }
        other => {
            out.insert(path, other.to_string());
        }
    }
}

/// The secrets, for whoever is to hand them on.
fn shown_once(made: &[(String, String)]) -> String {
    let mut table = Table::new(&["key", "secret"]);
    for (key, secret) in made {
        table.row(vec![key.clone(), secret.clone()]);
    }
    format!("\n{}Each secret is shown this once: only a hash of it is kept.\n", table.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_names_each_member_with_what_it_was_and_what_it_is() {
        let before = json!({ "limits": { "rpm": 100 }, "enabled": true,
            "budgets": [{ "name": "month", "usd": "500.00", "hard": true }, { "name": "day", "usd": "5.00" }] });
        let after = json!({ "limits": { "rpm": 200, "tpm": 9 }, "enabled": true,
            "budgets": [{ "name": "month", "usd": "600.00", "hard": true }] });
        let told = json!({ "changes": [
            { "kind": "tenant", "tenant": "acme", "name": "acme", "action": "change", "before": before, "after": after },
            { "kind": "key", "tenant": "acme", "name": "app", "action": "create", "before": null, "after": {} },
            { "kind": "tenant", "tenant": "globex", "name": "globex", "action": "unchanged", "before": {}, "after": {} },
        ] });
        let expected = "~ tenant acme\n    \
                        budgets[day].usd    5.00 → –\n    \
                        budgets[month].usd  500.00 → 600.00\n    \
                        limits.rpm          100 → 200\n    \
                        limits.tpm          – → 9\n\
                        + key acme/app\n= tenant globex\n";
        let done = changes(&told, false);
        assert_eq!(done, format!("{expected}1 made, 1 changed, 1 as they were.\n"));
        assert!(changes(&told, true).ends_with("Nothing was changed (--dry-run).\n"));
        let none = json!({ "changes": [{ "kind": "tenant", "tenant": "a", "action": "unchanged" }] });
        assert_eq!(changes(&none, false), "= tenant a\nNothing to change: all is as the file says.\n");
    }
}
