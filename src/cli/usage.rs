//! `remora usage`: who used and paid what.

use std::io::Write;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::AdminAt;
use super::api::{ask, download};
use super::cache::{print_json, query};
use super::table::{Table, none, share, text, usd};

/// At the end of `--help`.
pub(super) const EXAMPLES: &str = "\
Groups: tenant, key, user, model, route, tag, and tag:NAME for the values of one tag. Users, tags and routes are summed apart
from each other, so a question names one of them at most; users and tags are summed by day. Times: 2026-11-01 (UTC), 2026-11,
2026-11-01T10:00:00Z, 7d or -24h for so long ago. Without --from it is this month. `--to` is not in the time itself.
Amounts are rounded to a millionth of a dollar in the table, and exact with --json and --csv.

Examples:
  remora usage
  remora usage --by tenant,model --from 7d
  remora usage --by tag:team --tenant acme --from 2026-10 --to 2026-11
  remora usage --by key --tenant acme --slot day --csv > november.csv";

#[derive(Args)]
pub(super) struct Usage {
    /// Groups, with commas between; \"\" for the sum alone.
    #[arg(long, value_name = "GROUPS", default_value = "tenant")]
    by: String,
    /// A row for each hour or day.
    #[arg(long, value_name = "hour|day")]
    slot: Option<String>,
    /// From this time on.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only this key, as in acme/app; the tenant may be left out where --tenant says it.
    #[arg(long)]
    key: Option<String>,
    /// Only this end user.
    #[arg(long)]
    user: Option<String>,
    /// Only this model, as the caller asked for it.
    #[arg(long)]
    model: Option<String>,
    /// Only requests with this tag.
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Option<String>,
    /// Only this route, as in "POST /v1/chat/completions".
    #[arg(long)]
    route: Option<String>,
    /// Most groups; the dearest are kept, each with all of its slots.
    #[arg(long, value_name = "GROUPS")]
    limit: Option<u32>,
    /// Print CSV instead of a table.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    at: AdminAt,
}

impl Usage {
    pub(super) async fn run(self) -> Result<(), String> {
        let Self { by, slot, from, to, tenant, key, user, model, tag, route, limit, csv, at } = self;
        let query = query(&[
            ("group_by", Some(by)),
            ("slot", slot),
            ("from", from),
            ("to", to),
            ("tenant", tenant),
            ("key", key),
            ("user", user),
            ("model", model),
            ("tag", tag),
            ("route", route),
            ("limit", limit.map(|limit| limit.to_string())),
            ("format", Some(if csv { "csv" } else { "json" }.to_owned())),
        ]);
        let path = format!("/admin/v1/usage{query}");
        if csv {
            let bytes = download(&at, &path).await?;
            return std::io::stdout()
                .write_all(&bytes)
                .map_err(|error| format!("the report cannot be written: {error}"));
        }
        let told = ask(&at, Method::GET, &path, None).await?;
        if at.json {
            print_json(&told);
        } else {
            print!("{}", report(&told));
        }
        Ok(())
    }
}

fn report(told: &Value) -> String {
    let list = |name: &str| told.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (rows, columns) = (list("rows"), list("group_by"));
    let mut groups: Vec<String> = columns.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if rows.first().is_some_and(|row| row.get("slot").is_some()) {
        groups.insert(0, "slot".to_owned());
    }
    let numbers =
        ["requests", "hits", "hit %", "tokens", "spend usd", "saved gross", "saved net", "unpriced"].map(str::to_owned);
    let mut table = Table::with_numbers(groups.iter().cloned().chain(numbers).collect(), groups.len());
    for row in &rows {
        table.row(groups.iter().map(|name| text(row, name)).chain(cells(row)).collect());
    }
    let total = told.get("total").cloned().unwrap_or_default();
    // With one group or none, the total is the row itself.
    if !groups.is_empty() {
        let mut names = vec!["total".to_owned()];
        names.resize(groups.len(), String::new());
        table.row(names.into_iter().chain(cells(&total)).collect());
    }
    let mut shown = format!("{} to {}\n\n{}", text(told, "from"), text(told, "to"), table.text());
    if told.get("cut") == Some(&Value::Bool(true)) {
        shown
            .push_str("\nThere are more groups: these are the dearest, and the total is over all of them (--limit).\n");
    }
    shown
}

fn cells(row: &Value) -> [String; 8] {
    let count = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
    let hits = row.get("hits");
    let hits = count(hits.and_then(|hits| hits.get("exact"))) + count(hits.and_then(|hits| hits.get("semantic")));
    let requests = count(row.get("requests"));
    let tokens = row.get("tokens").and_then(Value::as_object);
    let tokens: u64 = tokens.into_iter().flat_map(|kinds| kinds.values()).filter_map(Value::as_u64).sum();
    [
        requests.to_string(),
        hits.to_string(),
        share(hits, requests).unwrap_or_else(none),
        tokens.to_string(),
        usd(row, "spend"),
        usd(row, "saved_gross"),
        usd(row, "saved_net"),
        count(row.get("unpriced")).to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_has_its_groups_on_the_left_its_numbers_on_the_right_and_a_total() {
        let sums = |tenant: &str, requests: u64, nano: i64| {
            json!({ "tenant": tenant, "tag:team": null, "requests": requests, "hits": { "exact": 1, "semantic": 2 },
                "tokens": { "input": 10, "output": 5 }, "unpriced": 0, "spend_nano_usd": nano,
                "saved_gross_nano_usd": 1_500, "saved_net_nano_usd": -1_500_000 })
        };
        let told = json!({ "from": "2026-11-01T00:00:00Z", "to": "2026-11-27T00:00:00Z", "group_by": ["tenant", "tag:team"],
            "rows": [sums("acme", 12, 12_345_678_900_i64), sums("a\u{1b}[2J", 6, 7)], "total": sums("", 18, 12_345_678_907_i64),
            "cut": true });
        let shown = report(&told);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "2026-11-01T00:00:00Z to 2026-11-27T00:00:00Z");
        assert_eq!(
            lines[2],
            "tenant  tag:team  requests  hits  hit %  tokens  spend usd  saved gross  saved net  unpriced"
        );
        assert_eq!(
            lines[3],
            "acme    –               12     3   25.0      15  12.345679     0.000002  -0.001500         0"
        );
        assert_eq!(
            lines[4],
            "a [2J   –                6     3   50.0      15   0.000000     0.000002  -0.001500         0"
        );
        assert!(lines[5].starts_with("total                   18     3   16.7"), "{shown}");
        assert!(lines[7].contains("--limit"), "{shown}");
    }
}
